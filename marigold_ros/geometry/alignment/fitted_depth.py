# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Depth of a fit: targets in the prediction's space, depth in metres, residuals, slope."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment
from marigold_ros.geometry.alignment.local_field import upsample_field
from marigold_ros.spaces import from_metres, to_metres
import numpy as np


def fit_target(
    z: np.ndarray, space: str, config: AlignmentConfig, sigma: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return measured depth in a prediction's space, and the sensor's noise there.

    ``sigma`` (n,) metres is added to the noise of the settings, None is none.
    """
    noise = config.noise_floor + config.noise_slope * z
    if sigma is not None:
        noise = np.hypot(noise, sigma)
    if space == 'log':
        noise = noise / z
    elif space == 'disparity':
        noise = noise / z**2
    return from_metres(z, space), noise


def fitted_depth(
    relative: np.ndarray, scale: float, shift: float, space: str, config: AlignmentConfig
) -> np.ndarray:
    """Convert ``scale * relative + shift`` to metres; the result may be invalid depth."""
    kind = relative.dtype.type
    value = relative * kind(scale)
    value += kind(shift)
    return to_metres(value, space, config.max_depth)


def depth_slope(metric: np.ndarray, alignment: Alignment) -> np.ndarray | float:
    """
    Return the derivative of depth by ``relative``, metres, which carries deviations over.

    The field is taken as constant. ``metric`` already holds it, so it cancels for the log space.
    """
    field: np.ndarray | float = 1.0
    if alignment.field is not None:
        field = upsample_field(alignment.field, metric.shape)
    if alignment.space == 'log':
        return alignment.scale * metric
    if alignment.space == 'disparity':
        return alignment.scale * metric * metric / field
    return alignment.scale * field


def log_ratio(z: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Return the log of measured over fitted depth; NaN where the fit has no valid depth."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.log(z / np.where(fitted > 0, fitted, np.nan))
