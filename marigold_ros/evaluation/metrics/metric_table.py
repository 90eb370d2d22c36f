# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The metrics: name, unit, which direction is better, bounds, label and formula of each.

Scoring, intervals, comparisons, requirements, tables and charts read this table; a new metric is
one line here. With p predicted and g true depth in metres, the definitions are those of
prs-eth/Marigold, and of the KITTI benchmark for ``silog``, ``i_rmse`` and ``i_mae``.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math
from typing import Literal

import numpy as np


class PointErrors:
    """Errors at scored points, of predicted and true depth p, g > 0 in metres; (n,) float64."""

    def __init__(self, p: np.ndarray, g: np.ndarray) -> None:
        self.p, self.g = p, g
        self.signed = p - g
        self.absolute = np.abs(self.signed)
        self.square = self.signed * self.signed
        self.relative = self.absolute / g
        self.inverse = self.relative / p  # |1/p - 1/g|
        self.log = np.log(p / g)
        self.ratio = np.maximum(p / g, g / p)


Term = Callable[[PointErrors], np.ndarray]


@dataclass(frozen=True)
class MeanFormula:
    """
    A metric that follows from means of ``terms`` over points, so that images can be pooled.

    ``finish`` computes it from the means; ``exact`` from the points of one image, where the means
    would lose digits.
    """

    terms: tuple[Term, ...]
    finish: Callable[..., float] = float
    exact: Callable[[PointErrors], float] | None = None


@dataclass(frozen=True)
class QuantileFormula:
    """A quantile of the size of errors: exact for an image, pooled by a histogram."""

    share: float


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str  # key in results.json and per_frame.csv
    unit: str  # empty for a pure number
    # 'zero': the sign is a direction, neither of which is better.
    better: Literal['lower', 'higher', 'zero']
    bounds: tuple[float, float]  # range of the metric, which limits its confidence intervals
    label: str  # for tables and charts
    formula: MeanFormula | QuantileFormula | None  # None: depends on pixels without prediction

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f'{self.label}, {self.unit}' if self.unit else self.label

    @property
    def difference_bounds(self) -> tuple[float, float]:
        """Range of the difference of two values."""
        return self.bounds[0] - self.bounds[1], self.bounds[1] - self.bounds[0]


def _mean(term: Term, finish: Callable[..., float] = float) -> MeanFormula:
    return MeanFormula((term,), finish)


def _within(factor: float) -> MeanFormula:
    return _mean(lambda e: e.ratio < factor)


# Rounding can leave a tiny negative variance for an exact multiple of the truth.
_SILOG = MeanFormula(
    (lambda e: e.log, lambda e: e.log * e.log),
    finish=lambda d, d2: 100.0 * math.sqrt(max(d2 - d * d, 0.0)),
    exact=lambda e: 100.0 * float(np.std(e.log)),
)
_LN10 = math.log(10.0)
_SIZE, _SHARE, _ANY = (0.0, math.inf), (0.0, 1.0), (-math.inf, math.inf)
_TABLE = (
    Metric('abs_rel', '', 'lower', _SIZE, 'AbsRel', _mean(lambda e: e.relative)),
    Metric('sq_rel', 'm', 'lower', _SIZE, 'SqRel', _mean(lambda e: e.absolute * e.relative)),
    Metric('rmse', 'm', 'lower', _SIZE, 'RMSE', _mean(lambda e: e.square, math.sqrt)),
    Metric('rmse_log', '', 'lower', _SIZE, 'RMSE log', _mean(lambda e: e.log * e.log, math.sqrt)),
    Metric('mae', 'm', 'lower', _SIZE, 'MAE', _mean(lambda e: e.absolute)),
    Metric('log10', '', 'lower', _SIZE, 'log10', _mean(lambda e: abs(e.log), lambda m: m / _LN10)),
    Metric('silog', '', 'lower', _SIZE, 'SILog', _SILOG),
    Metric('delta1', '', 'higher', _SHARE, 'δ1', _within(1.25)),
    Metric('delta2', '', 'higher', _SHARE, 'δ2', _within(1.25**2)),
    Metric('delta3', '', 'higher', _SHARE, 'δ3', _within(1.25**3)),
    Metric(
        'i_rmse', '1/m', 'lower', _SIZE, 'iRMSE', _mean(lambda e: e.inverse * e.inverse, math.sqrt)
    ),
    Metric('bias', 'm', 'zero', _ANY, 'bias', _mean(lambda e: e.signed)),
    Metric('i_mae', '1/m', 'lower', _SIZE, 'iMAE', _mean(lambda e: e.inverse)),
    Metric('p50_abs_error', 'm', 'lower', _SIZE, 'median error', QuantileFormula(0.5)),
    Metric('p95_abs_error', 'm', 'lower', _SIZE, '95 % error', QuantileFormula(0.95)),
    Metric('coverage', '', 'higher', _SHARE, 'share with depth', None),
)
METRICS = {metric.name: metric for metric in _TABLE}
# What a comparison shows first: AbsRel alone hides errors at a distance.
COMPARED = ('abs_rel', 'rmse', 'mae', 'p50_abs_error')
