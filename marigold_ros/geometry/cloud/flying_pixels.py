# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Flying pixels: depth on the ramp between two surfaces, where there is nothing.

A pixel is flying if depth is steep on both sides of it and most of the change over twice the width
happens within it, on any of four pyramid levels. A road at a grazing angle is as steep but goes
on: its inverse depth is linear in the image. So does a thing between a nearer and a farther one,
as a table's leg: where depth is not steep beside the pixel itself, it is on a surface.
"""

import math

import cv2
from marigold_ros.kernels.compiled import compiled
import numpy as np

# Pixels on each side, and pixel spacing of the levels: ramps of 4 to 32 px.
_REACH, _LEVELS = 2, (1, 2, 4, 8)
# Share of the change of inverse depth over twice the width: a plane has 0.5, a step 1.
_ENDING = np.float32(0.75)
# Part of a ramp's least slope below which a pixel's own makes it one of a surface.
_OWN = 0.5


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
    for level in _LEVELS:
        some = depth[level // 2 :: level, level // 2 :: level]
        rows, columns = some.shape[0], some.shape[1]
        if not some.size:
            break
        found = np.zeros((rows, columns), np.uint8)
        flat = some.ravel()
        _mark_ramps(found.ravel(), flat, 1, _ratio(level * right))
        # Rows are one long line: ramps over their ends are none.
        found[:, : 2 * _REACH] = found[:, max(0, columns - 2 * _REACH) :] = 0
        _mark_ramps(found.ravel(), flat, columns, _ratio(level * down))
        size = (columns * level, rows * level)
        blocks = cv2.resize(found, size, interpolation=cv2.INTER_NEAREST)
        flying[: size[1], : size[0]] |= blocks[:height, :width].view(bool)
    _keep_surfaces(flying, depth, _ratio(_OWN * right), _ratio(_OWN * down))
    return flying


def _ratio(slope: float) -> np.float32:
    """Return the least ratio of depths on both sides of a ramp; large ones are not exceeded."""
    return np.float32(math.exp(min(_REACH * slope, 80.0)))


@compiled()
def _mark_ramps(found: np.ndarray, depth: np.ndarray, spacing: int, ratio: np.float32) -> None:
    """Mark where depth (n,) has ramps, of such ratios; neighbours are ``spacing`` apart."""
    reach = _REACH * spacing
    count = max(len(depth) - 4 * reach, 0)
    before2, before, here = depth[:count], depth[reach:], depth[2 * reach :]
    after, after2, found = depth[3 * reach :], depth[4 * reach :], found[2 * reach :]
    for i in range(count):
        a, b, c, d, e = before2[i], before[i], here[i], after[i], after2[i]
        steep = ((c > ratio * b) & (d > ratio * c)) | ((c * ratio < b) & (d * ratio < c))
        # Of inverse depth, by products: infinite depth compares false.
        within, over = abs(b - d) * (a * e), abs(a - e) * (b * d)
        known = (a > 0) & (b > 0) & (d > 0) & (e > 0)
        found[i] |= np.uint8(steep & known & (within > _ENDING * over))


@compiled()
def _keep_surfaces(
    flying: np.ndarray, depth: np.ndarray, right: np.float32, down: np.float32
) -> None:
    """Unmark where depth (H, W) two pixels apart differs by less than these ratios."""
    for i in range(1, depth.shape[0] - 1):
        for j in range(1, depth.shape[1] - 1):
            if flying[i, j]:
                a, b, c, d = depth[i, j - 1], depth[i, j + 1], depth[i - 1, j], depth[i + 1, j]
                across, along = a < right * b and b < right * a, c < down * d and d < down * c
                flying[i, j] = not (across and along)
