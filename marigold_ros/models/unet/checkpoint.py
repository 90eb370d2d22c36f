# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Load the network of a plain U-Net's folder."""

from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.models.facts import CONFIG
from marigold_ros.models.locate import read_json
from marigold_ros.models.unet.network import DepthUNet, GROUPS
from marigold_ros.models.weights import load_built


def load_network(folder: Path) -> DepthUNet:
    """Load the network of a folder in float32; raises CheckpointError if a file is damaged."""
    config = read_json(folder / CONFIG)
    sizes: list[Any] = [config.get('channels'), config.get('blocks')]
    if not are_sizes(*sizes):
        raise CheckpointError(
            f'{folder / CONFIG} has channels {sizes[0]} and blocks {sizes[1]}; give lists, of '
            f'multiples of {GROUPS} and of one number less: restore the file'
        )
    return load_built(folder, lambda: DepthUNet(*sizes))


def are_sizes(channels: Any, blocks: Any) -> bool:
    """Return whether a U-Net of these channels and blocks can be built."""
    if not all(isinstance(value, (list, tuple)) for value in (channels, blocks)):
        return False
    if not all(type(number) is int for number in (*channels, *blocks)):
        return False
    wide = all(number > 0 and number % GROUPS == 0 for number in channels)
    return wide and min(blocks, default=-1) >= 0 and len(channels) == len(blocks) + 1
