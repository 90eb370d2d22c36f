# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth metrics of one image, and their accumulation over many (numpy only).

The definitions are those of the Marigold evaluation, with the exception that nothing is clipped to
a data set's range. All follow from sums over points, so one vector of sums serves a single image
and the pooled («micro») figures; «macro» is the plain mean over images, as publications report it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

METRICS = (
    'abs_rel',
    'sq_rel',
    'rmse',
    'rmse_log',
    'mae',
    'log10',
    'silog',
    'delta1',
    'delta2',
    'delta3',
    'i_rmse',
)
# A finite prediction at or below zero is a wrong answer, not a missing one; the floor keeps its
# logarithm finite.
_FLOOR_M = 1e-6
_N_SUMS = 11


def depth_metrics(
    predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> dict[str, float]:
    """
    Compare predicted with true depth.

    Parameters
    ----------
    predicted : (...) float, metres
        Depth along the optical axis. Pixels that are not finite are not scored but lower
        ``coverage``. Values below 1e-6 count as 1e-6.
    truth : (...) float, metres
        Same shape; pixels that are not finite or not positive are no truth.
    valid : (...) bool or None
        True where a pixel may be scored.

    Returns
    -------
    dict of str to float
        With p predicted, g true and d = log p - log g, means over the scored pixels:
        ``abs_rel`` |p-g|/g; ``sq_rel`` (p-g)²/g in m; ``rmse`` in m; ``rmse_log`` root mean square
        of d; ``mae`` |p-g| in m; ``log10`` |log10 p - log10 g|; ``silog`` 100·sqrt(mean d² - (mean
        d)²); ``delta1..3`` share with max(p/g, g/p) < 1.25, 1.25², 1.25³; ``i_rmse`` root mean
        square of 1/p - 1/g in 1/m; ``n`` scored pixels; ``coverage`` share of the pixels with
        truth that are scored. Without any scored pixel every metric is NaN and ``n`` is 0.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Protocol and names follow prs-eth/Marigold; ``silog`` and ``i_rmse`` are those of the KITTI
    benchmark.

    """
    p, g, n_truth = scored_pairs(predicted, truth, valid)
    return metrics_of(point_sums(p, g), n_truth)


def scored_pairs(
    predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give prediction and truth of the scored pixels, (n,), and how many pixels have truth."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or (valid is not None and np.shape(valid) != truth.shape):
        raise ValueError(
            f'predicted has shape {predicted.shape}, truth {truth.shape}, valid '
            f'{None if valid is None else np.shape(valid)}; metrics need equal shapes'
        )
    known = np.isfinite(truth) & (truth > 0)
    if valid is not None:
        known &= np.asarray(valid, dtype=bool)
    scored = known & np.isfinite(predicted)
    p = np.maximum(predicted[scored].astype(np.float64), _FLOOR_M)
    return p, truth[scored].astype(np.float64), int(np.count_nonzero(known))


def point_sums(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Sum over points everything the metrics need; sums of disjoint sets add up."""
    difference = p - g
    d = np.log(p) - np.log(g)
    ratio = np.maximum(p / g, g / p)
    terms = (
        np.abs(difference) / g,
        difference**2 / g,
        difference**2,
        np.abs(difference),
        d,
        d**2,
        np.abs(d),
        ratio < 1.25,
        ratio < 1.25**2,
        ratio < 1.25**3,
        (1 / p - 1 / g) ** 2,
    )
    return np.array([len(g), *(float(np.sum(term)) for term in terms)])


def metrics_of(sums: np.ndarray, n_truth: int) -> dict[str, float]:
    """Turn sums of points into metrics; see :func:`depth_metrics`."""
    n = int(sums[0])
    coverage = n / n_truth if n_truth else math.nan
    if n == 0:
        return {**dict.fromkeys(METRICS, math.nan), 'n': 0, 'coverage': coverage}
    abs_rel, sq_rel, square, mae, d, d2, abs_d, *deltas, inverse = (float(x) / n for x in sums[1:])
    values = (
        abs_rel,
        sq_rel,
        math.sqrt(square),
        math.sqrt(d2),
        mae,
        abs_d / math.log(10.0),
        # Rounding can leave a tiny negative variance for an exact multiple of the truth.
        100.0 * math.sqrt(max(d2 - d * d, 0.0)),
        *deltas,
        math.sqrt(inverse),
    )
    return {**dict(zip(METRICS, values, strict=True)), 'n': n, 'coverage': coverage}


class MetricAccumulator:
    """
    Metrics over many images in constant memory: macro, micro and the median relative error.

    The median is pooled over all scored points, from a histogram of 4000 equal steps of the
    logarithm between 1e-6 and 1e3: its value is exact to 0.3 %.
    """

    _edges = np.geomspace(1e-6, 1e3, 4001)

    def __init__(self) -> None:
        self._sums = np.zeros(1 + _N_SUMS)
        self._macro: dict[str, float] = {}
        self._histogram = np.zeros(len(self._edges) + 1, np.int64)
        self._n_truth = 0
        self.n_frames = 0

    @property
    def n_points(self) -> int:
        """Scored points so far."""
        return int(self._sums[0])

    def add(
        self, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
    ) -> dict[str, float]:
        """Add one image and return its metrics; one without a scored point changes nothing."""
        p, g, n_truth = scored_pairs(predicted, truth, valid)
        sums = point_sums(p, g)
        values = metrics_of(sums, n_truth)
        if len(p) == 0:
            return values
        self._sums += sums
        self._n_truth += n_truth
        self.n_frames += 1
        self._histogram += np.bincount(
            np.searchsorted(self._edges, np.abs(p - g) / g, side='right'),
            minlength=len(self._histogram),
        )
        for name in (*METRICS, 'coverage'):
            self._macro[name] = self._macro.get(name, 0.0) + values[name]
        return values

    def macro(self) -> dict[str, float]:
        """Mean over images of each metric and of the coverage; NaN without images."""
        names = (*METRICS, 'coverage')
        if not self.n_frames:
            return dict.fromkeys(names, math.nan)
        return {name: self._macro[name] / self.n_frames for name in names}

    def micro(self) -> dict[str, float]:
        """Metrics of all points pooled; NaN without points."""
        values = metrics_of(self._sums, self._n_truth)
        return {name: values[name] for name in (*METRICS, 'coverage')}

    def median_abs_rel(self) -> float:
        """Median of |p-g|/g pooled over all points of all images; NaN without points."""
        if not self.n_points:
            return math.nan
        index = int(np.searchsorted(np.cumsum(self._histogram), 0.5 * self.n_points))
        if index == 0:
            return 0.0
        if index == len(self._edges):
            return float(self._edges[-1])
        return float(math.sqrt(self._edges[index - 1] * self._edges[index]))

    def summary(self) -> dict[str, Any]:
        """Give macro and micro metrics, the pooled median and the counts, as in results.json."""
        return {
            'macro': self.macro(),
            'micro': self.micro(),
            'median_abs_rel': self.median_abs_rel(),
            'n_frames': self.n_frames,
            'n_points': self.n_points,
        }
