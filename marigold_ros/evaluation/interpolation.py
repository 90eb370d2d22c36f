# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""LiDAR alone, interpolated in the image: the baseline that a network has to be worth."""

from __future__ import annotations

import cv2
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
    from scipy.spatial import Delaunay, QhullError

    depth = (interpolate_nearest(sparse, u, v) if nearest is None else nearest.copy()).ravel()
    points = np.column_stack([sparse.u, sparse.v]).astype(np.float64)
    try:
        triangles = Delaunay(points).simplices
    except (QhullError, ValueError):
        return depth.reshape(np.shape(u))
    at = np.column_stack([np.ravel(u), np.ravel(v)]).astype(np.int64)
    triangle = _triangle_at(points, triangles, at)
    inside = np.flatnonzero(triangle >= 0)
    corners = triangles[triangle[inside]]
    weights = _barycentric(points[corners], at[inside].astype(np.float64))
    disparity = (weights / np.asarray(sparse.z, np.float64)[corners]).sum(axis=1)
    depth[inside] = 1.0 / disparity
    return depth.reshape(np.shape(u))


def _triangle_at(points: np.ndarray, triangles: np.ndarray, at: np.ndarray) -> np.ndarray:
    """
    Find the triangle that covers each pixel, -1 outside the hull, by drawing them all.

    SciPy's own search solves a 2x2 system per triangle with LAPACK, whose threads wait for each
    other: 2 ms on an idle machine, up to 8 s beside a busy process.
    """
    corner = points.max(axis=0).astype(np.int64)
    drawn = np.full((corner[1] + 1, corner[0] + 1), -1, np.int32)
    polygons = points.astype(np.int32)[triangles]
    sides = polygons[:, 1:] - polygons[:, :1]
    area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    # Drawing includes the outline, so thin triangles would take pixels from wide ones: wide ones
    # last.
    for number in np.argsort(area, kind='stable'):
        cv2.fillConvexPoly(drawn, polygons[number], int(number))
    within = ((at >= 0) & (at <= corner)).all(axis=1)
    found = np.full(len(at), -1, np.int64)
    found[within] = drawn[at[within, 1], at[within, 0]]
    return found


def _barycentric(corners: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Weights (n, 3) of the corners (n, 3, 2) at the positions (n, 2); they sum to 1."""
    a, b = corners[:, 0] - corners[:, 2], corners[:, 1] - corners[:, 2]
    p = at - corners[:, 2]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    # Corners are whole pixels, so a sliver without area has exactly none; its third corner counts.
    safe = np.where(area == 0, 1.0, area)
    first = (p[:, 0] * b[:, 1] - p[:, 1] * b[:, 0]) / safe
    second = (a[:, 0] * p[:, 1] - a[:, 1] * p[:, 0]) / safe
    weights = np.column_stack([first, second, 1.0 - first - second])
    weights[area == 0] = (0.0, 0.0, 1.0)
    # A pixel on a drawn edge can lie a fraction of a pixel outside; it keeps to the triangle.
    weights = np.clip(weights, 0.0, None)
    return weights / weights.sum(axis=1, keepdims=True)
