# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Enlarge a grid along the edges of an image (joint bilateral upsampling, Kopf et al., 2007)."""

from marigold_ros.kernels.compiled import compiled
import numpy as np

# Change of colour (white is 255) that divides a cell's weight by e, and the weight that remains.
_COLOUR, _LEAST = 12.0, 1e-3
# The weight by colour, by the squared change of colour in these steps.
_COLOUR_STEPS = 4
_COLOUR_WEIGHTS = np.exp(np.arange(16384) / (-2.0 * _COLOUR_STEPS * _COLOUR**2)) + _LEAST
_COLOUR_WEIGHTS = _COLOUR_WEIGHTS.astype(np.float32)
# Share of a cell whose bilinear weight is 0.
_NEAR = 0.02


@compiled()
def place_by_colour(
    whole: np.ndarray,
    near: np.ndarray,
    depth: np.ndarray,
    colours: tuple[np.ndarray, np.ndarray],
    rows: tuple[np.ndarray, np.ndarray],
    columns: tuple[np.ndarray, np.ndarray],
) -> None:
    """
    Put the mean of the four cells around, by colour, into ``whole`` where ``near`` is not 0.

    ``colours`` are the image and itself on the grid; ``rows`` and ``columns`` are those of
    :func:`cells_before` for each row and column of pixels.
    """
    (rgb, cells), (tops, belows), (lefts, rights) = colours, rows, columns
    most, scale = np.float32(len(_COLOUR_WEIGHTS) - 1), np.float32(_COLOUR_STEPS)
    for v in range(whole.shape[0]):
        top, below = tops[v], belows[v]
        for u in range(whole.shape[1]):
            if near[v, u] == 0:
                continue
            left, right = lefts[u], rights[u]
            total, weights = np.float32(0), np.float32(0)
            for i in range(2):
                share_y = below if i else 1 - below
                for j in range(2):
                    row, column = top + i, left + j
                    away = np.float32(0)
                    for k in range(3):
                        apart = cells[row, column, k] - np.float32(rgb[v, u, k])
                        away += apart * apart
                    weight = _COLOUR_WEIGHTS[int(min(away * scale, most))]
                    weight *= share_y * (right if j else 1 - right) + np.float32(_NEAR)
                    weights += weight
                    total += weight * depth[row, column]
            whole[v, u] = total / weights


def cells_before(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel of a side: the cell before it, and the share of the next one."""
    place = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / pixels)
    place = np.clip(place - np.float32(0.5), 0, cells - 1)
    before = np.minimum(place.astype(np.intp), cells - 2)
    return before, place - before.astype(np.float32)
