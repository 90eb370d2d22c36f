# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Device and arithmetic of a training run."""

from __future__ import annotations

from collections.abc import Mapping

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


def missing_processes(processes: int, environment: Mapping[str, str]) -> str:
    """
    Say so where ``accelerate launch`` was asked for several processes and started one.

    On CPUs it leaves starting them to MPI, and without says nothing (accelerate 1.15). What it
    leaves behind is the address at which they were to meet.

    Parameters
    ----------
    processes : int
        That there are.
    environment : mapping
        Of this one.

    Returns
    -------
    str
        Empty where all is well.

    """
    meant = environment.get('ACCELERATE_USE_CPU') == 'True' and 'MASTER_PORT' in environment
    if processes > 1 or not meant or 'WORLD_SIZE' in environment:
        return ''
    return (
        'this is one process, not several: on CPUs accelerate launch needs MPI to start more; '
        'torchrun --nproc_per_node 2 does without. The weights will be the same, but later'
    )
