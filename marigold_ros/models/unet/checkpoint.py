# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The folder of a plain U-Net: ``config.json``, ``model.safetensors`` and ``marigold_ros.json``.

``config.json`` has ``model_type`` and the arguments of the network, ``marigold_ros.json`` the
space of its predictions and ``default_processing_pixels``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.models.facts import CONFIG, map_facts, MapFacts, read_own, WEIGHTS
from marigold_ros.models.locate import read_json
from marigold_ros.models.unet.network import DepthUNet, GROUPS
from marigold_ros.models.weights import build_within, load_weights

MODEL_TYPE = 'marigold_ros_unet'
PIXELS = 27648  # 144x192, where a checkpoint says nothing


def read_facts(folder: Path) -> MapFacts:
    """Read ``marigold_ros.json``; raises CheckpointError if a value is wrong."""
    return facts_of(*read_own(folder))


def facts_of(own: Mapping[str, Any], where: str) -> MapFacts:
    """Check the content of ``marigold_ros.json``; raises CheckpointError."""
    return map_facts(own, where, PIXELS)


def load_network(folder: Path) -> DepthUNet:
    """Load the network of a folder in float32; raises CheckpointError if a file is damaged."""
    config = read_json(folder / CONFIG)
    sizes: list[Any] = [config.get('channels'), config.get('blocks')]
    if not are_sizes(*sizes):
        raise CheckpointError(
            f'{folder / CONFIG} has channels {sizes[0]} and blocks {sizes[1]}; give lists, of '
            f'multiples of {GROUPS} and of one number less: restore the file'
        )
    # On the meta device no random weights are drawn.
    network = build_within([folder / WEIGHTS], lambda: DepthUNet(*sizes))
    load_weights(network, folder / WEIGHTS)
    return network.eval().requires_grad_(False)


def are_sizes(channels: Any, blocks: Any) -> bool:
    """Return whether a U-Net of these channels and blocks can be built."""
    if not all(isinstance(value, (list, tuple)) for value in (channels, blocks)):
        return False
    if not all(type(number) is int for number in (*channels, *blocks)):
        return False
    wide = all(number > 0 and number % GROUPS == 0 for number in channels)
    return wide and min(blocks, default=-1) >= 0 and len(channels) == len(blocks) + 1
