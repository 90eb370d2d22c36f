# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Metric depth as published: margin, confidence, no sky, no border, ground alone, counts."""

from dataclasses import dataclass, replace

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Alignment, Camera, Prediction
from marigold_ros.geometry.camera.rectification import is_rectified, rectified_valid
from marigold_ros.reasons import Reason
import numpy as np


@dataclass(frozen=True)
class PublishedDepth:
    """Metric depth, its sigma, the sky found and what is withheld: (H, W) each, or None."""

    metric: np.ndarray | None
    sigma: np.ndarray | None
    sky: np.ndarray | None = None
    withheld: np.ndarray | None = None
    caution: Reason | None = None  # why it must be used with care


def postprocess(
    alignment: Alignment,
    sigma: np.ndarray | None,
    sky: np.ndarray | None,
    config: PipelineConfig,
) -> PublishedDepth:
    """
    Apply the safety margin to ``alignment.metric``, and remove doubtful pixels and the sky.

    ``sigma`` is (H, W) metres, ``sky`` (H, W) as `sky_mask` finds it; None keeps its depth.
    """
    metric = _conservative(alignment.metric, sigma, config.alignment)
    if metric is not None and alignment.metric is not None and config.alignment.min_confidence:
        doubtful = confidence(alignment.metric, sigma) < config.alignment.min_confidence
        metric = np.where(doubtful, np.float32('nan'), metric)
    if metric is None or sky is None or not sky.any():
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
    prediction: Prediction,
    alignment: Alignment,
    depth: PublishedDepth,
    camera: Camera | None,
    config: AlignmentConfig,
) -> dict[str, int]:
    """
    Count pixels: invalid, below ``min_depth``, beyond ``max_depth``, sky, withheld.

    Invalid are also those of too little confidence, which ``alignment.metric`` still has.
    """
    metric = depth.metric
    if metric is None or alignment.metric is None:
        return {}
    nothing = np.zeros(metric.shape, dtype=bool)
    sky = nothing if depth.sky is None else depth.sky
    withheld = nothing if depth.withheld is None else depth.withheld
    too_near = np.isnan(alignment.metric) & np.isfinite(prediction.relative) & ~(sky | withheld)
    if camera is not None and not is_rectified(camera):
        too_near &= rectified_valid(camera)
    return {
        'invalid': int(np.count_nonzero(np.isnan(metric))),
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
