# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metric depth as published: margin, confidence, no sky, no border, ground alone, counts.

The sky has a number in a fitted map but no depth in the world. Several weak cues must agree: the
map at its far end, a bright and smooth part of the image that reaches the upper border, no LiDAR
return nearby, and nearer or darker things around it. If one fails, pixels stay as they are: a wall
taken for sky would be an obstacle lost.
"""

from dataclasses import dataclass, replace

import cv2
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Alignment, Camera, Prediction, SparseDepth
from marigold_ros.geometry.camera.rectification import is_rectified, rectified_valid
from marigold_ros.geometry.median import median
import numpy as np

# Longest side of the working image.
_SIDE = 320
# Share of the map's range that is its far end.
_FAR = 0.05
# What is around the sky is nearer by about this share of the range, and darker by so many grey
# levels; the least sum of both in these units, of which darkness gives one at most.
_STEP, _DARKER, _EDGE = 0.1, 50.0, 1.3
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


@dataclass(frozen=True)
class PublishedDepth:
    """Metric depth, its sigma, the sky found and what is withheld: (H, W) each, or None."""

    metric: np.ndarray | None
    sigma: np.ndarray | None
    sky: np.ndarray | None = None
    withheld: np.ndarray | None = None


def postprocess(
    rgb: np.ndarray,
    prediction: Prediction,
    alignment: Alignment,
    sigma: np.ndarray | None,
    sparse: SparseDepth | None,
    config: PipelineConfig,
) -> PublishedDepth:
    """
    Apply the safety margin to ``alignment.metric``, and remove doubtful pixels and the sky.

    The sky is recognised by image, prediction, fitted depth and points of the frame: see
    ``sky_mask``.
    """
    metric = _conservative(alignment.metric, sigma, config.alignment)
    if metric is not None and alignment.metric is not None and config.alignment.min_confidence:
        doubtful = confidence(alignment.metric, sigma) < config.alignment.min_confidence
        metric = np.where(doubtful, np.float32('nan'), metric)
    if metric is None or alignment.metric is None or config.sky == 'fitted':
        return PublishedDepth(metric, sigma)
    sky = sky_mask(rgb, prediction, alignment.metric, sparse)
    if not sky.any():
        return PublishedDepth(metric, sigma, sky)
    metric = np.where(sky, np.float32(config.sky), metric)
    sigma = None if sigma is None else np.where(sky, np.float32('nan'), sigma)
    return PublishedDepth(metric, sigma, sky)


def only_at(depth: PublishedDepth, shown: np.ndarray) -> PublishedDepth:
    """Withhold depth and sigma outside of ``shown`` (H, W)."""
    metric, sigma = (
        None if image is None else np.where(shown, image, np.float32('nan'))
        for image in (depth.metric, depth.sigma)
    )
    return replace(depth, metric=metric, sigma=sigma, withheld=~shown)


def confidence(metric: np.ndarray, sigma: np.ndarray | None) -> np.ndarray:
    """
    Return 100 less sigma in percent of depth, at least 0, and 0 where either is unknown.

    ``metric`` and ``sigma`` (H, W) are in metres; the result is (H, W) float32.
    """
    if sigma is None:
        return np.zeros(metric.shape, np.float32)
    with np.errstate(invalid='ignore', divide='ignore'):
        known = np.float32(100.0) - np.float32(100.0) * (sigma / metric)
    return np.nan_to_num(np.clip(known, 0.0, 100.0)).astype(np.float32)


def _conservative(
    metric: np.ndarray | None, sigma: np.ndarray | None, config: AlignmentConfig
) -> np.ndarray | None:
    """Subtract ``conservative_k`` sigma from depth; NaN where sigma is unknown."""
    if metric is None or config.conservative_k == 0.0:
        return metric
    if sigma is None:
        return np.full_like(metric, np.nan)
    nearer = metric - np.float32(config.conservative_k) * sigma
    # An obstacle does not vanish because it may be nearer than depth is valid; NaN stays NaN.
    return np.maximum(nearer, np.float32(config.min_depth))


def count_pixels(
    prediction: Prediction, depth: PublishedDepth, camera: Camera | None, config: AlignmentConfig
) -> dict[str, int]:
    """Count pixels: invalid, of these below ``min_depth``, beyond ``max_depth``, sky, withheld."""
    metric = depth.metric
    if metric is None:
        return {}
    nothing = np.zeros(metric.shape, dtype=bool)
    sky = nothing if depth.sky is None else depth.sky
    withheld = nothing if depth.withheld is None else depth.withheld
    invalid = np.isnan(metric)
    too_near = invalid & np.isfinite(prediction.relative) & ~(sky | withheld)
    if camera is not None and not is_rectified(camera):
        too_near &= rectified_valid(camera)
    return {
        'invalid': int(np.count_nonzero(invalid)),
        'below_min_depth': int(np.count_nonzero(too_near)),
        'beyond_max_depth': int(np.count_nonzero((metric > config.max_depth) & ~sky)),
        'sky': int(np.count_nonzero(sky)),
        'withheld': int(np.count_nonzero(withheld)),
    }


def without_border(alignment: Alignment, camera: Camera | None) -> Alignment:
    """Invalidate the pixels that rectification left without any of the raw image."""
    if alignment.metric is None or camera is None or is_rectified(camera):
        return alignment
    metric = np.where(rectified_valid(camera), alignment.metric, np.float32(np.nan))
    return replace(alignment, metric=metric)


def sky_mask(
    rgb: np.ndarray, prediction: Prediction, metric: np.ndarray, sparse: SparseDepth | None = None
) -> np.ndarray:
    """
    Detect the sky (H, W) of an image; conservative, so that obstacles are kept.

    ``rgb`` is (h, w, 3) uint8 of any size, ``metric`` the fitted depth (H, W) in metres. In space
    ``metric`` a prediction has no far end, and no sky is found; nor is any near LiDAR returns.
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
    small, image = _shrink(nearness, cv2.INTER_AREA), _shrink(rgb, cv2.INTER_AREA)
    brightness = np.maximum.reduce(cv2.split(image))
    candidate = (small <= _FAR) & _is_smooth(image)
    candidate &= brightness >= max(_BRIGHT, median(brightness))
    candidate &= ~_near_returns(sparse, shape, small.shape)
    depth = _shrink(metric.astype(np.float32, copy=False), cv2.INTER_NEAREST)
    sky = _far_regions(candidate, small, brightness, depth)
    if sky[0].mean() < _LEAST_TOP:
        return nothing
    whole = cv2.resize(sky.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return far & (whole > 0)


def _shrink(image: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=interpolation)


def _is_smooth(rgb: np.ndarray) -> np.ndarray:
    grey = cv2.GaussianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (3, 3), 0)
    change = np.maximum(
        np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125)),
        np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)),
    )
    return change < _SMOOTH


def _near_returns(
    sparse: SparseDepth | None, shape: tuple[int, ...], small: tuple[int, ...]
) -> np.ndarray:
    """Mask the surroundings of LiDAR returns in the small image."""
    hit = np.zeros(small, dtype=np.uint8)
    if sparse is None or not len(sparse):
        return hit > 0
    hit[sparse.v * small[0] // shape[0], sparse.u * small[1] // shape[1]] = 1
    return _grown(hit, _RETURN_REACH)


def _far_regions(
    candidate: np.ndarray, nearness: np.ndarray, brightness: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Keep connected parts that reach the upper border, are far and end in an edge."""
    opened = cv2.morphologyEx(candidate.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3)))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    large = facts[:, cv2.CC_STAT_AREA] >= _LEAST_AREA * candidate.size
    regions = [labels == index for index in np.unique(labels[0]) if index and large[index]]
    kept = np.zeros(candidate.shape, dtype=bool)
    # What a pole divides is not around itself.
    outside = ~_grown(np.any(regions, axis=0), _AROUND[0]) if regions else kept
    for region in regions:
        around = _grown(region, _AROUND[1]) & outside
        known = depth[region & np.isfinite(depth)]
        if not known.size or median(known) < _LEAST_DEPTH or not around.any():
            continue
        darker = (_beside(region, brightness) - brightness)[around]
        edge = nearness[around] / _STEP + np.minimum(darker / _DARKER, 1.0)
        if median(edge) > _EDGE:
            kept |= region
    return kept


def _beside(region: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Return the mean brightness of the nearest border of a region: haze darkens slowly."""
    border = (region & _grown(~region, _AROUND[0])).astype(np.float32)
    window = (4 * _AROUND[1] + 1,) * 2
    total = cv2.blur(border * brightness, window)
    return np.asarray(total / np.maximum(cv2.blur(border, window), np.float32(1e-6)))


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2)) > 0
