# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Load a plain U-Net and run it: resize, one pass, resize back."""

from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.models.facts import CONFIG
from marigold_ros.models.locate import read_json
from marigold_ros.models.maps.network_map_model import NetworkMapModel
from marigold_ros.models.unet.folder import deciding_files, read_facts, SIDE
from marigold_ros.models.unet.network import are_sizes, DepthUNet, GROUPS
from marigold_ros.models.weights import load_built


def load(folder: Path, *settings: Any) -> 'UNetModel':
    """Load a checkpoint's folder; ``settings`` are device, dtype and runtime of the model."""
    return UNetModel(folder, read_facts(folder), load_network(folder), *settings)


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


class UNetModel(NetworkMapModel):
    """A plain U-Net on its device, ready to predict; parameters and errors as of the base."""

    family, kind = 'unet', 'plain U-Net'
    side = SIDE

    def _deciding_files(self) -> list[Path]:
        return deciding_files(self.folder)
