# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Which pixels of an image show the ground, where nothing but its plane gives metres.

A map that errs on things standing on the ground puts them where the ground behind them is. So the
image must agree as well: from the lower border up, each column is ground as long as its colour is
that of the ground ahead, without an edge, and the map lies on the plane. An obstacle's foot is an
edge, and ends its column. What is missed is ground of another colour, shadows and markings.
"""

import cv2
from marigold_ros.frame import GroundPlane
from marigold_ros.geometry.ground.plane import plane_depth
import numpy as np

# Columns of the working image.
_COLUMNS = 320
# The ground ahead: share of the rows, and of the columns, at the lower border in the middle.
_ROWS, _MIDDLE = 0.15, 0.5
# Deviations of colour and gradients, as multiples of those ahead, up to which it is ground; the
# least ones, for ground without texture, in CIELAB of 8 bits and grey levels a pixel.
_COLOUR, _EDGE = 2.5, 2.0
_LEAST_DEVIATION, _LEAST_EDGE = (3.0, 1.5, 1.5), 1.0
# Log ratio of the map's depth to the plane's.
_ON_PLANE = 0.15


def visible_ground(
    rgb: np.ndarray, metric: np.ndarray, K: np.ndarray, plane: GroundPlane
) -> np.ndarray:
    """
    Return the pixels (H, W) bool at which image and map show the ground.

    ``rgb`` (H, W, 3) uint8 is the rectified image with intrinsics ``K`` in pixels, ``metric`` (H,
    W) the map in metres, fitted to the plane; NaN is unknown.
    """
    height, width = metric.shape
    size = min(width, _COLUMNS), max(1, round(height * min(1.0, _COLUMNS / width)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    v, u = np.mgrid[: size[1], : size[0]]
    v, u = (v + 0.5) * height / size[1] - 0.5, (u + 0.5) * width / size[0] - 0.5
    ground = plane_depth(plane, K, u, v)
    known = metric[np.rint(v).astype(np.intp), np.rint(u).astype(np.intp)]
    with np.errstate(invalid='ignore', divide='ignore'):
        on_plane = np.abs(np.log(known / ground)) < _ON_PLANE
    shown = cv2.medianBlur((on_plane & _like_ahead(small)).view(np.uint8), 5)
    shown = np.minimum.accumulate(shown[::-1], axis=0)[::-1]
    return cv2.resize(shown, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _like_ahead(rgb: np.ndarray) -> np.ndarray:
    """Return where an image (h, w, 3) has the colour of the ground ahead, and no edge."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 0.8)
    across, down = (cv2.Sobel(light, cv2.CV_32F, dx, 1 - dx, scale=0.125) for dx in (1, 0))
    gradient = np.hypot(across, down)
    height, width = light.shape
    edge = round(width * (1.0 - _MIDDLE) / 2)
    ahead = np.s_[round(height * (1.0 - _ROWS)) - 1 :, edge : width - edge]
    colour = np.median(lab[ahead], axis=(0, 1))
    deviation = 1.4826 * np.median(np.abs(lab[ahead] - colour), axis=(0, 1))
    off = np.abs(lab - colour) / np.maximum(deviation, _LEAST_DEVIATION)
    most = max(_LEAST_EDGE, _EDGE * float(np.median(gradient[ahead])))
    return (off.max(axis=2) < _COLOUR) & (gradient < most)
