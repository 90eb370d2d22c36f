# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The scores of one protocol: metrics, their intervals, and errors by distance and region."""

import math
from typing import Any

from marigold_ros.evaluation.metrics.depth_metrics import (
    MEANS,
    MetricAccumulator,
    scored_points,
)
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import METRICS, PointErrors
import numpy as np

_STEP_M = 5.0
_STEPS_A_BIN, _STEPS_NEAR = 2, 3
_THIRDS = (('top', 'middle', 'bottom'), ('left', 'centre', 'right'))
_CELLS = 9


# Metrics of one mean each, which are also reported by distance and region.
_BROKEN_DOWN = {name: MEANS[name] for name in ('abs_rel', 'rmse', 'bias', 'mae', 'delta1')}


def cells_at(u: np.ndarray, v: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the ninth of the image (H, W), row by row, that each pixel lies in; shape of both."""
    return v * 3 // shape[0] * 3 + u * 3 // shape[1]


class Breakdown:
    """Sums points by depth and by ninth of the image; the last bin has all beyond max_depth."""

    def __init__(self, max_depth: float) -> None:
        bins = math.ceil(max_depth / (_STEP_M * _STEPS_A_BIN))
        self._sums = np.zeros((1 + len(_BROKEN_DOWN), bins * _STEPS_A_BIN, _CELLS))
        # By frame the points, and the sum of their relative errors, in each bin of by_range.
        self._frames: list[np.ndarray] = []
        self._farthest: list[float] = []  # metres, by frame

    def add(self, errors: PointErrors, cell: np.ndarray) -> None:
        """Add points with the ninths of :func:`cells_at`, (n,)."""
        step = np.minimum((errors.g / _STEP_M).astype(np.intp), self._sums.shape[1] - 1)
        place = step * _CELLS + cell
        terms = (formula.terms[0](errors) for formula in _BROKEN_DOWN.values())
        for sums, term in zip(self._sums, (None, *terms), strict=True):
            sums += np.bincount(place, term, sums.size).reshape(sums.shape)
        number, bins = step // _STEPS_A_BIN, self._sums.shape[1] // _STEPS_A_BIN
        sums_of_bins = [np.bincount(number, term, bins) for term in (None, errors.relative)]
        self._frames.append(np.stack(sums_of_bins))
        self._farthest.append(float(errors.g.max()))

    def summary(self) -> dict[str, Any]:
        """Return ``by_range``, ``farthest``, ``near_field`` and ``by_region`` of results.json."""
        bins = self._sums.sum(axis=2)
        bins = bins.reshape(len(bins), -1, _STEPS_A_BIN).sum(axis=2)
        width, farthest = _STEP_M * _STEPS_A_BIN, max(self._farthest)
        ends = [width * (number + 1) for number in range(bins.shape[1])]
        ends[-1] = max(ends[-1], math.ceil(farthest))
        near = self._sums[:, :_STEPS_NEAR].sum(axis=(1, 2))
        grid = self._sums.sum(axis=1).reshape(-1, 3, 3)
        rows_and_columns = grid.sum(axis=2), grid.sum(axis=1)
        return {
            'by_range': [
                {
                    'from': number * width,
                    'to': ends[number],
                    **_figures(bins[:, number]),
                    **self._range_interval(number),
                }
                for number in np.flatnonzero(bins[0]).tolist()
            ],
            'farthest': farthest,
            'near_field': {'from': 0.0, 'to': _STEP_M * _STEPS_NEAR, **_figures(near)},
            'by_region': {
                name: _figures(sums[:, number])
                for names, sums in zip(_THIRDS, rows_and_columns, strict=True)
                for number, name in enumerate(names)
            },
        }

    def _range_interval(self, number: int) -> dict[str, list[float]]:
        """Return ``abs_rel_interval`` of a bin of distance; empty for too few independent ones."""
        n, errors = np.array([frame[:, number] for frame in self._frames if frame[0, number]]).T
        mean = errors.sum() / n.sum()
        # A ratio of two sums, linearised, so that its interval is that of a mean over frames.
        ratios = mean + (errors - mean * n) / n.mean()
        interval = np.clip(mean_interval(ratios), *METRICS['abs_rel'].bounds)
        return {'abs_rel_interval': interval.tolist()} if np.isfinite(interval).all() else {}


def _figures(sums: np.ndarray) -> dict[str, float]:
    n = int(sums[0])
    means = (sums[1:] / n if n else np.full(len(_BROKEN_DOWN), np.nan)).tolist()
    formulas = zip(_BROKEN_DOWN.items(), means, strict=True)
    return {'n': n, **{name: formula.finish(mean) for (name, formula), mean in formulas}}


class ProtocolScores:
    """Accumulates the scores of frames, broken down by distance up to ``max_depth`` metres."""

    def __init__(self, max_depth: float) -> None:
        self._metrics = MetricAccumulator()
        self._breakdown = Breakdown(max_depth)
        self._frames: list[list[float]] = []

    @property
    def n_frames(self) -> int:
        """Frames with at least one scored point."""
        return self._metrics.n_frames

    def add(
        self,
        predicted: np.ndarray,
        truth: np.ndarray,
        cell: np.ndarray,
        published: np.ndarray | None = None,
    ) -> tuple[dict[str, float], float]:
        """
        Add one frame.

        Depth and ``published`` are those of :func:`marigold_ros.evaluation.depth_metrics`,
        ``cell`` is from :func:`cells_at`, all of one shape. Returns the frame's metrics, and the
        median of published over true depth, NaN without any.
        """
        scored, errors, counts = scored_points(predicted, truth, published)
        values = self._metrics.add_errors(errors, counts)
        if not scored.any():
            return values, math.nan
        self._breakdown.add(errors, cell[scored])
        self._frames.append([values[name] for name in METRICS])
        ratio = errors.p / errors.g
        if published is not None:
            ratio = ratio[published[scored]]
        return values, float(np.median(ratio)) if len(ratio) else math.nan

    def summary(self) -> dict[str, Any]:
        """Return the protocol's part of results.json; ``interval`` with enough frames."""
        columns = zip(METRICS, np.array(self._frames).T, strict=True)
        # A metric's bounds limit its interval.
        intervals = {
            name: np.clip(mean_interval(column), *METRICS[name].bounds).tolist()
            for name, column in columns
        }
        return {
            **self._metrics.summary(),
            **self._breakdown.summary(),
            'interval': {n: ends for n, ends in intervals.items() if np.isfinite(ends).all()},
        }
