# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The correction of a fitted map on the ground, which ends where the ground does."""

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.affine_fit import robust_deviation
from marigold_ros.geometry.alignment.kriging_field import grid_shape
import numpy as np

# Points on the ground, about as many to an image, however large.
_POINTS = 12_000
# Share of the cells around that may lack a point before the correction fades.
_LACKING = 0.3


def ground_spacing(shape: tuple[int, ...]) -> int:
    """Return the distance of neighbouring points on the ground of an image (H, W), pixels."""
    return max(1, round(float(np.sqrt(shape[0] * shape[1] / _POINTS))))


def ground_field(
    sparse: SparseDepth, residual: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray | None:
    """
    Return a factor on the depth of an image (H, W), on a coarse grid; 1 away from the points.

    ``residual`` (M,) is the log ratio of the plane's depth to the fitted map's. Of it each point
    takes the share that the map's error has in both errors; None without any known residual.
    """
    known = np.isfinite(residual)
    if not known.any():
        return None
    ratio = residual[known]
    of_map = robust_deviation(ratio)
    of_plane = np.zeros(1) if sparse.sigma is None else (sparse.sigma / sparse.z)[known]
    wanted = ratio * (of_map**2 / np.maximum(of_map**2 + of_plane**2, 1e-12))
    rows, columns = grid_shape(shape)
    row, column = sparse.v[known] * rows // shape[0], sparse.u[known] * columns // shape[1]
    weights = wanted, np.ones_like(wanted)
    place, size = row * columns + column, rows * columns
    sums = (np.bincount(place, weight, size).reshape(rows, columns) for weight in weights)
    spacing = ground_spacing(shape) * columns / shape[1]
    total, count = (cv2.GaussianBlur(part, (0, 0), max(0.5, spacing)) for part in sums)
    expected = (1.0 - _LACKING) * min(1.0, spacing**-2)
    return np.asarray(np.exp(total / np.maximum(count, expected)), np.float32)
