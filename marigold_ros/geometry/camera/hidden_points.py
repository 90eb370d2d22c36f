# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Points that a LiDAR sees and the camera does not, as something nearer is in front of them.

A LiDAR beside or above the camera sees past objects: returns from behind land on the object's
pixels with the background's depth. Two tests find them. Within a window around a pixel, returns
far behind the nearest one are hidden, as in Marigold-DC after Conti et al.; that takes returns as
close as the window. The other needs but a few lines: in a plane through both sensors, opaque
surfaces appear in the same order to both, so a point that the camera sees in the midst of nearer
ones, and the LiDAR beside them, is behind their surface (the ordering constraint of stereo vision,
Baker and Binford 1981).
"""

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.median import median
from marigold_ros.kernels.compiled import compiled
import numpy as np

_FAR = np.float32(1e9)
# Metres up to which a threshold holds; farther it is the same part of depth, as surfaces recede.
_NEAR = np.float32(100.0)
# Neighbours in a plane are on one surface up to this ratio of their depths; what is behind it is
# so many times as deep. Chosen on synthetic drives.
_SURFACE, _BEHIND = 1.3, 1.1
# Radians of a plane at least, and surfaces of it that a point is compared to: whatever a scan
# holds, time and memory are bounded.
_FINEST, _MOST = 1e-4, 500


def nearest_per_pixel(u: np.ndarray, v: np.ndarray, z: np.ndarray, width: int) -> np.ndarray:
    """Return the indices of the nearest point in each pixel, in order of pixels."""
    pixel = v * width + u
    nearest = np.full(int(pixel.max(initial=-1)) + 1, np.inf, dtype=z.dtype)
    np.minimum.at(nearest, pixel, z)
    first = np.flatnonzero(z == nearest[pixel])
    winner = np.empty(len(nearest), dtype=np.intp)
    # The last assignment to an index stays: one of equally near returns wins.
    winner[pixel[first]] = first
    return winner[np.flatnonzero(nearest < np.inf)]


def nearest_known(sparse: SparseDepth, width: int) -> SparseDepth:
    """Return the nearest known depth in each pixel of an image so wide."""
    known = np.flatnonzero(np.isfinite(sparse.z) & (sparse.z > 0))
    first = nearest_per_pixel(sparse.u[known], sparse.v[known], sparse.z[known], width)
    unknown, farther = len(sparse) - len(known), len(known) - len(first)
    return sparse.kept(known[first], not_finite=unknown, farther_in_pixel=farther)


def not_hidden(
    u: np.ndarray, v: np.ndarray, z: np.ndarray, window: int, threshold: float
) -> np.ndarray:
    """
    Return a mask (M,) of the points not hidden by a nearer one in their window.

    At most one point per pixel; ``window`` in pixels, ``threshold`` in metres up to 100 m.
    """
    if window <= 1 or len(z) == 0:
        return np.ones(len(z), dtype=bool)
    left, top = u.min(), v.min()
    nearest = np.full((v.max() - top + 1, u.max() - left + 1), _FAR, dtype=np.float32)
    nearest[v - top, u - left] = z
    kernel = np.ones((window, window), dtype=np.uint8)
    nearest = cv2.erode(
        nearest, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(float(_FAR),) * 4
    )
    first = nearest[v - top, u - left]
    return z <= first + np.float32(threshold) * np.maximum(first / _NEAR, np.float32(1.0))


def behind_surfaces(
    points: np.ndarray, lidar: np.ndarray, seen: np.ndarray, angle: float
) -> np.ndarray:
    """
    Return a mask (M,) of the points behind a surface of others, as the camera sees them.

    ``points`` (3, N) float32 are a scan in the camera's frame, in front of it, made at ``lidar``
    (3,), not in the camera's place; metres. Points outside the image are parts of surfaces, too;
    ``seen`` (M,) are the indices of those in the image, which are asked for. ``angle`` is that
    between neighbours of the scan, in radians.
    """
    distance = float(np.linalg.norm(lidar))
    along = lidar / distance
    # From the baseline towards the middle of the image.
    ahead = np.eye(3)[0 if abs(along[2]) > 1.0 - 1e-6 else 2]
    ahead = ahead - (ahead @ along) * along
    ahead /= np.linalg.norm(ahead)
    axes = np.stack((ahead, np.cross(along, ahead), along)).astype(np.float32)
    first, across, towards = axes @ points
    away = np.maximum(np.hypot(first, across), np.float32(1e-6))
    # Cotangents of the angles at both sensors, from the baseline.
    camera, scan = towards / away, (towards - np.float32(distance)) / away
    # As thick as neighbours are apart; two planes side by side are looked at together.
    thickness = max(angle / median(1.0 / np.sqrt(1.0 + np.square(scan[seen]))), _FINEST)
    plane = np.floor(np.arctan2(across, first) / thickness).astype(np.int64)
    plane -= plane.min()
    taken = np.zeros(int(plane.max()) + 3, dtype=bool)
    taken[plane[seen] + 1] = True
    near = taken[:-2] | taken[1:-1] | taken[2:]
    some = np.flatnonzero(near[plane])
    # By planes, and in each of them from far of the LiDAR's side towards it.
    some = some[np.argsort(plane[some] + 0.5 + 0.5 * scan[some] / (1.0 + np.abs(scan[some])))]
    starts = np.searchsorted(plane[some], np.arange(len(near) + 2))
    asked = np.zeros(points.shape[1], dtype=bool)
    asked[seen] = True
    hidden = np.zeros(points.shape[1], dtype=bool)
    hidden[some] = out_of_order(starts, scan[some], camera[some], points[2, some], asked[some])
    return hidden[seen]


@compiled()
def out_of_order(
    starts: np.ndarray, scan: np.ndarray, camera: np.ndarray, z: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """
    Find the points (n,), of those asked for, behind a surface of their plane or the one beside.

    Each plane begins at its place in ``starts`` and is sorted by ``scan``, the order in which the
    LiDAR sees visible points; in that order ``camera`` increases, too. ``z`` is depth.
    """
    hidden = np.zeros(len(z), np.bool_)
    low, high, depth = np.empty(len(z)), np.empty(len(z)), np.empty(len(z))
    for plane in range(len(starts) - 2):
        one, middle, end = starts[plane], starts[plane + 1], starts[plane + 2]
        other = middle
        surfaces, kept, last, highest, nearest = 0, 0, 0, -np.inf, np.inf
        while one < middle or other < end:
            is_one = other == end or (one < middle and scan[one] <= scan[other])
            i, stop = (one, middle) if is_one else (other, end)
            after = i + 1
            # A point that is sent twice, as in dual return mode, is no surface by itself.
            while after < stop and scan[after] == scan[i] and z[after] == z[i]:
                after += 1
            one, other = (after, other) if is_one else (one, after)
            behind = False  # in these two planes
            if asked[i:after].any() and camera[i] < highest and z[i] > _BEHIND * nearest:
                for j in range(max(surfaces - _MOST, 0), surfaces):
                    if low[j] <= camera[i] <= high[j] and z[i] > _BEHIND * depth[j]:
                        behind = True
                        break
            if behind:
                hidden[i:after] = True
                continue
            if kept > 0 and z[i] < _SURFACE * z[last] and z[last] < _SURFACE * z[i]:
                # The first surface goes on beyond the scan: things stand on the ground.
                low[surfaces] = -np.inf if kept == 1 else min(camera[i], camera[last])
                high[surfaces] = max(camera[i], camera[last])
                depth[surfaces] = max(z[i], z[last])
                nearest = min(nearest, depth[surfaces])
                surfaces += 1
            last, kept, highest = i, kept + 1, max(highest, camera[i])
    return hidden
