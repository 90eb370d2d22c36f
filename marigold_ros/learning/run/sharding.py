# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Weights, gradients and moments divided among processes, and whole again for a file.

It is torch's own FSDP2 (Zhao et al., arXiv 2304.11277), not that of accelerate, which knows it on
GPUs only: so it runs, and is tested, on CPUs as well. Files hold whole weights: a run may go on
with another number of processes, or undivided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.objectives.chain import Chain
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import distribute_tensor, DTensor


def shard(chain: Chain, accelerator: Accelerator) -> None:
    """
    Divide the weights of networks among all processes, in place and on their device.

    Each holds an equal part and gathers a block of the U-Net only while it runs.

    Raises
    ------
    ConfigurationError
        If there is one process, or float16, whose scaling of the loss knows whole gradients only.

    """
    if accelerator.num_processes == 1:
        raise ConfigurationError(
            'shard divides weights among processes, and there is one; start several '
            '(torchrun --nproc_per_node N, accelerate launch), or leave it out'
        )
    if accelerator.mixed_precision == 'fp16':
        raise ConfigurationError('shard does not go with fp16; choose --precision bf16 or no')
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    unet = chain.to(accelerator.device).unet
    blocks = [] if unet is None else [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    for module in (*blocks, chain):
        fully_shard(module, mesh=mesh)


def divided(chain: Chain) -> bool:
    """Whether its weights are divided."""
    return isinstance(chain, FSDPModule)


@contextmanager
def gathered(chain: Chain) -> Iterator[None]:
    """Have the autoencoder's weights whole, for use other than in a step; all processes enter."""
    if not isinstance(chain, FSDPModule):
        yield
        return
    chain.unshard()
    try:
        yield
    finally:
        chain.reshard()


def whole(value: Any) -> Any:
    """
    Gather what is divided in a tree of mappings and lists, in main memory; the rest is as it was.

    All processes call it.
    """
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {name: whole(item) for name, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def divide(values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Divide whole tensors as those of the same name are; the rest is as it was."""
    return {name: _divide(value, like.get(name)) for name, value in values.items()}


def divide_moments(state: dict[str, Any], weights: list[Any]) -> dict[str, Any]:
    """Divide an optimiser's state as its weights are: each entry but the count of steps."""
    moments = {
        number: {
            name: value if name == 'step' else _divide(value, weights[number])
            for name, value in entry.items()
        }
        for number, entry in state['state'].items()
    }
    return {**state, 'state': moments}


def _divide(value: Any, like: Any) -> Any:
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
