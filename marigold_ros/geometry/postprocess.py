# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What a frame gives out of its fitted map: nearer if asked for, without the sky, counted."""

from __future__ import annotations

from dataclasses import replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Camera, Prediction
from marigold_ros.geometry.camera.rectification import is_rectified, rectified_valid
import numpy as np


def conservative(
    metric: np.ndarray | None, sigma: np.ndarray | None, config: AlignmentConfig
) -> np.ndarray | None:
    """Depth that is too near rather than too far, as far as ``conservative_k`` asks for it."""
    if metric is None or config.conservative_k == 0.0:
        return metric
    if sigma is None:
        return np.full_like(metric, np.nan)
    nearer = metric - np.float32(config.conservative_k) * sigma
    # An obstacle does not vanish because it may be nearer than depth is valid; NaN stays NaN.
    return np.maximum(nearer, np.float32(config.min_depth))


def without_sky(image: np.ndarray | None, sky: np.ndarray | None, value: str) -> np.ndarray | None:
    """Replace the sky (H, W) of metric depth or of its sigma by ``value``, 'nan' or 'inf'."""
    if image is None or sky is None or not sky.any():
        return image
    return np.where(sky, np.float32(value), image)


def count_pixels(
    prediction: Prediction,
    metric: np.ndarray | None,
    sky: np.ndarray | None,
    camera: Camera | None,
    config: AlignmentConfig,
) -> dict[str, int]:
    """How many pixels are invalid, which of these too near; beyond the range; sky."""
    if metric is None:
        return {}
    sky = np.zeros(metric.shape, dtype=bool) if sky is None else sky
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
    """Invalidate the pixels that rectifying left without a source."""
    if alignment.metric is None or camera is None or is_rectified(camera):
        return alignment
    metric = np.where(rectified_valid(camera), alignment.metric, np.float32(np.nan))
    return replace(alignment, metric=metric)
