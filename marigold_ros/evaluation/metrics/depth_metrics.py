# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth metrics of one image, and their accumulation over many.

Nothing is clipped to a data set's range. Most metrics follow from sums over points, so one vector
of sums serves a single image and the pooled («micro») figures; «macro» is the mean over images, as
publications report it. Quantiles are exact for an image and from a histogram where pooled.
"""

import math
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.evaluation.metrics.metric_table import (
    MeanFormula,
    METRICS,
    PointErrors,
    QuantileFormula,
)
import numpy as np

MEANS = {n: m.formula for n, m in METRICS.items() if isinstance(m.formula, MeanFormula)}
_QUANTILES = {n: m.formula for n, m in METRICS.items() if isinstance(m.formula, QuantileFormula)}
_TERMS = [term for formula in MEANS.values() for term in formula.terms]
# A finite prediction at or below zero is a wrong answer, not a missing one; the floor keeps its
# logarithm finite.
_FLOOR_M = 1e-6


def depth_metrics(
    predicted: np.ndarray,
    truth: np.ndarray,
    valid: np.ndarray | None = None,
    published: np.ndarray | None = None,
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
    published : (...) bool or None
        False where ``predicted`` is a substitute for missing depth, which lowers ``coverage``
        only; None for depth wherever it is finite.

    Returns
    -------
    dict of str to float
        With p predicted, g true and d = log p - log g, means over the scored pixels:
        ``abs_rel`` |p-g|/g; ``sq_rel`` (p-g)²/g in m; ``rmse`` in m; ``rmse_log`` root mean square
        of d; ``mae`` |p-g| in m; ``log10`` |log10 p - log10 g|; ``silog`` 100·sqrt(mean d² - (mean
        d)²); ``delta1..3`` share with max(p/g, g/p) < 1.25, 1.25², 1.25³; ``i_rmse`` root mean
        square of 1/p - 1/g in 1/m, ``i_mae`` mean of its size; ``bias`` p-g in m, positive where
        depth is too far; ``p50_abs_error``, ``p95_abs_error`` quantiles of |p-g| in m; ``n``
        scored pixels; ``coverage`` share of the pixels with truth that have a prediction. Without
        any scored pixel every metric but the coverage is NaN and ``n`` is 0.

    Raises
    ------
    InputError
        If the shapes differ.

    """
    _, errors, counts = scored_points(predicted, truth, published, valid)
    return _image_metrics(errors, _sums(errors), counts)


def scored_points(
    predicted: np.ndarray,
    truth: np.ndarray,
    published: np.ndarray | None = None,
    valid: np.ndarray | None = None,
) -> tuple[np.ndarray, PointErrors, np.ndarray]:
    """
    Return where predictions are scored (bool), the errors there, and two counts of pixels.

    The counts are those of pixels with published depth among the scored, and of all with truth.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    for name, image in (('predicted', predicted), ('valid', valid), ('published', published)):
        if image is not None and np.shape(image) != truth.shape:
            shapes = f'{name} has shape {np.shape(image)}, truth {truth.shape}'
            raise InputError(f'{shapes}; metrics need equal shapes: resize one', cause='shape')
    known = np.isfinite(truth) & (truth > 0)
    if valid is not None:
        known &= np.asarray(valid, dtype=bool)
    scored = known & np.isfinite(predicted)
    has_depth = scored if published is None else scored & np.asarray(published, bool)
    p = np.maximum(predicted[scored].astype(np.float64), _FLOOR_M)
    errors = PointErrors(p, truth[scored].astype(np.float64))
    return scored, errors, np.array([np.count_nonzero(part) for part in (has_depth, known)])


def _sums(errors: PointErrors) -> np.ndarray:
    """Return the number of points and the sum of every term; those of disjoint sets add up."""
    return np.array([len(errors.g), *(term(errors).sum() for term in _TERMS)], dtype=np.float64)


def _mean_metrics(sums: np.ndarray) -> dict[str, float]:
    """Return the metrics that follow from sums over points; NaN without points."""
    n = int(sums[0])
    if n == 0:
        return dict.fromkeys(MEANS, math.nan)
    means = (float(x) / n for x in sums[1:])
    return {
        name: formula.finish(*(next(means) for _ in formula.terms))
        for name, formula in MEANS.items()
    }


def _image_metrics(errors: PointErrors, sums: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Return the metrics of one image, with ``n`` before ``coverage``."""
    values, n = _mean_metrics(sums), len(errors.g)
    if n:
        values |= {name: f.exact(errors) for name, f in MEANS.items() if f.exact is not None}
    for name, formula in _QUANTILES.items():
        values[name] = float(np.quantile(errors.absolute, formula.share)) if n else math.nan
    return {**values, 'n': n, 'coverage': _coverage(counts)}


def _coverage(counts: np.ndarray) -> float:
    n_published, n_truth = counts.tolist()
    return n_published / n_truth if n_truth else math.nan


class PooledQuantiles:
    """
    Quantiles of positive numbers that come image by image, in constant memory.

    From a histogram of 4000 equal steps of the logarithm between 1e-6 and 1e3: a quantile is exact
    to 0.3 %. Smaller numbers count as 0.
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
        """Return the smallest number that this share is not above; NaN without numbers."""
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
        self._sums = np.zeros(1 + len(_TERMS))
        self._macro: dict[str, float] = {}
        self._absolute, self._relative = PooledQuantiles(), PooledQuantiles()
        self._counts = np.zeros(2, np.int64)
        self.n_frames = 0

    def add(
        self, predicted: np.ndarray, truth: np.ndarray, published: np.ndarray | None = None
    ) -> dict[str, float]:
        """Add an image as to ``depth_metrics``, if it has points; return its metrics."""
        _, errors, counts = scored_points(predicted, truth, published)
        return self.add_errors(errors, counts)

    def add_errors(self, errors: PointErrors, counts: np.ndarray) -> dict[str, float]:
        """Add errors and counts of one image, as :func:`scored_points` returns them."""
        sums = _sums(errors)
        values = _image_metrics(errors, sums, counts)
        if not len(errors.g):
            return values
        self._sums += sums
        self._counts += counts
        self.n_frames += 1
        self._absolute.add(errors.absolute)
        self._relative.add(errors.relative)
        for name in METRICS:
            self._macro[name] = self._macro.get(name, 0.0) + values[name]
        return values

    def macro(self) -> dict[str, float]:
        """Return the mean over images of each metric; NaN without images."""
        if not self.n_frames:
            return dict.fromkeys(METRICS, math.nan)
        return {name: self._macro[name] / self.n_frames for name in METRICS}

    def micro(self) -> dict[str, float]:
        """Return the metrics of all points pooled; NaN without points."""
        values = _mean_metrics(self._sums)
        for name, formula in _QUANTILES.items():
            values[name] = self._absolute.at(formula.share)
        return {**values, 'coverage': _coverage(self._counts)}

    def median_abs_rel(self) -> float:
        """Return the median of |p-g|/g over all points of all images; NaN without points."""
        return self._relative.at(0.5)

    def summary(self) -> dict[str, Any]:
        """Return macro and micro metrics, the pooled median and the counts, as results.json."""
        return {
            'macro': self.macro(),
            'micro': self.micro(),
            'median_abs_rel': self.median_abs_rel(),
            'n_frames': self.n_frames,
            'n_points': int(self._sums[0]),
        }
