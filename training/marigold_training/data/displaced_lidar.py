# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What a LiDAR beside the camera measures: it sees past edges, and through windows.

Its rays pass over a car that hides from the camera what they hit behind it. In the image such a
point lies on the car, at the depth of what is far behind.
"""

import cv2
from marigold_ros.geometry.camera.hidden_points import nearest_per_pixel, not_hidden
import numpy as np

# Displacement of near things between both views, as a share of the image's width: 0.08 m between
# LiDAR and camera displace a car at 6 m by 0.008, 0.3 m by 0.04.
_DISPLACED = (0.002, 0.06)
# Quantile of depth that is near, and steps of a ray in pixels.
_NEAR, _STEP = 0.05, 0.5
# A surface behind which a ray would go on by more pixels of displacement hides what is there.
_THICK = 1.0
# Mostly the LiDAR is above the camera, give or take degrees.
_ABOVE, _TILT = 0.8, 15.0
# Window of the occlusion test, 7 pixels of an image three times as wide, and its threshold in m.
_WINDOW, _HIDDEN = 3, 1.5
_WINDOWS, _FARTHER = (1, 6), (1.3, 8.0)

Points = tuple[np.ndarray, np.ndarray, np.ndarray]


def seen_from_beside(
    rng: np.random.Generator, depth: np.ndarray, u: np.ndarray, v: np.ndarray
) -> Points:
    """
    Measure depth (H, W) in metres along the rays of a LiDAR displaced at random.

    ``u`` and ``v`` (M,) are the pixels of its rays at infinity. Returns columns, rows and depth of
    what they hit in the camera's image, of the points that pass the occlusion test.
    """
    near = float(np.quantile(depth[np.isfinite(depth) & (depth > 0)], _NEAR))
    shift = np.exp(rng.uniform(*np.log(_DISPLACED))) * depth.shape[1]
    angle = np.radians(rng.normal(90, _TILT) if rng.random() < _ABOVE else rng.uniform(0, 360))
    towards = np.array((np.cos(angle), np.sin(angle)))
    return displaced(depth, u, v, shift * near * towards)


def displaced(depth: np.ndarray, u: np.ndarray, v: np.ndarray, baseline: np.ndarray) -> Points:
    """
    Follow rays of a LiDAR through depth (H, W) seen by the camera.

    ``baseline`` (x, y), pixels times metres: what is at depth z appears in the LiDAR's view by
    ``baseline / z`` beside its place in the image. Hidden ground goes on from what is seen beside.
    """
    height, width = depth.shape
    length = float(np.hypot(*baseline))
    with np.errstate(invalid='ignore', divide='ignore'):
        disparity = np.where(np.isfinite(depth) & (depth > 0), length / depth, 0.0)
    along = baseline / max(length, 1e-9)
    hit = np.zeros(len(u))  # displacement of what the ray hits, pixels
    before = np.zeros(len(u))  # that of the surface before which the ray is
    flying = np.ones(len(u), bool)
    # From near to far: the nearest thing is displaced most.
    for place in np.arange(float(disparity.max()) + _STEP, -_STEP, -_STEP):
        column = np.clip(_rounded(u - along[0] * place), 0, width - 1)
        row = np.clip(_rounded(v - along[1] * place), 0, height - 1)
        surface = disparity[row, column]
        reached = surface >= place
        # Behind a thin edge the ray goes on to the surface that it was before.
        arrived = reached & (surface - place <= _THICK)
        ends = flying & (arrived | (reached & (before > 0) & (before >= place)))
        hit[ends] = np.where(arrived, surface, before)[ends]
        flying &= ~ends
        before = np.where(reached, before, surface)
    found = hit > 0
    u, v, hit = u[found], v[found], hit[found]
    u, v = _rounded(u - along[0] * hit), _rounded(v - along[1] * hit)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v, z = u[inside], v[inside], (length / hit[inside]).astype(np.float32)
    first = nearest_per_pixel(u, v, z, width)
    u, v, z = u[first], v[first], z[first]
    shown = not_hidden(u, v, z, _WINDOW, _HIDDEN)
    return u[shown], v[shown], z[shown]


def _rounded(place: np.ndarray) -> np.ndarray:
    """Round halves upward: np.rint would put two neighbours into one pixel."""
    return np.floor(place + 0.5).astype(np.intp)


def through_windows(
    rng: np.random.Generator, z: np.ndarray, u: np.ndarray, v: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """
    Return depth of points (M,) of which those in some windows are what is behind.

    ``u``, ``v`` (M,) are their pixels in an image of ``shape`` (H, W). NaN where nothing returns.
    """
    z = z.copy()
    for _ in range(int(rng.integers(*_WINDOWS))):
        pane = np.zeros(shape, np.uint8)
        middle, size = rng.uniform((0, 0), shape[::-1]), rng.uniform(0.02, 0.15, 2) * shape[1]
        ways = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)))
        corners = middle + size * rng.uniform(0.3, 1.0, (4, 2)) * ways
        cv2.fillConvexPoly(pane, np.rint(corners).astype(np.int32), 1)
        within = pane[v, u] > 0
        z[within] *= np.nan if rng.random() < 0.4 else np.exp(rng.uniform(*np.log(_FARTHER)))
    return z
