# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Values between the cells of a grid, and from points to the cells around, bilinear."""

from marigold_ros.kernels.compiled import compiled
import numpy as np


def sample_grid(
    grid: np.ndarray, u: np.ndarray, v: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Interpolate a grid over the image (H, W) at pixels, (M,)."""
    rows, columns = grid.shape
    x, y = (u + 0.5) / shape[1] * columns, (v + 0.5) / shape[0] * rows
    return sampled(np.ascontiguousarray(grid), x, y)


@compiled()
def _corner(x: float, y: float, rows: int, columns: int) -> tuple[int, int, float, float]:
    """Return row and column of the cell before a place in cells, and the shares of the next."""
    x, y = min(max(x - 0.5, 0.0), columns - 1.0), min(max(y - 0.5, 0.0), rows - 1.0)
    top, left = min(int(y), rows - 2), min(int(x), columns - 2)
    return top, left, y - top, x - left


@compiled()
def sampled(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate a grid at places in cells, (M,) float64."""
    found = np.empty(len(x))
    for i in range(len(x)):
        top, left, b, a = _corner(x[i], y[i], grid.shape[0], grid.shape[1])
        upper = (1 - a) * grid[top, left] + a * grid[top, left + 1]
        lower = (1 - a) * grid[top + 1, left] + a * grid[top + 1, left + 1]
        found[i] = (1 - b) * upper + b * lower
    return found


@compiled()
def sampled_between(
    slices: np.ndarray, x: np.ndarray, y: np.ndarray, lower: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Interpolate slices (rows, columns, n) at places in cells, and between two of them, (M,)."""
    found = np.zeros(len(x))
    for i in range(len(x)):
        top, left, b, a = _corner(x[i], y[i], slices.shape[0], slices.shape[1])
        for j in range(2):
            slice_ = slices[:, :, lower[i] + j]
            upper = (1 - a) * slice_[top, left] + a * slice_[top, left + 1]
            under = (1 - a) * slice_[top + 1, left] + a * slice_[top + 1, left + 1]
            found[i] += (share[i] if j else 1 - share[i]) * ((1 - b) * upper + b * under)
    return found


@compiled()
def scattered(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, weights: np.ndarray, rows: int, columns: int
) -> np.ndarray:
    """Add weighted values, and weights, to the cells around; (rows, columns, 2) float32."""
    sums = np.zeros((rows, columns, 2))
    for i in range(len(x)):
        top, left, b, a = _corner(x[i], y[i], rows, columns)
        for row, share in ((top, 1 - b), (top + 1, b)):
            for column, weight in ((left, (1 - a) * share), (left + 1, a * share)):
                sums[row, column, 0] += weight * weights[i] * values[i]
                sums[row, column, 1] += weight * weights[i]
    return sums.astype(np.float32)
