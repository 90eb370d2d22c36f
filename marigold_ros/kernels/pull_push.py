# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Fill the cells of a grid without values by pull-push (Gortler et al., 1996)."""

from marigold_ros.kernels.compiled import compiled
import numpy as np

# Weights of a cell in the nearer and the farther cell of half the resolution, along one axis.
_PULL = np.array([0.75, 0.25], np.float32)


def pull_push(mean: np.ndarray, count: np.ndarray) -> np.ndarray:
    """
    Fill cells without points from coarser and coarser grids, (rows, columns) float32.

    ``mean`` (rows, columns) counts where ``count`` is above 0, in at least one cell.
    """
    known = (count > 0).astype(np.float32)
    return _filled(mean.astype(np.float32), known)


@compiled()
def _filled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fill values (rows, columns) where weights, 0 to 1, are below 1; both float32."""
    rows, columns = values.shape
    if max(rows, columns) == 1:
        return values
    high, wide = (rows + 1) // 2, (columns + 1) // 2
    coarse, pulled = np.zeros((high, wide), np.float32), np.zeros((high, wide), np.float32)
    for i in range(rows):
        # The cells of half the resolution in whose 4 x 4 this one is, the nearer one first.
        for k in range(2):
            row, down = i // 2 + k * (2 * (i % 2) - 1), _PULL[k]
            for j in range(columns if 0 <= row < high else 0):
                weight = down * weights[i, j]
                if weight == 0:
                    continue
                for m in range(2):
                    column = j // 2 + m * (2 * (j % 2) - 1)
                    if 0 <= column < wide:
                        pulled[row, column] += _PULL[m] * weight
                        coarse[row, column] += _PULL[m] * weight * values[i, j]
    for i in range(high):
        for j in range(wide):
            coarse[i, j] /= max(pulled[i, j], np.float32(1e-9))
            pulled[i, j] = min(pulled[i, j], np.float32(1))
    coarse = _filled(coarse, pulled)
    filled = np.empty_like(values)
    for i in range(rows):
        above, below = i // 2, min(max(i // 2 + 2 * (i % 2) - 1, 0), high - 1)
        for j in range(columns):
            left, right = j // 2, min(max(j // 2 + 2 * (j % 2) - 1, 0), wide - 1)
            near = _PULL[0] * coarse[above, left] + _PULL[1] * coarse[above, right]
            far = _PULL[0] * coarse[below, left] + _PULL[1] * coarse[below, right]
            pushed = _PULL[0] * near + _PULL[1] * far
            filled[i, j] = pushed + weights[i, j] * (values[i, j] - pushed)
    return filled
