# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Where the errors are: by distance, in the near field, and by thirds of the image; pooled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_STEP_M = 5.0
_STEPS_A_BIN, _STEPS_NEAR = 2, 3
_THIRDS = (('top', 'middle', 'bottom'), ('left', 'centre', 'right'))
_CELLS = 9
_N_SUMS = 6


def cells_at(u: np.ndarray, v: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Ninth of the image (H, W), numbered row by row, that each pixel lies in; shape of both."""
    return v * 3 // shape[0] * 3 + u * 3 // shape[1]


class Breakdown:
    """
    Sums over points by depth and by ninth of the image.

    Parameters
    ----------
    max_depth : float, metres
        Truth beyond it counts in the last bin.

    """

    def __init__(self, max_depth: float) -> None:
        bins = max(1, math.ceil(max_depth / (_STEP_M * _STEPS_A_BIN)))
        self._sums = np.zeros((_N_SUMS, bins * _STEPS_A_BIN, _CELLS))

    def add(self, p: np.ndarray, g: np.ndarray, cell: np.ndarray) -> None:
        """Add predictions and truth in metres with the ninths of :func:`cells_at`, (n,)."""
        step = np.minimum((g / _STEP_M).astype(np.intp), self._sums.shape[1] - 1)
        place = step * _CELLS + cell
        difference = p - g
        size = np.abs(difference)
        within = (p < 1.25 * g) & (g < 1.25 * p)
        for sums, term in zip(
            self._sums,
            (None, size / g, difference * difference, difference, size, within),
            strict=True,
        ):
            counted = np.bincount(place, term, self._sums[0].size)
            sums += counted.reshape(sums.shape)

    def by_range(self) -> list[dict[str, float]]:
        """Give figures for every 10 m that hold a point."""
        sums = self._sums.sum(axis=2).reshape(_N_SUMS, -1, _STEPS_A_BIN).sum(axis=2)
        width = _STEP_M * _STEPS_A_BIN
        return [
            {'from': number * width, 'to': (number + 1) * width, **_figures(sums[:, number])}
            for number in np.flatnonzero(sums[0]).tolist()
        ]

    def near_field(self) -> dict[str, float]:
        """Give figures for what is nearer than 15 m."""
        sums = self._sums[:, :_STEPS_NEAR].sum(axis=(1, 2))
        return {'from': 0.0, 'to': _STEP_M * _STEPS_NEAR, **_figures(sums)}

    def by_region(self) -> dict[str, dict[str, float]]:
        """Give figures for the thirds of the image, by rows and by columns."""
        grid = self._sums.sum(axis=1).reshape(_N_SUMS, 3, 3)
        rows, columns = grid.sum(axis=2), grid.sum(axis=1)
        return {
            name: _figures(sums[:, number])
            for names, sums in zip(_THIRDS, (rows, columns), strict=True)
            for number, name in enumerate(names)
        }

    def summary(self) -> dict[str, Any]:
        """Give ``by_range``, ``near_field`` and ``by_region`` as in results.json."""
        return {
            'by_range': self.by_range(),
            'near_field': self.near_field(),
            'by_region': self.by_region(),
        }


def _figures(sums: np.ndarray) -> dict[str, float]:
    n = int(sums[0])
    abs_rel, square, bias, mae, within = (sums[1:] / n if n else np.full(5, np.nan)).tolist()
    return {
        'n': n,
        'abs_rel': abs_rel,
        'rmse': math.sqrt(square),
        'bias': bias,
        'mae': mae,
        'delta1': within,
    }
