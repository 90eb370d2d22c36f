# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""LiDAR alone, interpolated in the image: the baseline that a network has to be worth."""

from __future__ import annotations

from marigold_ros.frame import SparseDepth
import numpy as np


def interpolate_nearest(sparse: SparseDepth, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Give each pixel the depth of the nearest fit point in the image; metres, shape of ``u``."""
    from scipy.spatial import cKDTree

    tree = cKDTree(np.column_stack([sparse.u, sparse.v]).astype(np.float64))
    _, index = tree.query(np.column_stack([np.ravel(u), np.ravel(v)]).astype(np.float64))
    return np.asarray(sparse.z, dtype=np.float64)[index].reshape(np.shape(u))


def interpolate_linear(
    sparse: SparseDepth, u: np.ndarray, v: np.ndarray, nearest: np.ndarray | None = None
) -> np.ndarray:
    """
    Interpolate disparity barycentrically in the Delaunay triangles of the fit points.

    Disparity of a flat surface is linear in the image, so walls and roads come out exactly; log
    depth did worse on a street drive (0.149 against 0.145 mean relative error). Outside the hull,
    and where the points span no triangle, the nearest point counts (``nearest``, if it is known).
    Metres, float64, shape of ``u``.
    """
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    depth = interpolate_nearest(sparse, u, v) if nearest is None else nearest
    points = np.column_stack([sparse.u, sparse.v]).astype(np.float64)
    try:
        plane = LinearNDInterpolator(points, 1.0 / np.asarray(sparse.z, np.float64))
    except (QhullError, ValueError):
        return depth
    disparity = plane(np.asarray(u, np.float64), np.asarray(v, np.float64))
    return np.where(np.isfinite(disparity), 1.0 / disparity, depth)
