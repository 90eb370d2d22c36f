# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Low-rank adapters (Hu et al., LoRA, ICLR 2022) in the attention of a large U-Net, through peft.

In training a layer is ``base + B A`` with few weights in A and B; what is exported and what runs
is the sum, in the layout of the base.
"""

from collections.abc import Mapping
from typing import Any

from marigold_ros.errors import ConfigurationError
import torch
from torch import nn

LAYERS = ('to_q', 'to_k', 'to_v', 'to_out.0')  # of diffusers' attention
OWN = '.lora_'
DOWN, UP = '.lora_A.default.weight', '.lora_B.default.weight'  # A and B
_BASE = '.base_layer.'


def check_peft() -> None:
    """Raise ConfigurationError if peft is missing."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            'large checkpoints are trained with low-rank adapters, which need peft; install it: '
            'pip install peft'
        ) from error


def add_adapters(network: nn.Module, rank: int, seed: int) -> None:
    """
    Put adapters of a rank into a network's attention, in place; its output stays the same.

    Raises ConfigurationError if the rank is not positive or peft is missing.
    """
    if type(rank) is not int or rank < 1:
        raise ConfigurationError(f'adapters is {rank!r}; give a rank from 1 on, as 16')
    check_peft()
    from peft import inject_adapter_in_model, LoraConfig

    # With alpha equal to the rank, the scale of B A is 1.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LAYERS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network)


def has_adapters(network: nn.Module) -> bool:
    """Return whether a network has adapters."""
    return any(OWN in name for name, _ in network.named_parameters())


def merged(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a network without adapters, each adapter added to its layer."""
    found: dict[str, Any] = {}
    for name, value in weights.items():
        if OWN in name:
            continue
        if _BASE not in name:
            found[name] = value
            continue
        layer, part = name.split(_BASE)
        if part == 'weight':
            down, up = weights[f'{layer}{DOWN}'], weights[f'{layer}{UP}']
            value = (value.float() + up.float() @ down.float()).to(value.dtype)
        found[f'{layer}.{part}'] = value
    return found
