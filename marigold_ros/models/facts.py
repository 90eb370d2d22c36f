# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What ``marigold_ros.json`` says of a checkpoint of our own layout; the names of its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.models.locate import read_json
from marigold_ros.spaces import RELATIVE_SPACES

CONFIG, WEIGHTS, OWN = 'config.json', 'model.safetensors', 'marigold_ros.json'


@dataclass(frozen=True)
class MapFacts:
    """Space of the predictions, and pixels of an image at the network."""

    space: str
    pixels: int


def read_own(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the content of ``marigold_ros.json``, and its path for errors (CheckpointError)."""
    return read_json(folder / OWN), str(folder / OWN)


def map_facts(own: Mapping[str, Any], where: str, pixels: int) -> MapFacts:
    """
    Check the content of ``marigold_ros.json``, named ``where`` in errors (CheckpointError).

    ``pixels`` are those of a checkpoint that says nothing.
    """
    space = own.get('space')
    if space not in RELATIVE_SPACES:
        raise CheckpointError(
            f"{where} has space '{space}'; choose one of {', '.join(RELATIVE_SPACES)}"
        )
    return MapFacts(space, processing_pixels(own, where, pixels))


def processing_pixels(own: Mapping[str, Any], where: str, pixels: int) -> int:
    """Check ``default_processing_pixels``; arguments as in :func:`map_facts`."""
    found = own.get('default_processing_pixels', pixels)
    if type(found) is not int or found < 64:
        raise CheckpointError(
            f'{where} has default_processing_pixels {found!r}; give a whole number from 64 on'
        )
    return found
