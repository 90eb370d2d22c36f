# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Sigma where a sensor could not have points: beyond its range, or off the one plane or line it saw.

Points held out say nothing of these errors, as none of them lies there.
"""

import cv2
from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.geometry.alignment.local_field import median_gap
from marigold_ros.point_kinds import PointKind
import numpy as np

# The farthest of the points, as a quantile, and the share of that depth from which a pixel without
# points may lie beyond the sensor's range.
_FARTHEST, _NEAR_LIMIT = 0.99, 0.85
# A pixel is without points where none is within this many mean distances between points; from a
# pixel to the nearest of points anywhere it is less than half of one, in the median.
_EMPTY, _PER_GAP = 2.0, 2.0
# Relative error there that 68 % stay below: on synthetic rooms of 4 to 10 m with a range of 4 m,
# docs/without-a-lidar.md. Off the plane of all points it is 0.1 to 0.7 in synthetic rooms and 0.4
# to 1.7 in mixed scenes.
_UNSEEN = 0.45
# Of cells of so many pixels, where a tenth or more of an image's have a point, nearly all of those
# of a depth camera have one in each of their four neighbours; those of lines do not.
_CELL, _SEEN, _FILLED = 4, 0.1, 0.8
# Points are on a line if their deviation across it is below this part of the image's width.
_FEWEST, _NARROW = 3, 0.01
# All points are on a plane if so many are within a part of their depth; a sample is enough.
_ON_PLANE, _OFF, _SAMPLE = 0.95, 0.03, 500
# Fits of the plane, each to the half of the points that is nearer to the one before; of few points
# to more of them, or it would follow their noise.
_FITS, _OF_FEW = 4, 12


def widen_unseen(sigma: np.ndarray, alignment: Alignment, sparse: SparseDepth) -> np.ndarray:
    """Widen sigma, (H, W) metres, where the sensor has no points and may not have been able to."""
    metric = alignment.metric
    if metric is None or len(sparse) == 0 or not sparse.kind.extends:
        return sigma
    height, width = metric.shape
    empty = np.ones((height, width), np.uint8)
    empty[sparse.v, sparse.u] = 0
    some = np.arange(0, len(sparse), max(1, len(sparse) // _SAMPLE))
    if alignment.inlier is not None:
        some = some[alignment.inlier[some]]
    u, v, z = sparse.u[some], sparse.v[some], sparse.z[some]
    line = is_line(u, v, width)
    if line and alignment.led_by == 'map':
        return sigma  # it foretold parts of the line; those of a plane most maps foretell
    if line or is_plane(u, v, z):
        spacing = _PER_GAP * median_gap(sparse.u, sparse.v, (height, width), among=True)[0]
        least = 0.0
    elif sparse.kind is PointKind.DEPTH_CAMERA or fills_areas(empty):
        spacing = float(np.sqrt(metric.size / len(sparse)))
        least = _NEAR_LIMIT * float(np.quantile(sparse.z, _FARTHEST))
    else:
        return sigma
    distance = cv2.distanceTransform(empty, cv2.DIST_L2, 3)
    unseen = (distance > _EMPTY * spacing) & (metric > least)
    return np.where(unseen, np.maximum(sigma, np.float32(_UNSEEN) * metric), sigma)


def is_line(u: np.ndarray, v: np.ndarray, width: int) -> bool:
    """Whether points are on one line of an image of a width, as those of a planar laser are."""
    if len(u) < _FEWEST:
        return True
    across = np.linalg.eigvalsh(np.cov(u, v))[0]
    return bool(across < (_NARROW * width) ** 2)


def is_plane(u: np.ndarray, v: np.ndarray, z: np.ndarray) -> bool:
    """Whether nearly all points are on one plane, whose inverse depth is linear in the image."""
    basis = np.stack([z, z * (u - u.mean()), z * (v - v.mean())], axis=1).astype(np.float64)
    near, last = np.ones(len(z), bool), max(len(z) // 2, min(len(z), _OF_FEW) - 1)
    for _ in range(_FITS):
        used = basis[near]
        plane = np.linalg.lstsq(used.T @ used, used.sum(axis=0), rcond=None)[0]
        off = np.abs(basis @ plane - 1.0)
        near = off <= max(np.partition(off, last)[last], _OFF)
    return bool(np.mean(off < _OFF) >= _ON_PLANE)


def fills_areas(empty: np.ndarray) -> bool:
    """Whether pixels that are not empty (H, W) uint8 fill areas, as those of a depth camera do."""
    rows, columns = (max(1, side // _CELL) for side in empty.shape)
    if empty.size - np.count_nonzero(empty) < _SEEN * rows * columns:
        return False
    seen = cv2.resize(255 * (1 - empty), (columns, rows), interpolation=cv2.INTER_AREA) > 0
    around = cv2.erode(seen.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return bool(np.count_nonzero(around) > _FILLED * np.count_nonzero(seen))
