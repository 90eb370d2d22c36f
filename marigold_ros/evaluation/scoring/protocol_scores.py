# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""All figures of one protocol: metrics, their intervals, and where the errors are."""

from __future__ import annotations

from typing import Any

from marigold_ros.evaluation.metrics.breakdown import Breakdown
from marigold_ros.evaluation.metrics.depth_metrics import (
    MetricAccumulator,
    METRICS,
    pairs_at,
    scored_pixels,
)
from marigold_ros.evaluation.metrics.intervals import mean_interval
import numpy as np

_NAMES = (*METRICS, 'coverage')
_SHARES = ('delta1', 'delta2', 'delta3', 'coverage')


class ProtocolScores:
    """
    Accumulates frames.

    Parameters
    ----------
    max_depth : float, metres
        Up to where errors are told by distance.

    """

    def __init__(self, max_depth: float) -> None:
        self._metrics = MetricAccumulator()
        self._parts = Breakdown(max_depth)
        self._frames: list[list[float]] = []

    @property
    def n_frames(self) -> int:
        """Frames with at least one scored point."""
        return self._metrics.n_frames

    def add(
        self, predicted: np.ndarray, truth: np.ndarray, cell: np.ndarray
    ) -> tuple[dict[str, float], float]:
        """
        Add one frame.

        Parameters
        ----------
        predicted, truth : (...) float, metres
            As for :func:`marigold_ros.evaluation.depth_metrics`.
        cell : (...) int
            Ninth of the image that each lies in.

        Returns
        -------
        dict, float
            The frame's metrics, and the median of prediction over truth, NaN without a point.

        """
        known, scored = scored_pixels(predicted, truth)
        p, g = pairs_at(predicted, truth, scored)
        values = self._metrics.add_pairs(p, g, int(np.count_nonzero(known)))
        if len(p) == 0:
            return values, float('nan')
        self._parts.add(p, g, cell[scored])
        self._frames.append([values[name] for name in _NAMES])
        return values, float(np.median(p / g))

    def summary(self) -> dict[str, Any]:
        """Give the protocol's part of results.json; ``interval`` from 8 frames on."""
        found = {**self._metrics.summary(), **self._parts.summary()}
        columns = zip(_NAMES, np.array(self._frames).T, strict=True)
        intervals = {name: _interval(name, column) for name, column in columns}
        return found | {
            'interval': {name: ends for name, ends in intervals.items() if np.isfinite(ends).all()}
        }


def _interval(name: str, values: np.ndarray) -> list[float]:
    """95 % interval within what the metric can be."""
    low, high = mean_interval(values)
    if name != 'bias':
        low = max(low, 0.0)
    return [low, min(high, 1.0) if name in _SHARES else high]
