# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Why a metric fit must not be tried or used, in words: value, rule, remedy."""

from __future__ import annotations

from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.alignment.robust_fit import LineFit
import numpy as np

# A deviation of the prediction of about 1e-3 of its range, squared.
MAX_CONDITION = 1e6


def too_poor(z: np.ndarray, offered: int, config: AlignmentConfig) -> str:
    """Say why these points cannot carry a fit, or nothing."""
    if len(z) < config.min_points:
        return (
            f'the fit has {len(z)} usable points of {offered} in view, needs {config.min_points}; '
            'check T_cam_lidar and the LiDAR, or lower alignment.min_points'
        )
    low, high = np.percentile(z, [5, 95])
    if high < config.min_depth_ratio * low:
        return (
            f"the points' depth spans {low:.2f} to {high:.2f} m, a ratio of {high / low:.3f}; the "
            f'fit needs {config.min_depth_ratio:g}: look at more than one wall, or lower '
            'alignment.min_depth_ratio'
        )
    return ''


def untrustworthy(fit: LineFit, agrees: np.ndarray, config: AlignmentConfig) -> str:
    """Say why this fit must not be used, or nothing."""
    if not fit.condition <= MAX_CONDITION:
        return (
            f'the prediction is constant at the points (condition {fit.condition:.2g}, allowed '
            f'{MAX_CONDITION:.0e}); check the image (lens covered, all black?) and the model'
        )
    # Two standard errors: a slope that may as well be zero carries no metres.
    if not fit.scale > 2.0 * fit.scale_error:
        return (
            f'the fitted scale is {fit.scale:.3g} ± {fit.scale_error:.2g}; it must be '
            'positive by two errors: prediction and points contradict each other, check '
            'T_cam_lidar and the pairing'
        )
    share = float(agrees.mean())
    if share < config.min_inlier_ratio:
        return (
            f'{agrees.sum()} of {len(agrees)} points ({share:.0%}) agree with the fit, needed '
            f'are {config.min_inlier_ratio:.0%}; check T_cam_lidar, or lower '
            'alignment.min_inlier_ratio'
        )
    return ''


def contradicted(agrees: np.ndarray | None, config: AlignmentConfig) -> str:
    """Say why depth that needs no fit must not be believed beside these points, or nothing."""
    if agrees is None or len(agrees) < config.min_points:
        return ''
    share = float(agrees.mean())
    if share >= config.min_inlier_ratio:
        return ''
    return (
        f'{agrees.sum()} of {len(agrees)} points ({share:.0%}) agree with the metric prediction, '
        f'needed are {config.min_inlier_ratio:.0%}; check T_cam_lidar and the model, or lower '
        'alignment.min_inlier_ratio'
    )
