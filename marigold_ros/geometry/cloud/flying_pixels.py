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
# Rows at a time: intermediate arrays stay in the cache, several times as fast.
_BAND = 64


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
    depth = depth.astype(np.float32)
    depth[~((depth > 0) & (depth < np.inf))] = np.nan
    log, inverse = np.log(depth), np.divide(1, depth, out=depth)
    for level in _LEVELS:
        every = np.s_[level // 2 :: level, level // 2 :: level]
        found = np.zeros(log[every].shape, dtype=bool)
        if not found.size:
            break
        _mark_ramps(found, log[every], inverse[every], level * right)
        _mark_ramps(found.T, log[every].T, inverse[every].T, level * down)
        size = (found.shape[1] * level, found.shape[0] * level)
        blocks = cv2.resize(found.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        flying[: size[1], : size[0]] |= blocks[:height, :width].view(bool)
    return flying


def _mark_ramps(found: np.ndarray, log: np.ndarray, inverse: np.ndarray, slope: float) -> None:
    """Mark where depth, as log and inverse, has ramps along rows steeper than ``slope``."""
    inside = found[:, 2 * _REACH : -2 * _REACH]
    if inside.shape[1]:
        for band in (slice(top, top + _BAND) for top in range(0, len(log), _BAND)):
            inside[band] |= _ramp_of_band(log[band], inverse[band], slope)


def _ramp_of_band(log: np.ndarray, inverse: np.ndarray, slope: float) -> np.ndarray:
    """Find ramps in some rows, without the borders that no test reaches."""
    reach = _REACH
    step = log[:, reach:] - log[:, :-reach]
    before, after = np.s_[:, reach : -2 * reach], np.s_[:, 2 * reach : -reach]
    steep = np.abs(step) > np.float32(reach * slope)
    same = step[before] * step[after] > 0
    within = np.abs(inverse[:, 3 * reach : -reach] - inverse[:, reach : -3 * reach])
    over = np.abs(inverse[:, 4 * reach :] - inverse[:, : -4 * reach])
    return steep[before] & steep[after] & same & (within > np.float32(_ENDING) * over)
