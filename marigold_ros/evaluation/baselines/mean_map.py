# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The mean depth of what was seen so far in each part of the image: a baseline without a network.

On a dull recording it is good, and then a good score says little. It is made of the earlier frames
and of the fit points of the frame at hand, never of the points that are scored there; so it needs
one pass, constant memory, and has an answer for the first frame too.
"""

from __future__ import annotations

from marigold_ros.frame import SparseDepth
import numpy as np

_CELL_PX = 16


class MeanMap:
    """Sums and numbers of depths in cells of 16 pixels, over frames of one size."""

    def __init__(self) -> None:
        self._sums = np.zeros((2, 0, 0))

    def depth(
        self, fit: SparseDepth, u: np.ndarray, v: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        """
        Mean depth at pixels (M,) from earlier frames and this one's fit points; (M,) metres.

        A cell without a point takes the nearest one's mean. ``size`` is (width, height).
        """
        from scipy.ndimage import distance_transform_edt

        total, count = self._with(fit, size)
        empty = count == 0
        mean = np.divide(total, count, out=np.zeros_like(total), where=~empty)
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        return np.asarray(mean[tuple(nearest)][v // _CELL_PX, u // _CELL_PX])

    def add(self, sparse: SparseDepth, size: tuple[int, int]) -> None:
        """Add a frame's points, those that were scored too, for the frames to come."""
        self._sums = self._with(sparse, size)

    def merge(self, other: MeanMap) -> None:
        """Add another bag's, which begins anew: there is nothing to add."""

    def _with(self, sparse: SparseDepth, size: tuple[int, int]) -> np.ndarray:
        """Sums and numbers, (2, rows, columns), with some points added."""
        columns, rows = (-(-side // _CELL_PX) for side in size)
        cell = (sparse.v // _CELL_PX) * columns + sparse.u // _CELL_PX
        sums = np.stack(
            [np.bincount(cell, weight, rows * columns) for weight in (sparse.z, None)]
        ).reshape(2, rows, columns)
        return sums + self._sums if sums.shape == self._sums.shape else sums
