# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Checks of points and fits; each returns the reason for a refusal in words, or ''."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.alignment.robust_fit import RobustFit
import numpy as np

# A deviation of the prediction of about 1e-3 of its range, squared.
MAX_CONDITION = 1e6


def check_points(z: np.ndarray, offered: int, config: AlignmentConfig) -> str:
    """Check that the usable points, of those offered, can determine a fit."""
    if len(z) < config.min_points:
        return (
            f'the fit has {len(z)} usable points of {offered} in view, needs {config.min_points}; '
            'check T_cam_lidar and the LiDAR, or lower alignment.min_points'
        )
    low, high = np.percentile(z, [5, 95])
    if high < config.min_depth_ratio * low:
        return (
            f"the points' depth spans {low:.2f} to {high:.2f} m, a ratio of {high / low:.3f}; the "
            f'fit needs {config.min_depth_ratio:g}: show more than one wall, or lower '
            'alignment.min_depth_ratio'
        )
    return ''


def check_fit(fit: RobustFit, agrees: np.ndarray, config: AlignmentConfig) -> str:
    """Check that a fit is well determined, positive, and agrees with its points."""
    if not fit.condition <= MAX_CONDITION:
        return (
            f'the prediction is constant at the points (condition {fit.condition:.2g}, allowed '
            f'{MAX_CONDITION:.0e}); check the image (lens covered, all black?) and the model'
        )
    # A slope that may be zero determines no depth.
    if not fit.scale > 2.0 * fit.scale_error:
        return (
            f'the fitted scale is {fit.scale:.3g} ± {fit.scale_error:.2g}; it must be positive by '
            'two standard errors: prediction and points contradict each other, check '
            'T_cam_lidar and the pairing'
        )
    share = float(agrees.mean())
    if share < config.min_inlier_ratio:
        return (
            f'{agrees.sum()} of {len(agrees)} points ({share:.0%}) agree with the fit, '
            f'{config.min_inlier_ratio:.0%} are needed; check T_cam_lidar, or lower '
            'alignment.min_inlier_ratio'
        )
    return ''


def check_metric(agrees: np.ndarray | None, config: AlignmentConfig) -> str:
    """Check that a metric prediction, which needs no fit, agrees with the points."""
    if agrees is None or len(agrees) < config.min_points:
        return ''
    share = float(agrees.mean())
    if share >= config.min_inlier_ratio:
        return ''
    return (
        f'{agrees.sum()} of {len(agrees)} points ({share:.0%}) agree with the metric prediction, '
        f'{config.min_inlier_ratio:.0%} are needed; check T_cam_lidar and the model, or lower '
        'alignment.min_inlier_ratio'
    )
