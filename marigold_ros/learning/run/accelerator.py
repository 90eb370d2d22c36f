# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Device and arithmetic of a training run."""

from __future__ import annotations

from collections.abc import Mapping

from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, DistributedType
from marigold_ros.errors import ConfigurationError

DIVIDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


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

    Raises
    ------
    ConfigurationError
        If accelerate is configured to divide weights itself: files would hold parts of them.

    """
    keep_no_copies = AutocastKwargs(cache_enabled=False)
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[keep_no_copies])
    if accelerator.distributed_type in DIVIDING:
        raise ConfigurationError(
            f'accelerate is set to {accelerator.distributed_type.value}; configure it for plain '
            'processes (accelerate config), and give --shard to divide the weights'
        )
    return accelerator


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
