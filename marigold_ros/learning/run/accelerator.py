# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Device, precision and processes of a training run."""

from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import (
    AutocastKwargs,
    broadcast_object_list,
    DistributedType,
    gather_object,
)
from marigold_ros.errors import ConfigurationError

Value = TypeVar('Value')
DIVIDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def new_accelerator(precision: str = 'bf16', cpu: bool = False) -> Accelerator:
    """
    Create the accelerator of a run.

    Autocast caches no half-precision copies of the weights: each weight is used once in a pass, so
    they would save no work and, under gradient checkpointing, set the peak of memory. ``cpu``
    ignores GPUs. Raises ConfigurationError if accelerate is configured to divide weights itself:
    files would be incomplete.
    """
    no_cache = AutocastKwargs(cache_enabled=False)
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[no_cache])
    if accelerator.distributed_type in DIVIDING:
        raise ConfigurationError(
            f'accelerate is set to {accelerator.distributed_type.value}; configure it for plain '
            'processes (accelerate config), and give --shard to divide the weights'
        )
    return accelerator


def in_any(wanted: bool) -> bool:
    """Return whether a fact holds in any process, so that all do the same; all must call."""
    return any(gather_object([wanted]))


def of_first(value: Value) -> Value:
    """Return the value of the first process in all of them; all must call."""
    found: Value = broadcast_object_list([value])[0]
    return found
