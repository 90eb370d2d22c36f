# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth metrics of one image, and their accumulation over many (numpy only).

The definitions are those of the Marigold evaluation, with the exception that nothing is clipped to
a data set's range. Nearly all follow from sums over points, so one vector of sums serves a single
image and the pooled («micro») figures; «macro» is the plain mean over images, as publications
report it. Quantiles are exact for an image and from a histogram where points are pooled.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_OF_SUMS = (
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
    'bias',
    'i_mae',
)
_QUANTILES = {'p50_abs_error': 0.5, 'p95_abs_error': 0.95}
METRICS = (*_OF_SUMS, *_QUANTILES)
# A finite prediction at or below zero is a wrong answer, not a missing one; the floor keeps its
# logarithm finite.
_FLOOR_M = 1e-6
_N_SUMS = len(_OF_SUMS)


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
        square of 1/p - 1/g in 1/m, ``i_mae`` mean of its size; ``bias`` p-g in m, positive where
        depth is too far; ``p50_abs_error``, ``p95_abs_error`` quantiles of |p-g| in m; ``n``
        scored pixels; ``coverage`` share of the pixels with truth that are scored. Without any
        scored pixel every metric is NaN and ``n`` is 0.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Protocol and names follow prs-eth/Marigold; ``silog``, ``i_rmse`` and ``i_mae`` are those of
    the KITTI benchmark.

    """
    p, g, n_truth = scored_pairs(predicted, truth, valid)
    return image_metrics(p, g, n_truth, point_sums(p, g))


def scored_pairs(
    predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give prediction and truth of the scored pixels, (n,), and how many pixels have truth."""
    known, scored = scored_pixels(predicted, truth, valid)
    return *pairs_at(predicted, truth, scored), int(np.count_nonzero(known))


def scored_pixels(
    predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Tell where there is truth, and where the prediction is scored against it; bool both."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or (valid is not None and np.shape(valid) != truth.shape):
        raise ValueError(
            f'predicted has shape {predicted.shape}, truth {truth.shape}, valid '
            f'{None if valid is None else np.shape(valid)}; metrics need equal shapes'
        )
    known = np.isfinite(truth) & (truth > 0)
    if valid is not None:
        known &= np.asarray(valid, dtype=bool)
    return known, known & np.isfinite(predicted)


def pairs_at(
    predicted: np.ndarray, truth: np.ndarray, scored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give prediction, at least 1e-6 m, and truth of the scored pixels, (n,) float64 both."""
    p = np.maximum(np.asarray(predicted)[scored].astype(np.float64), _FLOOR_M)
    return p, np.asarray(truth)[scored].astype(np.float64)


def point_sums(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Sum over points everything the metrics need; sums of disjoint sets add up."""
    difference = p - g
    size = np.abs(difference)
    relative, square = size / g, difference * difference
    d = np.log(p / g)
    ratio = np.maximum(p / g, g / p)
    inverse = relative / p  # |1/p - 1/g|
    sums = (
        relative.sum(),
        (size * relative).sum(),
        square.sum(),
        size.sum(),
        d.sum(),
        (d * d).sum(),
        np.abs(d).sum(),
        np.count_nonzero(ratio < 1.25),
        np.count_nonzero(ratio < 1.25**2),
        np.count_nonzero(ratio < 1.25**3),
        (inverse * inverse).sum(),
        difference.sum(),
        inverse.sum(),
    )
    return np.array([len(g), *sums], dtype=np.float64)


def metrics_of(sums: np.ndarray, n_truth: int) -> dict[str, float]:
    """Turn sums of points into the metrics that follow from them; see :func:`depth_metrics`."""
    n = int(sums[0])
    coverage = n / n_truth if n_truth else math.nan
    if n == 0:
        return {**dict.fromkeys(_OF_SUMS, math.nan), 'n': 0, 'coverage': coverage}
    abs_rel, sq_rel, square, mae, d, d2, abs_d, *rest = (float(x) / n for x in sums[1:])
    *deltas, inverse2, bias, inverse = rest
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
        math.sqrt(inverse2),
        bias,
        inverse,
    )
    return {**dict(zip(_OF_SUMS, values, strict=True)), 'n': n, 'coverage': coverage}


def image_metrics(
    p: np.ndarray, g: np.ndarray, n_truth: int, sums: np.ndarray
) -> dict[str, float]:
    """Give the metrics of one image; what its sums give, and what only its points can."""
    values = metrics_of(sums, n_truth)
    if len(p) == 0:
        return values | dict.fromkeys(_QUANTILES, math.nan)
    # About the mean: the difference of two sums loses half of the digits.
    values['silog'] = 100.0 * float(np.std(np.log(p / g)))
    found = np.quantile(np.abs(p - g), tuple(_QUANTILES.values()))
    return values | dict(zip(_QUANTILES, found.tolist(), strict=True))


class PooledQuantiles:
    """
    Quantiles of positive numbers that come image by image, in constant memory.

    From a histogram of 4000 equal steps of the logarithm between 1e-6 and 1e3: a quantile is exact
    to 0.3 %. What is smaller counts as 0.
    """

    _low, _high, _steps = 1e-6, 1e3, 4000

    def __init__(self) -> None:
        self._counts = np.zeros(self._steps + 2, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Add numbers (n,) that are not negative."""
        log = np.log(np.clip(values, self._low / 2, 2 * self._high) / self._low)
        step = np.floor(log * (self._steps / math.log(self._high / self._low)))
        place = np.clip(step, -1, self._steps).astype(np.intp) + 1
        self._counts += np.bincount(place, minlength=len(self._counts))

    def at(self, share: float) -> float:
        """Give the number that so large a share is not above; NaN without numbers."""
        total = int(self._counts.sum())
        if not total:
            return math.nan
        index = int(np.searchsorted(np.cumsum(self._counts), share * total))
        if index == 0:
            return 0.0
        if index > self._steps:
            return self._high
        return float(self._low * (self._high / self._low) ** ((index - 0.5) / self._steps))


class MetricAccumulator:
    """Metrics over many images in constant memory: macro, micro and the median relative error."""

    def __init__(self) -> None:
        self._sums = np.zeros(1 + _N_SUMS)
        self._macro: dict[str, float] = {}
        self._relative, self._absolute = PooledQuantiles(), PooledQuantiles()
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
        return self.add_pairs(*scored_pairs(predicted, truth, valid))

    def add_pairs(self, p: np.ndarray, g: np.ndarray, n_truth: int) -> dict[str, float]:
        """Add one image as :func:`scored_pairs` gives it, and return its metrics."""
        sums = point_sums(p, g)
        values = image_metrics(p, g, n_truth, sums)
        if len(p) == 0:
            return values
        self._sums += sums
        self._n_truth += n_truth
        self.n_frames += 1
        error = np.abs(p - g)
        self._absolute.add(error)
        self._relative.add(error / g)
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
        values |= {name: self._absolute.at(share) for name, share in _QUANTILES.items()}
        return {name: values[name] for name in (*METRICS, 'coverage')}

    def median_abs_rel(self) -> float:
        """Median of |p-g|/g pooled over all points of all images; NaN without points."""
        return self._relative.at(0.5)

    def summary(self) -> dict[str, Any]:
        """Give macro and micro metrics, the pooled median and the counts, as in results.json."""
        return {
            'macro': self.macro(),
            'micro': self.micro(),
            'median_abs_rel': self.median_abs_rel(),
            'n_frames': self.n_frames,
            'n_points': self.n_points,
        }
