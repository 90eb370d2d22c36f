# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Chooses the frames that a report shows, in one pass over a sequence of any length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
import math
from typing import Any

from marigold_ros.frame import Prediction, SparseDepth
import numpy as np

SHOWN = 8
_WORST, _BEST, _EVEN = 3, 2, 4


@dataclass(frozen=True)
class Sample:
    """
    A frame that the report may show.

    Parameters
    ----------
    index, stamp_ns : int
        Place in the sequence, and stamp.
    rgb : (H, W, 3) uint8
        The rectified image.
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
    K : (3, 3) float or None, pixels
        Intrinsics of the rectified image.

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
    K: np.ndarray | None = None


def best_for_cloud(samples: Iterable[Sample]) -> Sample | None:
    """Choose, of the samples with metres and a camera, the one with the smallest error."""
    usable = [s for s in samples if s.metric is not None and s.K is not None]
    return min(
        usable, key=lambda s: s.abs_rel if math.isfinite(s.abs_rel) else math.inf, default=None
    )


class SampleKeeper:
    """Keeps the first frame, the worst, the best and some evenly spaced ones."""

    def __init__(self) -> None:
        self._stride = 1
        self._even: list[Sample] = []
        self._best: list[Sample] = []
        self._worst: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Offer a frame."""
        if sample.index % self._stride == 0:
            self._even.append(sample)
            if len(self._even) > 2 * _EVEN:
                self._even = self._even[::2]
                self._stride *= 2
        self._rank(sample)

    def _rank(self, sample: Sample) -> None:
        if math.isfinite(sample.abs_rel):
            by_error = sorted([*self._best, sample], key=lambda item: item.abs_rel)
            self._best = by_error[:_BEST]
            by_error = sorted([*self._worst, sample], key=lambda item: -item.abs_rel)
            self._worst = by_error[:_WORST]

    def merge(self, other: SampleKeeper, offset: int = 0) -> None:
        """Take over what another keeper kept, its frames numbered from ``offset`` on."""
        for sample in {s.index: s for s in (*other._best, *other._worst)}.values():
            self._rank(replace(sample, index=sample.index + offset))
        self._even += [replace(sample, index=sample.index + offset) for sample in other._even]
        while len(self._even) > 2 * _EVEN:
            self._even = self._even[::2]

    def chosen(self) -> list[tuple[str, Sample]]:
        """Give up to eight samples in order of time, each with what it stands for."""
        picked: dict[int, tuple[str, Sample]] = {}
        if self._even:
            picked[self._even[0].index] = ('first', self._even[0])
        named = [*_ranked('worst', self._worst[:1]), *_ranked('best', self._best[:1])]
        named += [*_ranked('worst', self._worst)[1:], *_ranked('best', self._best)[1:]]
        for name, sample in named:
            before = picked.get(sample.index, ('', sample))[0]
            if name.partition(' ')[2] and before:
                continue  # the second worst of few frames may be the best
            picked[sample.index] = (f'{before}, {name}' if before else name, sample)
        rest = [sample for sample in self._even if sample.index not in picked]
        free = min(SHOWN - len(picked), len(rest))
        for place in np.linspace(0, len(rest) - 1, free).round().astype(int) if free > 0 else ():
            picked[rest[place].index] = ('', rest[place])
        return [picked[index] for index in sorted(picked)]


def _ranked(name: str, samples: list[Sample]) -> list[tuple[str, Sample]]:
    """Name the samples worst, 2nd worst, 3rd worst."""
    names = (name, f'2nd {name}', f'3rd {name}')
    return list(zip(names, samples, strict=False))


def keep_sample(
    keeper: SampleKeeper,
    rgb: np.ndarray,
    prediction: Prediction,
    metric: np.ndarray | None,
    lidar: SparseDepth,
    shown: tuple[SparseDepth, np.ndarray] | None,
    row: Mapping[str, Any],
    K: np.ndarray | None,
) -> None:
    """Offer a scored frame: its rectified image, scored points with their errors, and row."""
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
            K=K,
        )
    )
