# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compares two ways of computing the same frame: in turns, so that a busy machine hits both alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from marigold_ros.models.benchmarks.measuring import milliseconds
import numpy as np
import torch

# ms of one side in one round, below which a round holds several frames.
ROUND_MS = 400.0
MOST_FRAMES = 20


@dataclass(frozen=True)
class Comparison:
    """Times of two sides in each round, ms; the ratio says how often the first is faster."""

    first_ms: tuple[float, ...]
    second_ms: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Time of the second over that of the first, by round."""
        pairs = zip(self.first_ms, self.second_ms, strict=True)
        return tuple(second / first for first, second in pairs)

    @property
    def ratio(self) -> float:
        """Median of the rounds."""
        return median(self.ratios)


def alternate(
    first: Callable[[], Any],
    second: Callable[[], Any],
    device: torch.device,
    rounds: int,
    tick: Callable[[], Any],
) -> Comparison:
    """
    Time two functions in turns; each has been run before.

    Parameters
    ----------
    first, second : callable
        Compute one frame each.
    device : torch.device
        On which both run.
    rounds : int
        Each times the first, then the second: the median of as many frames as fill 0.4 s.
    tick : callable
        Called after each round.

    Returns
    -------
    Comparison

    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, kept in zip((first, second), times, strict=True):
            kept.append(_typical(function, device))
        tick()
    return Comparison(tuple(times[0]), tuple(times[1]))


def _typical(function: Callable[[], Any], device: torch.device) -> float:
    frames = [milliseconds(function, device)]
    while sum(frames) < ROUND_MS and len(frames) < MOST_FRAMES:
        frames.append(milliseconds(function, device))
    return median(frames)


def difference(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Largest and mean absolute difference of two maps of the same shape."""
    distance = np.abs(first.astype(np.float64) - second.astype(np.float64))
    return {'max': float(distance.max()), 'mean': float(distance.mean())}
