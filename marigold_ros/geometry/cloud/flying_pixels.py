# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Flying pixels: depth on the ramp between two surfaces, where there is nothing.

A pixel is flying if depth is steep on both sides of it and most of the change over twice the width
happens within it, on any of four pyramid levels. A road at a grazing angle is as steep but goes
on: its inverse depth is linear in the image.
"""

import math

import cv2
import numpy as np

# Pixels on each side, and pixel spacing of the levels: ramps of 4 to 32 px.
_REACH, _LEVELS = 2, (1, 2, 4, 8)
# Share of the change of inverse depth over twice the width: a plane has 0.5, a step 1.
_ENDING = 0.75
# Pixels at a time: intermediate arrays stay in the cache.
_CHUNK = 1 << 15


def flying_pixels(depth: np.ndarray, K: np.ndarray, max_angle: float = 80.0) -> np.ndarray:
    """
    Find the pixels on ramps between two surfaces, (H, W) bool.

    Depth (H, W) is in metres; values that are not finite are never flying. Ramps have at least
    ``max_angle`` degrees between ray and normal on the optical axis; 90 finds none. The result is
    the same for ``k * depth``, up to rounding. ``K`` are the intrinsics in pixels.
    """
    height, width = depth.shape
    flying = np.zeros((height, width), dtype=bool)
    if max_angle >= 90:
        return flying
    # Change of log depth from one pixel to the next of a plane seen at this angle.
    tangent = math.tan(math.radians(max_angle))
    right, down = tangent / float(K[0, 0]), tangent / float(K[1, 1])
    depth = depth.astype(np.float32, copy=False)
    valid = (depth > 0) & (depth < np.inf)
    if not valid.all():
        depth = np.where(valid, depth, np.float32(np.nan))
    log, inverse = np.log(depth), np.divide(1, depth)
    for level in _LEVELS:
        every = np.s_[level // 2 :: level, level // 2 :: level]
        flat = log[every].ravel(), inverse[every].ravel()
        found = np.zeros(log[every].shape, dtype=bool)
        rows, columns = found.shape
        if not found.size:
            break
        _mark_ramps(found.ravel(), *flat, 1, level * right)
        # Rows are one long line: ramps over their ends are none.
        found[:, : 2 * _REACH] = found[:, max(0, columns - 2 * _REACH) :] = False
        _mark_ramps(found.ravel(), *flat, columns, level * down)
        size = (columns * level, rows * level)
        blocks = cv2.resize(found.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        flying[: size[1], : size[0]] |= blocks[:height, :width].view(bool)
    return flying


def _mark_ramps(
    found: np.ndarray, log: np.ndarray, inverse: np.ndarray, spacing: int, slope: float
) -> None:
    """Mark where depth, as log and inverse (n,), has ramps; neighbours are ``spacing`` apart."""
    reach, limit = _REACH * spacing, np.float32(_REACH * slope)
    for start in range(2 * reach, log.size - 2 * reach, _CHUNK):
        stop = min(start + _CHUNK, log.size - 2 * reach)
        step = log[start : stop + reach] - log[start - reach : stop]
        up, down = step > limit, step < -limit
        steep = (up[:-reach] & up[reach:]) | (down[:-reach] & down[reach:])
        within = inverse[start + reach : stop + reach] - inverse[start - reach : stop - reach]
        over = inverse[start + 2 * reach : stop + 2 * reach]
        over = over - inverse[start - 2 * reach : stop - 2 * reach]
        found[start:stop] |= steep & (np.abs(within) > np.float32(_ENDING) * np.abs(over))
