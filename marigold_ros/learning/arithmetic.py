# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Device and arithmetic of a training run."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import AutocastKwargs


def new_accelerator(precision: str = 'bf16', cpu: bool = False) -> Accelerator:
    """
    Make the accelerator of a run.

    Autocast keeps no copies of the weights in half precision. Each weight is used once in a pass,
    so that they save no work; under gradient checkpointing they would be the peak of memory.

    Parameters
    ----------
    precision : {'no', 'bf16', 'fp16'}
    cpu : bool
        Whether to leave a GPU alone.

    """
    keep_no_copies = AutocastKwargs(cache_enabled=False)
    return Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[keep_no_copies])
