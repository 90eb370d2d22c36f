# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Where training images come from; a recipe names a kind, and each kind is a module here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.learning.data.pairs import Source
from marigold_ros.learning.data.sources.bag import BagPairs
from marigold_ros.learning.data.sources.folder import FolderPairs
from marigold_ros.learning.data.sources.hypersim import HypersimPairs
from marigold_ros.learning.data.sources.synthetic import SyntheticPairs
from marigold_ros.learning.data.sources.vkitti import VirtualKittiPairs

# Keys of every source that the mixture reads.
COMMON = ('kind', 'size', 'weight')
KINDS: dict[str, Callable[..., Source]] = {
    'synthetic': SyntheticPairs,
    'hypersim': HypersimPairs,
    'vkitti': VirtualKittiPairs,
    'folder': FolderPairs,
    'bag': BagPairs,
}


def open_source(entry: Mapping[str, Any], data: Path) -> Source:
    """
    Open a source of a recipe.

    Parameters
    ----------
    entry : mapping
        ``kind``, ``size`` [height, width], optionally ``weight``, and what the kind takes.
    data : Path
        Where relative folders start.

    Raises
    ------
    ConfigurationError
        If the kind or a key is unknown, or the size is missing.

    """
    kind = entry.get('kind')
    if kind not in KINDS:
        raise ConfigurationError(f"source kind is '{kind}'; choose one of {', '.join(KINDS)}")
    size = entry.get('size')
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(x, int) for x in size)):
        raise ConfigurationError(f'size of a source is {size!r}; give [height, width] in pixels')
    own = {key: value for key, value in entry.items() if key not in COMMON}
    try:
        return KINDS[kind](data=data, **own)
    except TypeError as error:
        raise ConfigurationError(
            f"source '{kind}': {str(error).split(' ', 1)[-1]}; see training/README.md"
        ) from error
