# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Device, precision and processes of a training run."""

from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, DistributedType
from marigold_ros.errors import ConfigurationError

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
