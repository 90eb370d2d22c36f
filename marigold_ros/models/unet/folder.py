# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The folder of a plain U-Net: ``config.json``, ``model.safetensors`` and ``marigold_ros.json``.

``config.json`` has ``model_type`` and the arguments of the network, ``marigold_ros.json`` the
space of its predictions and ``default_processing_pixels``. Imports no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marigold_ros.models.facts import CONFIG, map_facts, MapFacts, read_own, WEIGHTS

MODEL_TYPE = 'marigold_ros_unet'
PIXELS = 27648  # 144x192, where a checkpoint says nothing
SIDE = 2  # pixels of a block at the network: sides of an image are multiples


def read_facts(folder: Path) -> MapFacts:
    """Read ``marigold_ros.json``; raises CheckpointError if a value is wrong."""
    return facts_of(*read_own(folder))


def facts_of(own: Mapping[str, Any], where: str) -> MapFacts:
    """Check the content of ``marigold_ros.json``; raises CheckpointError."""
    return map_facts(own, where, PIXELS)


def deciding_files(folder: Path) -> list[Path]:
    """Return whatever decides the compiled network of a folder."""
    return [folder / CONFIG, folder / WEIGHTS, Path(__file__).with_name('network.py')]
