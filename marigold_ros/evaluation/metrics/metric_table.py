# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The metrics: name, unit, which direction is better, bounds, label and formula of each.

Scoring, intervals, comparisons, requirements, tables and charts read this table; a new metric is
one line here. With p predicted and g true depth in metres, the definitions are those of
prs-eth/Marigold, and of the KITTI benchmark for ``silog``, ``i_rmse`` and ``i_mae``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
import math
from typing import Literal

import numpy as np


class PointErrors:
    """
    Errors at scored points, each computed once; (n,) float64 all.

    Parameters
    ----------
    p, g : (n,) float64, metres
        Predicted and true depth, both positive.

    """

    def __init__(self, p: np.ndarray, g: np.ndarray) -> None:
        self.p, self.g = p, g

    @cached_property
    def signed(self) -> np.ndarray:
        """Return p - g in metres."""
        return self.p - self.g

    @cached_property
    def absolute(self) -> np.ndarray:
        """Return |p - g| in metres."""
        return np.abs(self.signed)

    @cached_property
    def square(self) -> np.ndarray:
        """Return (p - g)² in m²."""
        return self.signed * self.signed

    @cached_property
    def relative(self) -> np.ndarray:
        """Return |p - g| / g."""
        return self.absolute / self.g

    @cached_property
    def inverse(self) -> np.ndarray:
        """Return |1/p - 1/g| in 1/m."""
        return self.relative / self.p

    @cached_property
    def log(self) -> np.ndarray:
        """Return log p - log g."""
        return np.log(self.p / self.g)

    @cached_property
    def ratio(self) -> np.ndarray:
        """Return max(p/g, g/p)."""
        return np.maximum(self.p / self.g, self.g / self.p)


Term = Callable[[PointErrors], np.ndarray]


@dataclass(frozen=True)
class MeanFormula:
    """
    A metric that follows from means over points, so that images can be pooled.

    Parameters
    ----------
    terms : callables
        What is averaged, (n,) each.
    finish : callable
        Metric from the means of the terms.
    exact : callable or None
        The same of one image, where means of many points would lose digits.

    """

    terms: tuple[Term, ...]
    finish: Callable[..., float] = float
    exact: Callable[[PointErrors], float] | None = None


@dataclass(frozen=True)
class QuantileFormula:
    """
    A quantile of an error over points: exact for one image, from a histogram where pooled.

    Parameters
    ----------
    quantity : str
        Attribute of :class:`PointErrors`, not negative.
    share : float
        Of the points that are not above the quantile.

    """

    quantity: str
    share: float


@dataclass(frozen=True)
class Metric:
    """
    One row of the table.

    Parameters
    ----------
    name : str
        Key in results.json and per_frame.csv.
    unit : str
        Empty for a pure number.
    better : {'lower', 'higher', 'zero'}
        ``zero``: the sign is a direction, neither of which is better.
    bounds : (float, float)
        Range of the metric, which limits its confidence interval.
    label : str
        For tables and charts.
    formula : MeanFormula, QuantileFormula or None
        None for the coverage, which depends on what was not scored.

    """

    name: str
    unit: str
    better: Literal['lower', 'higher', 'zero']
    bounds: tuple[float, float]
    label: str
    formula: MeanFormula | QuantileFormula | None


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
    Metric('p50_abs_error', 'm', 'lower', _SIZE, 'median error', QuantileFormula('absolute', 0.5)),
    Metric('p95_abs_error', 'm', 'lower', _SIZE, '95 % error', QuantileFormula('absolute', 0.95)),
    Metric('coverage', '', 'higher', _SHARE, 'scored share', None),
)
METRICS = {metric.name: metric for metric in _TABLE}
