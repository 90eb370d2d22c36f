# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adds up what several runs accumulated, so that bags can be scored apart from each other.

Decision: by structure and not by a method of each class. Accumulators hold numbers and arrays that
are sums, lists that grow, and mappings and objects of these; what says how to accumulate is text,
a tuple, a frozen configuration, or named in the class's ``settings``. A class of another kind has
a method ``merge``. So a new sum cannot be forgotten here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from marigold_ros.evaluation.scoring.samples import SampleKeeper
import numpy as np


def merged(mine: Any, other: Any) -> Any:
    """
    Add another run's value to a value of the same kind; containers and objects are changed.

    Raises
    ------
    TypeError
        If the two are of different kinds.

    """
    if mine is None or other is None:
        return other if mine is None else mine
    if type(mine) is not type(other):
        raise TypeError(f'{type(mine).__name__} and {type(other).__name__} cannot be added up')
    if hasattr(mine, 'merge'):
        mine.merge(other)
        return mine
    if isinstance(mine, (bool, str, tuple)) or is_dataclass(mine):
        return mine
    if isinstance(mine, (int, float, np.number, np.ndarray, list)):
        return mine + other
    if isinstance(mine, Mapping):
        for key, value in other.items():
            mine[key] = merged(mine.get(key), value)  # type: ignore[index]
        return mine
    _merge_attributes(mine, other)
    return mine


def _merge_attributes(mine: Any, other: Any, leave: tuple[str, ...] = ()) -> None:
    """Add up the attributes of two objects, but for those in ``leave`` and their settings."""
    kept = {*leave, *getattr(type(mine), 'settings', ())}
    for name, value in vars(other).items():
        if name not in kept:
            setattr(mine, name, merged(getattr(mine, name, None), value))


class FrameScores:
    """
    What makes the scores of one run travel between processes and add up with those of the next.

    For a class with ``rows``, each with its ``index``, and ``_samples``, numbered alike.
    """

    settings: tuple[str, ...] = ('_finish', 'fit_every', 'held_out')
    rows: list[dict[str, Any]]
    _samples: SampleKeeper

    def merge(self, other: Any) -> None:
        """Add the frames of another run, which come after these."""
        offset = len(self.rows)
        for row in other.rows:
            row['index'] += offset
        self._samples.merge(other._samples, offset)
        _merge_attributes(self, other, leave=('_samples',))

    def forget_samples(self) -> None:
        """Drop the frames kept for a report; runs that only count need no images."""
        self._samples = SampleKeeper()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the pipeline, which holds the model."""
        return {**vars(self), '_finish': None}
