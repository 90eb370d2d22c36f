# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What measured pixels say of those around them. Letters: H, W image, M points."""

import cv2
from marigold_ros.geometry.median import median
from marigold_ros.kernels.compiled import compiled
from marigold_ros.kernels.neighbours import nearest_neighbours
import numpy as np

# Points at which the distance between neighbours is measured.
_SAMPLES = 400
Points = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Pixels from a point to those of which depth may be its own.
_REACH = 2
_WINDOW = 2 * _REACH + 1, 2 * _REACH + 1
# Deviation, px, by which a point's weight falls, change of depth that halves it, and the weight of
# no change.
_NEAR, _ALIKE, _PRIOR = 0.8, 0.3, 0.1
# Difference of log depth from its mean around that halves what is drawn: a slope has none.
_BEND = 0.04


def pixel_order(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the indices (M,) that sort pixels by row, then by column."""
    place = v * (int(u.max(initial=0)) + 1) + u
    if (place[1:] >= place[:-1]).all():  # as projected points are
        return np.arange(len(place))
    return np.lexsort((u, v))


def some_of(u: np.ndarray, v: np.ndarray, most: int) -> np.ndarray:
    """Return the indices of ``most`` points at most, over the image, whatever the order of all."""
    return pixel_order(u, v)[:: max(1, -(-len(u) // most))]


def spacing_of(u: np.ndarray, v: np.ndarray) -> float:
    """Return the typical distance of one of at least two pixels (M,) to the nearest other."""
    some = some_of(u, v, _SAMPLES)
    near = nearest_neighbours((u, v), (u[some], v[some]), 2)
    across, down = (side[near[:, 1]] - side[near[:, 0]] for side in (u, v))
    return median(np.hypot(across, down))


def difference_of_neighbours(u: np.ndarray, v: np.ndarray, z: np.ndarray, most: int) -> float:
    """Return how much points (M,), ``most`` at most, differ from their three nearest, in log z."""
    some, log_depth = some_of(u, v, most), np.log(z.astype(np.float64))
    near = nearest_neighbours((u, v), (u[some], v[some]), 4)
    return median(np.abs(np.median(log_depth[near[:, 1:]], axis=1) - log_depth[some]))


def hull_of(seen: np.ndarray) -> np.ndarray:
    """Return the pixels in the convex hull of those that are not 0; both (h, w), bool."""
    inside = np.zeros(seen.shape, np.uint8)
    rows = np.flatnonzero(seen.any(axis=1))
    if len(rows) == 0:
        return inside > 0
    # The ends of each row span the hull: of dense points far fewer than all.
    known = seen[rows] > 0
    first, last = known.argmax(axis=1), known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    ends = np.stack([np.append(first, last), np.append(rows, rows)], axis=1)
    return cv2.fillConvexPoly(inside, cv2.convexHull(ends.astype(np.int32)), 1) > 0


@compiled()
def range_around(depth: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest depth (H, W) around pixels, beside a step, (M,) each."""
    height, width = depth.shape
    least, largest = np.empty(len(u), np.float32), np.empty(len(u), np.float32)
    for k in range(len(u)):
        low = high = depth[v[k], u[k]]
        for y in range(max(v[k] - _REACH, 0), min(v[k] + _REACH + 1, height)):
            for x in range(max(u[k] - _REACH, 0), min(u[k] + _REACH + 1, width)):
                low, high = min(low, depth[y, x]), max(high, depth[y, x])
        least[k], largest[k] = low, high
    return least, largest


def spread_at(pixel: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum values (M,) at flat pixels over a Gaussian of 1 px, of height 1, (H, W) float32."""
    image = np.zeros(shape, np.float32)
    image.ravel()[pixel] = values * np.float32(2.0 * np.pi)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0, dst=image))


def draw_to_points(depth: np.ndarray, points: Points, fixed: np.ndarray) -> np.ndarray:
    """
    Draw depth (H, W) beside steps to the points of the surface that each pixel is close to.

    ``points`` are u, v, depth and weight, (M,) each. The weight falls with distance and with the
    change of depth, as in a bilateral filter (Tomasi and Manduchi, ICCV 1998). The flat pixels
    ``fixed`` (M,) stay, as slopes do. Returns (H, W) float32.
    """
    stays = np.zeros(depth.shape, np.uint8)
    stays.ravel()[fixed] = True
    u, v, z, sound = points
    # Points among pixels that all stay have nothing to draw: most of those of a depth camera.
    drawing = np.flatnonzero(cv2.erode(stays, np.ones(_WINDOW, np.uint8))[v, u] == 0)
    points = u[drawing], v[drawing], z[drawing], sound[drawing]
    near = np.exp(np.square(np.arange(-_REACH, _REACH + 1)) / (-2.0 * _NEAR**2))
    kernel = np.outer(near, near).astype(np.float32)
    change, weight = _change_around(depth, points, stays, kernel, np.float32(1.0 / _ALIKE))
    weight += np.float32(_PRIOR)
    cv2.divide(change, weight, change)
    log_depth, bend = cv2.log(depth), np.zeros_like(depth)
    inner = np.s_[_REACH:-_REACH, _REACH:-_REACH]  # whose means do not go over the border
    bend[inner] = cv2.absdiff(log_depth, cv2.blur(log_depth, _WINDOW))[inner]
    cv2.dilate(bend, np.ones(_WINDOW, np.uint8), dst=bend)
    bend *= bend
    change *= bend
    bend += np.float32(_BEND**2)
    cv2.divide(change, bend, change)
    change += np.float32(1.0)
    return np.asarray(cv2.multiply(depth, change, change))


@compiled()
def _change_around(
    depth: np.ndarray, points: Points, stays: np.ndarray, kernel: np.ndarray, unlike: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Sum by how much points change depth, relative to it, and their weights, (H, W) each."""
    (height, width), (u, v, z, sound), one = depth.shape, points, np.float32(1.0)
    change, weights = np.zeros_like(depth), np.zeros_like(depth)
    rows, columns = kernel.shape
    for k in range(len(u)):
        top, left = v[k] - rows // 2, u[k] - columns // 2
        for j in range(max(-top, 0), min(height - top, rows)):
            for i in range(max(-left, 0), min(width - left, columns)):
                y, x = top + j, left + i
                if not stays[y, x]:
                    apart = z[k] / depth[y, x] - one
                    away = unlike * apart
                    weight = sound[k] * kernel[j, i] / (one + away * away)
                    change[y, x] += weight * apart
                    weights[y, x] += weight
    return change, weights
