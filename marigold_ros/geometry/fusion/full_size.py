# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
From the work grid to every pixel: bilinear, along the image's edges where depth steps.

Between two surfaces a bilinear pixel lies on neither; there each of the four cells around counts
by its colour as well (joint bilateral upsampling, Kopf et al., 2007). The map has more detail than
the grid, which its share brings back.
"""

import cv2
from marigold_ros.geometry.alignment.local_field import bilinear
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Ratio of depths within 3 x 3 cells from which pixels are placed by colour.
_STEP = 1.06
# Change of colour (white is 255) that divides a cell's weight by e, and the weight that remains.
_COLOUR, _LEAST = 12.0, 1e-3
_WINDOW = np.ones((3, 3), np.uint8)


def enlarge_depth(depth: np.ndarray, rgb: np.ndarray | None, grid: WorkGrid) -> np.ndarray:
    """Return depth (rows, columns) in metres at every pixel of the image, (H, W) float32."""
    whole = grid.enlarge(depth)
    if rgb is None or depth.shape == whole.shape:
        return whole
    steps = cv2.dilate(depth, _WINDOW) > np.float32(_STEP) * cv2.erode(depth, _WINDOW)
    size = whole.shape[::-1]
    pixels = np.flatnonzero(cv2.resize(steps.view(np.uint8), size, interpolation=cv2.INTER_LINEAR))
    if len(pixels):
        whole.ravel()[pixels] = _by_colour(pixels, depth, rgb, grid)
    return whole


def _by_colour(
    pixels: np.ndarray, depth: np.ndarray, rgb: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """Depth at pixels (flat indices, (n,)) as a mean of the four cells around, by colour."""
    v, u = np.divmod(pixels, grid.shape[1])
    x = (u + np.float32(0.5)) * np.float32(grid.columns / grid.shape[1])
    y = (v + np.float32(0.5)) * np.float32(grid.rows / grid.shape[0])
    corners, weights = bilinear(x, y, grid.rows, grid.columns)
    cells = grid.shrink(rgb).reshape(-1, 3).astype(np.float32)
    colour = rgb.reshape(-1, 3)[pixels].astype(np.float32)
    away = np.square(cells[corners] - colour).sum(axis=2)
    away -= away.min(axis=0)
    weights = (weights + np.float32(0.02)) * (
        np.exp(away * np.float32(-0.5 / _COLOUR**2)) + np.float32(_LEAST)
    )
    return (weights * depth.ravel()[corners]).sum(axis=0) / weights.sum(axis=0)


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
