# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Read the folder of a fusion network: ``config.json`` and ``model.safetensors``."""

from pathlib import Path
from typing import Any

from marigold_ros.errors import CheckpointError
from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
from marigold_ros.models.facts import CONFIG
from marigold_ros.models.fusion.network import FusionNetwork
from marigold_ros.models.locate import read_json
from marigold_ros.models.weights import load_built

KIND, VERSION = 'fusion', 2
# Sizes of each level, as `FusionNetwork` takes them.
SIZES = ('channels', 'blocks', 'inner')


def load_fusion_network(folder: Path) -> FusionNetwork:
    """
    Load the fusion network of a folder in float32, for inference.

    Raises CheckpointError if a file is missing or damaged, or belongs to a network of other
    channels or candidates.
    """
    config = read_json(folder / CONFIG)
    return load_built(folder, lambda: _new_network(folder, config))


def _new_network(folder: Path, config: dict[str, Any]) -> FusionNetwork:
    """Build the network of a configuration, which must be of this version."""
    for key, needed in (('kind', KIND), ('version', VERSION)):
        if config.get(key) != needed:
            raise CheckpointError(
                f'{folder / CONFIG} has {key} {config.get(key)!r}, needs {needed!r}; give the '
                'folder of a fusion network of this version, or train or adapt it again'
            )
    for key, wanted in (('inputs', CHANNELS), ('candidates', CANDIDATES)):
        if config.get(key) != list(wanted):
            raise CheckpointError(
                f'{folder / CONFIG} has other {key} than this version computes '
                f'({", ".join(wanted)}); train the network again or use the embedded one'
            )
    sizes: dict[str, Any] = {key: config.get(key) for key in SIZES}
    lists = all(isinstance(size, list) and size for size in sizes.values())
    numbers = lists and all(type(x) is int and x > 0 for size in sizes.values() for x in size)
    if not numbers or len({len(size) for size in sizes.values()}) > 1:
        shown = ', '.join(f'{key} {size}' for key, size in sizes.items())
        raise CheckpointError(
            f'{folder / CONFIG} has {shown}; these must be lists of as many positive numbers: '
            'restore the file'
        )
    return FusionNetwork(**sizes)
