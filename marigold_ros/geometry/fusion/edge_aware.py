# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Weights between neighbouring cells of a grid, small where an edge of the image is.

With them `kernels.grid_solver` makes depth that steps at edges only (Farbman et al., 2008, with
points for data). The changes of a texture differ from cell to cell, those of an edge are alike
along it (relative total variation, Xu et al., 2012).
"""

import cv2
import numpy as np

# Change of colour (CIELAB, white is 1) that divides the weight of an edge by e, and its least.
_COLOUR, _LEAST = 0.03, 0.0005
# Part of a change that counts in a texture, and what an edge adds to it; changes as small as the
# last one are noise, and neither.
_TEXTURE, _EDGE, _NOISE = 0.25, 1.2, 0.01
_AROUND = (3, 3)


def edge_weights(rgb: np.ndarray | None, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Return weights between neighbours in rows (h, w - 1) and in columns (h - 1, w); float32.

    ``rgb`` (h, w, 3) of 0 to 255 is the image on the grid of ``shape`` (h, w); None has no edges.
    """
    rows, columns = shape
    if rgb is None:
        return np.ones((rows, columns - 1), np.float32), np.ones((rows - 1, columns), np.float32)
    bright = np.rint(rgb).astype(np.float32) * np.float32(1 / 255)
    colour = cv2.cvtColor(bright, cv2.COLOR_RGB2Lab) * np.float32(0.01)
    weights = []
    for axis in (1, 0):
        change = np.diff(colour, axis=axis)
        size = _length(change)
        alike = _length(cv2.blur(change, _AROUND)) / (cv2.blur(size, _AROUND) + np.float32(_NOISE))
        size *= (np.float32(_TEXTURE) + np.float32(_EDGE) * alike) * np.float32(-1 / _COLOUR)
        weights.append(np.maximum(np.exp(size), np.float32(_LEAST)))
    return weights[0], weights[1]


def typical_weight(edges: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the geometric mean of weights between neighbours."""
    return float(np.exp(np.mean(np.log(np.concatenate([part.ravel() for part in edges])))))


def _length(change: np.ndarray) -> np.ndarray:
    """Return the length (h, w) of changes of colour (h, w, 3)."""
    return np.sqrt(cv2.transform(np.square(change), np.ones((1, 3), np.float32)))
