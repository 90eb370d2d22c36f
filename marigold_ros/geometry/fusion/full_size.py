# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
From the work grid to every pixel: bilinear, along the image's edges where depth steps.

Between two surfaces a bilinear pixel lies on neither; there each of the four cells around counts
by its colour as well (joint bilateral upsampling, Kopf et al., 2007). The map has more detail than
the grid, which its share brings back.
"""

import cv2
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Ratio of depths within 3 x 3 cells from which pixels are placed by colour.
_STEP = 1.1
# Change of colour (white is 255) that divides a cell's weight by e, and the weight that remains.
_COLOUR, _LEAST = 12.0, 1e-3
# Share of a cell whose bilinear weight is 0.
_NEAR = 0.02
_WINDOW = np.ones((3, 3), np.uint8)


def enlarge_depth(
    depth: np.ndarray, rgb: np.ndarray | None, cells: np.ndarray | None, grid: WorkGrid
) -> np.ndarray:
    """
    Return depth (rows, columns) in metres at every pixel of the image, (H, W) float32.

    ``rgb`` (H, W, 3) uint8 and ``cells`` (rows, columns, 3) are the image and itself on the grid,
    0 to 255, or None.
    """
    whole = grid.enlarge(depth)
    if rgb is None or cells is None or depth.shape == whole.shape:
        return whole
    steps = cv2.dilate(depth, _WINDOW) > np.float32(_STEP) * cv2.erode(depth, _WINDOW)
    size = whole.shape[::-1]
    pixels = np.flatnonzero(cv2.resize(steps.view(np.uint8), size, interpolation=cv2.INTER_LINEAR))
    if len(pixels):
        whole.ravel()[pixels] = _by_colour(pixels, depth, rgb, cells, grid)
    return whole


def _by_colour(
    pixels: np.ndarray, depth: np.ndarray, rgb: np.ndarray, cells: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """Depth at pixels (flat indices, (n,)) as a mean of the four cells around, by colour."""
    v, u = np.divmod(pixels, grid.shape[1])
    left, right_share = (part[u] for part in _cells_before(grid.shape[1], grid.columns))
    top, below_share = (part[v] for part in _cells_before(grid.shape[0], grid.rows))
    first = top * grid.columns + left
    # Colour by colour: NumPy gathers single numbers faster than rows of three.
    colours = [
        (cells[..., i].ravel(), rgb[..., i].ravel()[pixels].astype(np.float32)) for i in range(3)
    ]
    values = depth.ravel()
    total, weights = np.zeros(len(pixels), np.float32), np.zeros(len(pixels), np.float32)
    for row, row_share in ((0, 1 - below_share), (grid.columns, below_share)):
        for column, column_share in ((0, 1 - right_share), (1, right_share)):
            cell = first + (row + column)
            away = np.zeros(len(pixels), np.float32)
            for of_cells, of_pixels in colours:
                away += np.square(of_cells[cell] - of_pixels)
            weight = np.exp(away * np.float32(-0.5 / _COLOUR**2)) + np.float32(_LEAST)
            weight *= row_share * column_share + np.float32(_NEAR)
            weights += weight
            weight *= values[cell]
            total += weight
    return total / weights


def _cells_before(pixels: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel of a side: the cell before it, and the share of the next one."""
    place = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / pixels)
    place = np.clip(place - np.float32(0.5), 0, cells - 1)
    before = np.minimum(place.astype(np.intp), cells - 2)
    return before, place - before.astype(np.float32)


def with_detail(
    depth: np.ndarray, fitted: np.ndarray, share: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """
    Add the detail of a fitted map (H, W) to depth (H, W), by its share (rows, columns).

    Detail is the ratio of the map to itself on the grid; where the map is NaN there is none.
    """
    whole = np.where(np.isfinite(fitted), fitted, depth).astype(np.float32)
    ratio = whole / grid.enlarge(grid.shrink(whole))
    return np.asarray(depth * (1.0 + grid.enlarge(share) * (ratio - 1.0)), np.float32)
