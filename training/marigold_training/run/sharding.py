# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Weights, gradients and moments divided among processes, and gathered again for files.

This is torch's FSDP2 (Zhao et al., arXiv 2304.11277) without accelerate, which supports it on GPUs
only. Files hold whole weights: a run may resume with another number of processes, or undivided.
Only what divides imports it, which takes a quarter of the start of a run.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_training.objectives.trained_networks import TrainedNetworks
from torch import nn


def shard(chain: TrainedNetworks, accelerator: Accelerator) -> None:
    """
    Divide the weights of networks among all processes, in place and on their device.

    Each holds an equal part; a block of the U-Net is gathered only while it runs. Raises
    ConfigurationError for a single process, and for float16, which needs whole gradients.
    """
    if accelerator.num_processes == 1:
        raise ConfigurationError(
            'shard divides weights among processes, and there is one; start several '
            '(torchrun --nproc_per_node N, accelerate launch), or leave it out'
        )
    if accelerator.mixed_precision == 'fp16':
        raise ConfigurationError('shard does not go with fp16; choose --precision bf16 or no')
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    unet = chain.to(accelerator.device).unet
    for module in (*unet.down_blocks, unet.mid_block, *unet.up_blocks, chain):
        fully_shard(module, mesh=mesh)


def divided(chain: nn.Module) -> bool:
    """Return whether the weights are divided among processes."""
    return hasattr(chain, 'unshard')  # of FSDPModule, which a divided one becomes


@contextmanager
def gathered(chain: nn.Module) -> Iterator[None]:
    """Gather the weights for use outside of a step; all processes must enter."""
    if not divided(chain):
        yield
        return
    sharded: Any = chain
    sharded.unshard()
    try:
        yield
    finally:
        sharded.reshard()


def whole(value: Any) -> Any:
    """
    Gather divided tensors of a tree of mappings and lists in main memory; all processes must call.
    """
    if _is_part(value):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {name: whole(item) for name, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def divide(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Divide whole tensors like those of the same name; others stay."""
    return {name: _divide(value, like.get(name)) for name, value in values.items()}


def divide_moments(state: dict[str, Any], weights: list[Any]) -> dict[str, Any]:
    """Divide an optimiser's state like its weights, except the step counts."""
    moments = {
        number: {
            name: value if name == 'step' else _divide(value, weights[number])
            for name, value in entry.items()
        }
        for number, entry in state['state'].items()
    }
    return {**state, 'state': moments}


def _is_part(value: Any) -> bool:
    """Return whether a tensor is divided, a DTensor."""
    return hasattr(value, 'full_tensor')


def _divide(value: Any, like: Any) -> Any:
    if not _is_part(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
