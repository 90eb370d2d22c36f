# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Sky detection: pixels where a fitted map has a number but the world has no depth.

Several weak cues must agree: the map at its far end, a bright and smooth part of the image that
reaches the upper border, no LiDAR return nearby, and nearer things around it. If one fails, pixels
stay as they are: a wall taken for sky would be an obstacle lost.
"""

import cv2
from marigold_ros.frame import Prediction, SparseDepth
import numpy as np

# Longest side of the working image.
_SIDE = 320
# Shares of the map's range: the far end, and the least step at the edge of the sky.
_FAR, _STEP = 0.05, 0.1
# Pixels from the sky's edge where the step is measured: beyond the blur of networks.
_AROUND = (8, 10)
# Grey levels: change from pixel to pixel, and brightness of the brightest channel.
_SMOOTH, _BRIGHT = 6.0, 60
# Pixels around a return in which there is no sky.
_RETURN_REACH = 4
# Least shares of the image and of its first row: smaller pieces may be a wall or a window.
_LEAST_AREA, _LEAST_TOP = 0.005, 0.2
# Metres; nearer regions are walls or ceilings.
_LEAST_DEPTH = 10.0


def sky_mask(
    rgb: np.ndarray, prediction: Prediction, metric: np.ndarray, sparse: SparseDepth | None = None
) -> np.ndarray:
    """
    Detect the sky (H, W) of an image; conservative, so that obstacles are kept.

    ``rgb`` is (H, W, 3) uint8, ``metric`` the fitted depth (H, W) in metres. In space ``metric`` a
    prediction has no far end, and no sky is found; nor is any near LiDAR returns.
    """
    shape = metric.shape
    nothing = np.zeros(shape, dtype=bool)
    if prediction.space == 'metric':
        return nothing
    relative = np.asarray(prediction.relative, dtype=np.float32)
    nearness = relative if prediction.space == 'disparity' else 1 - relative
    far = nearness <= _FAR
    if np.count_nonzero(far) < _LEAST_AREA * far.size:
        return nothing
    small = _shrink(nearness, cv2.INTER_AREA)
    candidate = (small <= _FAR) & _looks_like_sky(_shrink(rgb, cv2.INTER_AREA))
    candidate &= ~_near_returns(sparse, shape, small.shape)
    depth = _shrink(metric.astype(np.float32, copy=False), cv2.INTER_NEAREST)
    sky = _far_regions(candidate, small, depth)
    if sky[0].mean() < _LEAST_TOP:
        return nothing
    whole = cv2.resize(sky.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return far & (whole > 0)


def _shrink(image: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=interpolation)


def _looks_like_sky(rgb: np.ndarray) -> np.ndarray:
    """Mask where the image is smooth and at least as bright as half of its pixels."""
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (3, 3), 0)
    change = np.maximum(
        np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125)),
        np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)),
    )
    brightest = np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    return (change < _SMOOTH) & (brightest >= max(_BRIGHT, float(np.median(brightest))))


def _near_returns(
    sparse: SparseDepth | None, shape: tuple[int, ...], small: tuple[int, ...]
) -> np.ndarray:
    """Mask the surroundings of LiDAR returns in the small image."""
    hit = np.zeros(small, dtype=np.uint8)
    if sparse is None or not len(sparse):
        return hit > 0
    hit[sparse.v * small[0] // shape[0], sparse.u * small[1] // shape[1]] = 1
    return _grown(hit, _RETURN_REACH)


def _far_regions(candidate: np.ndarray, nearness: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Keep connected parts that reach the upper border, are far and end in a step."""
    opened = cv2.morphologyEx(candidate.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    kept = np.zeros(candidate.shape, dtype=bool)
    for index in range(1, count):
        region = labels == index
        if facts[index, cv2.CC_STAT_AREA] < _LEAST_AREA * region.size or not region[0].any():
            continue
        around = _grown(region, _AROUND[1]) & ~_grown(region, _AROUND[0])
        known = depth[region & np.isfinite(depth)]
        far = known.size and np.median(known) >= _LEAST_DEPTH
        if far and around.any() and np.median(nearness[around]) > _STEP:
            kept |= region
    return kept


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2)) > 0
