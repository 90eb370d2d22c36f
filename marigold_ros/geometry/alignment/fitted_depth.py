# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The spaces a prediction may be affine in: depth, log, disparity, metric; there and back."""

from __future__ import annotations

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction
from marigold_ros.geometry.alignment.kriging_field import grid_shape
from marigold_ros.geometry.alignment.local_field import upsample_field
from marigold_ros.spaces import from_metres, to_metres
import numpy as np


def target_of(z: np.ndarray, space: str, config: AlignmentConfig) -> tuple[np.ndarray, np.ndarray]:
    """Depth in the prediction's space, and the sensor's noise carried over to it."""
    noise = config.noise_floor + config.noise_slope * z
    slope = {'log': z, 'disparity': z**2}
    return from_metres(z, space), noise / slope[space] if space in slope else noise


def fitted_depth(
    relative: np.ndarray, scale: float, shift: float, space: str, config: AlignmentConfig
) -> np.ndarray:
    """Invert the space: depth in metres of ``scale * relative + shift``, not yet checked."""
    kind = relative.dtype.type
    value = relative * kind(scale)
    value += kind(shift)
    return to_metres(value, space, config.max_depth)


def slope(metric: np.ndarray, alignment: Alignment) -> np.ndarray | float:
    """
    Metres by which depth grows with one unit of ``relative``, for carrying deviations over.

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
    """Log of measured over fitted depth; NaN where the fit gives no depth."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.log(z / np.where(fitted > 0, fitted, np.nan))


def fitted_log_depth(
    prediction: Prediction,
    scale: float,
    shift: float,
    config: AlignmentConfig,
    known: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Log of fitted depth within its limits at known relative values (M,), and on a grid."""
    height, width = grid_shape(prediction.relative.shape)
    relative = np.asarray(prediction.relative, dtype=np.float32)
    small = cv2.resize(relative, (width, height), interpolation=cv2.INTER_AREA)
    found = []
    for values in (known, small):
        metres = fitted_depth(values, scale, shift, prediction.space, config)
        metres = np.nan_to_num(metres, nan=config.min_depth)
        found.append(np.log(np.clip(metres, config.min_depth, config.max_depth)))
    return found[0], found[1]
