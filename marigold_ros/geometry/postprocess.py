# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Post-process metric depth: safety margin, sky removal, image border, pixel counts."""

from dataclasses import dataclass, replace

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Alignment, Camera, Prediction, SparseDepth
from marigold_ros.geometry.camera.rectification import is_rectified, rectified_valid
from marigold_ros.geometry.sky import sky_mask
import numpy as np


@dataclass(frozen=True)
class MetricDepth:
    """Metric depth and its sigma as published, and the sky found: (H, W) each, or None."""

    metric: np.ndarray | None
    sigma: np.ndarray | None
    sky: np.ndarray | None


def postprocess(
    rgb: np.ndarray,
    prediction: Prediction,
    alignment: Alignment,
    sigma: np.ndarray | None,
    sparse: SparseDepth | None,
    config: PipelineConfig,
) -> MetricDepth:
    """
    Apply the safety margin to ``alignment.metric`` and its sigma, and remove the sky.

    The sky is recognised by image, prediction, fitted depth and points of the frame.
    """
    metric = _conservative(alignment.metric, sigma, config.alignment)
    if metric is None or alignment.metric is None or config.sky == 'fitted':
        return MetricDepth(metric, sigma, None)
    sky = sky_mask(rgb, prediction, alignment.metric, sparse)
    if not sky.any():
        return MetricDepth(metric, sigma, sky)
    metric = np.where(sky, np.float32(config.sky), metric)
    sigma = None if sigma is None else np.where(sky, np.float32('nan'), sigma)
    return MetricDepth(metric, sigma, sky)


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
    prediction: Prediction, depth: MetricDepth, camera: Camera | None, config: AlignmentConfig
) -> dict[str, int]:
    """Count pixels: invalid, of these below ``min_depth``, beyond ``max_depth``, sky."""
    metric = depth.metric
    if metric is None:
        return {}
    sky = np.zeros(metric.shape, dtype=bool) if depth.sky is None else depth.sky
    invalid = np.isnan(metric)
    too_near = invalid & np.isfinite(prediction.relative) & ~sky
    if camera is not None and not is_rectified(camera):
        too_near &= rectified_valid(camera)
    return {
        'invalid': int(np.count_nonzero(invalid)),
        'below_min_depth': int(np.count_nonzero(too_near)),
        'beyond_max_depth': int(np.count_nonzero((metric > config.max_depth) & ~sky)),
        'sky': int(np.count_nonzero(sky)),
    }


def without_border(alignment: Alignment, camera: Camera | None) -> Alignment:
    """Invalidate the pixels that rectification left without a source."""
    if alignment.metric is None or camera is None or is_rectified(camera):
        return alignment
    metric = np.where(rectified_valid(camera), alignment.metric, np.float32(np.nan))
    return replace(alignment, metric=metric)
