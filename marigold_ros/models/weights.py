# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The weights of networks of our own: loaded, counted."""

from pathlib import Path

from marigold_ros.errors import CheckpointError
from marigold_ros.models.locate import require_file
from safetensors import SafetensorError
from safetensors.torch import load_file
import torch
from torch import nn


def count_parameters(*networks: nn.Module) -> int:
    """Return the number of weights of several networks."""
    return sum(p.numel() for network in networks for p in network.parameters())


def load_weights(network: nn.Module, path: Path) -> None:
    """
    Load a file's weights into a network in place, in float32; they take the place of its own.

    Raises CheckpointError if the file is missing or damaged, belongs to a network of another
    shape, or has a weight that is not finite.
    """
    require_file(path.parent, path.name)
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        network.load_state_dict(weights, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f'{path} cannot be loaded ({" ".join(str(error).split())[:200]}); it is damaged or '
            'does not belong to config.json: restore both files'
        ) from error
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f'{path}: weight {name} is not finite; restore the file')
