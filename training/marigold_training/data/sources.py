# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The kinds of sources that a recipe can name, and how an entry becomes a source."""

from collections.abc import Callable, Mapping
from functools import partial
import math
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_training.data.bag_pairs import BagPairs
from marigold_training.data.layouts import FolderPairs, HypersimPairs, VirtualKittiPairs
from marigold_training.data.pairs import PairSource
from marigold_training.data.synthetic_pairs import SyntheticPairs
from marigold_training.data.teacher_pairs import TaughtBagPairs, TeacherPairs
from marigold_training.recipe_keys import check_arguments, check_mapping

MIXTURE_KEYS = ('kind', 'size', 'weight')  # of every source, read by the mixture
KINDS: dict[str, Callable[..., PairSource]] = {
    'synthetic': SyntheticPairs,
    'hypersim': HypersimPairs,
    'vkitti': VirtualKittiPairs,
    'folder': FolderPairs,
    'bag': BagPairs,
    'taught_bag': TaughtBagPairs,
    'teacher': TeacherPairs,
}


# Where data sets come from, by kind of source or set of a validation.
SITES = {
    'hypersim': 'github.com/apple/ml-hypersim; then python training/prepare_hypersim.py RAW OUT',
    'vkitti': 'Virtual KITTI 2, rgb and depth, of europe.naverlabs.com',
    **dict.fromkeys(
        ('nyu', 'kitti', 'eth3d', 'scannet', 'diode'),
        'the archives for evaluation that github.com/prs-eth/Marigold names',
    ),
}


def check_folders(recipe: Mapping[str, Any], data: Path) -> None:
    """Raise ConfigurationError that lists all folders of a recipe which are missing below data."""
    entries = [(entry.get('kind'), entry) for entry in recipe['sources']]
    validation = recipe.get('validation')
    entries += list(validation.items()) if isinstance(validation, Mapping) else []
    missing = {
        str(data / entry['folder']): f' ({SITES[kind]})' if kind in SITES else ''
        for kind, entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get('folder'), str)
        if not (data / entry['folder']).exists()
    }
    if missing:
        listed = '; '.join(f'{folder}{site}' for folder, site in missing.items())
        raise ConfigurationError(
            f"missing data: {listed}. Put them there, or change --data or 'folder' in the recipe"
        )


def open_source(entry: Mapping[str, Any], data: Path) -> PairSource:
    """
    Open a source of a recipe.

    Parameters
    ----------
    entry : mapping
        ``kind``, ``size`` [height, width], optionally ``weight``, and the arguments of the kind.
    data : Path
        Base of relative folders.

    Raises
    ------
    ConfigurationError
        If the kind or a key is unknown, the size is missing, or a value is of a wrong type.

    """
    kind = check_mapping('a source', entry).get('kind')
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigurationError(f"source kind is '{kind}'; choose one of {', '.join(KINDS)}")
    size = entry.get('size')
    if not (
        isinstance(size, list) and len(size) == 2 and all(type(x) is int and x > 0 for x in size)
    ):
        raise ConfigurationError(f'size of a source is {size!r}; give [height, width] in pixels')
    try:
        weight = float(entry.get('weight', 1.0))
    except (TypeError, ValueError):
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise ConfigurationError(
            f'weight of a source is {entry["weight"]!r}; choose a number above 0'
        )
    own = {key: value for key, value in entry.items() if key not in MIXTURE_KEYS}
    check_arguments(f"source '{kind}'", own, partial(KINDS[kind], data))
    try:
        return KINDS[kind](data=data, **own)
    except (AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"source '{kind}' has a value of a wrong type in {own}: {error}; YAML takes 1e-3 for "
            'text: write 1.0e-3'
        ) from error


def check_teacher(source: PairSource, space: str) -> None:
    """Raise ConfigurationError unless the labels of a source can be targets in a space."""
    if isinstance(source, TeacherPairs) and source.space not in ('metric', space):
        raise ConfigurationError(
            f"the recipe's space is '{space}' and {source.teacher} predicts {source.space}, which "
            f"cannot be converted without metres; set facts.space to '{source.space}'"
        )
