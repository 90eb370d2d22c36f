# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Device, precision and processes of a training run."""

from datetime import timedelta
import hashlib
import importlib.util
import os
from pathlib import Path
import sys
from typing import Any, NoReturn, TypeVar

from accelerate import Accelerator, PartialState
from accelerate.utils import (
    AutocastKwargs,
    broadcast_object_list,
    DistributedType,
    InitProcessGroupKwargs,
    reduce,
)
from marigold_ros.errors import ConfigurationError
import torch

Value = TypeVar('Value')
# The first process renders, scores and exports for hours while the others wait; torch's own limit
# is 10 minutes on GPUs and 30 on CPUs. A process that fails ends all of them at once (torchrun).
PATIENCE = timedelta(days=14)
DIVIDING = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def new_accelerator(
    precision: str = 'bf16', cpu: bool = False, wandb: bool = False
) -> Accelerator:
    """
    Create the accelerator of a run.

    Autocast caches no half-precision copies of the weights: each weight is used once in a pass, so
    they would save no work and, under gradient checkpointing, set the peak of memory. ``cpu``
    ignores GPUs; ``wandb`` logs to Weights & Biases, see :func:`start_wandb`. Raises
    ConfigurationError if wandb is missing, or if accelerate is configured to divide weights
    itself: files would be incomplete.
    """
    if wandb and importlib.util.find_spec('wandb') is None:
        raise ConfigurationError(
            'wandb is not installed; pip install wandb, or leave --wandb out: log.jsonl and '
            'TensorBoard have the same figures'
        )
    handlers = [AutocastKwargs(cache_enabled=False), InitProcessGroupKwargs(timeout=PATIENCE)]
    more: dict[str, Any] = {'log_with': 'wandb'} if wandb else {}
    accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=handlers, **more)
    if accelerator.distributed_type in DIVIDING:
        raise ConfigurationError(
            f'accelerate is set to {accelerator.distributed_type.value}; configure it for plain '
            'processes (accelerate config), and give --shard to divide the weights'
        )
    return accelerator


def start_wandb(accelerator: Accelerator, project: str, folder: Path, recipe: Any) -> None:
    """Open the run of a folder in a project of Weights & Biases, or continue it."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    given = {'name': folder.name, 'dir': str(folder), 'id': name, 'resume': 'allow'}
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers(project, {'recipe': recipe}, {'wandb': given})


def end(accelerator: Accelerator) -> None:
    """
    Close trackers and process group once all processes are here; all must call.

    Threads of Gloo take the interpreter's lock to drop what they have exchanged. A process that
    leaves right after an exchange is now and then aborted in it; here they have their time.
    """
    accelerator.wait_for_everyone()
    accelerator.end_training()


def leave(code: int) -> NoReturn:
    """
    End the process; one of several without Python's own end.

    Threads of Gloo outlive the process group of a wrapped network. One that still drops what it
    exchanged while Python ends aborts the process.
    """
    if int(os.environ.get('WORLD_SIZE', '1')) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def in_any(wanted: bool) -> bool:
    """Return whether a fact holds in any process, so that all do the same; all must call."""
    flag = torch.tensor([float(wanted)], device=PartialState().device)
    return bool(reduce(flag, 'sum').item())


def of_first(value: Value) -> Value:
    """Return the value of the first process in all of them; all must call."""
    found: Value = broadcast_object_list([value])[0]
    return found
