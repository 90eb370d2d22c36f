# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Chooses the frames that a report shows, in one pass over a sequence of any length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import math
from typing import Any

from marigold_ros.frame import Prediction, SparseDepth
import numpy as np

SHOWN = 6


@dataclass(frozen=True)
class Sample:
    """
    A frame that the report may show.

    Parameters
    ----------
    index, stamp_ns : int
        Place in the sequence, and stamp.
    rgb : (H, W, 3) uint8
        The rectified picture.
    relative : (H, W) float
        The prediction.
    space : str
        Its space.
    metric : (H, W) float or None, metres
        What was published.
    lidar : SparseDepth
        All points in view; empty without a scan.
    score : SparseDepth
        Scored pixels with their truth.
    error : (M,) float
        Relative error there; NaN where there is no prediction.
    abs_rel : float
        The mean of ``error``.
    quadric_abs_rel : float
        The same of the best quadric, NaN without one.

    """

    index: int
    stamp_ns: int
    rgb: np.ndarray
    relative: np.ndarray
    space: str
    metric: np.ndarray | None
    lidar: SparseDepth
    score: SparseDepth
    error: np.ndarray
    abs_rel: float
    quadric_abs_rel: float


class SampleKeeper:
    """Keeps the first, best and worst frame and some evenly spaced ones."""

    def __init__(self, shown: int = SHOWN) -> None:
        self._shown = shown
        self._stride = 1
        self._even: list[Sample] = []
        self._best: Sample | None = None
        self._worst: Sample | None = None

    def add(self, sample: Sample) -> None:
        """Offer a frame."""
        if sample.index % self._stride == 0:
            self._even.append(sample)
            if len(self._even) > 2 * self._shown:
                self._even = self._even[::2]
                self._stride *= 2
        self._rank(sample)

    def _rank(self, sample: Sample) -> None:
        if math.isfinite(sample.abs_rel):
            if self._best is None or sample.abs_rel < self._best.abs_rel:
                self._best = sample
            if self._worst is None or sample.abs_rel > self._worst.abs_rel:
                self._worst = sample

    def merge(self, other: SampleKeeper, offset: int = 0) -> None:
        """Take over what another keeper kept, its frames numbered from ``offset`` on."""
        for sample in (other._best, other._worst):
            if sample is not None:
                self._rank(replace(sample, index=sample.index + offset))
        self._even += [replace(sample, index=sample.index + offset) for sample in other._even]
        while len(self._even) > 2 * self._shown:
            self._even = self._even[::2]

    def chosen(self) -> list[tuple[str, Sample]]:
        """Give up to six samples in order of time, each with what it stands for."""
        picked: dict[int, tuple[str, Sample]] = {}
        if self._even:
            picked[self._even[0].index] = ('first', self._even[0])
        for name, sample in (('best', self._best), ('worst', self._worst)):
            if sample is not None:
                before = f'{picked[sample.index][0]}, ' if sample.index in picked else ''
                picked[sample.index] = (before + name, sample)
        rest = [sample for sample in self._even if sample.index not in picked]
        free = min(self._shown - len(picked), len(rest))
        for place in np.linspace(0, len(rest) - 1, free).round().astype(int) if free > 0 else ():
            picked[rest[place].index] = ('', rest[place])
        return [picked[index] for index in sorted(picked)]


def keep_sample(
    keeper: SampleKeeper,
    rgb: np.ndarray,
    prediction: Prediction,
    metric: np.ndarray | None,
    lidar: SparseDepth,
    shown: tuple[SparseDepth, np.ndarray] | None,
    row: Mapping[str, Any],
) -> None:
    """Offer a scored frame: its rectified picture, scored points with their errors, and row."""
    nothing = np.zeros(0, np.int64)
    score, error = shown or (SparseDepth(nothing, nothing, np.zeros(0)), np.zeros(0))
    known = error[np.isfinite(error)]
    quadric = row.get('heldout_quadric_abs_rel', row.get('truth_quadric_abs_rel', math.nan))
    keeper.add(
        Sample(
            index=row['index'],
            stamp_ns=row['stamp_ns'],
            rgb=rgb,
            relative=prediction.relative,
            space=prediction.space,
            metric=metric,
            lidar=lidar,
            score=score,
            error=error,
            abs_rel=float(known.mean()) if len(known) else math.nan,
            quadric_abs_rel=quadric,
        )
    )
