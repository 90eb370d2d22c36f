# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Errors of the LiDAR's mounting in a recording: the monitor's evidence, gathered with more effort.

A recording is not in a hurry: images are twice as large as the node's thumbnails and points are
drawn several times, which halves the standard errors and the bias of scenes.
"""

from collections.abc import Iterable

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.geometry.calibration.evidence import agreement, ERRORS
from marigold_ros.geometry.calibration.monitor import (
    Calibration,
    estimate_calibration,
    LEAST,
    log_depth_of_fit,
)
from marigold_ros.geometry.camera.rectification import thumbnail
import numpy as np

LONGEST_SIDE, DRAWS = 640, 4
# Degrees that an angle must exceed. Right mountings were within 0.4° on real
# and synthetic drives, those that are wrong by 1° mostly above 0.75°.
REFUSED_DEG = 0.7
# As the user reads it, by the cause.
_ALLOWED = {
    'turned': f'{REFUSED_DEG}°',
    'rolled': f'{LEAST["roll_deg"]}° of roll and {LEAST["focal_share"]:.0%} of the focal lengths',
    'shifted': f'{LEAST["right_m"]} m',
}
# Degrees: where parts of a recording differ by more in either angle, none is known.
_LARGEST_ERROR = 0.5


def calibration_of_recording(
    images: Iterable[tuple[np.ndarray, Prediction, SparseDepth, np.ndarray]],
    config: AlignmentConfig,
) -> Calibration:
    """
    Estimate the errors of the LiDAR's mounting from images (H, W, 3), maps, points and matrices K.

    Returns none with fewer than eight images that have points and steps in depth.
    """
    rng = np.random.default_rng(0)
    found = []
    for rgb, prediction, sparse, K in images:
        grey = thumbnail(rgb, LONGEST_SIDE)
        fit = align_map(prediction, sparse, config)
        log_depth = log_depth_of_fit(prediction, fit, grey.shape, config)
        draws = [agreement(grey, log_depth, sparse, K, rgb.shape[:2], rng) for _ in range(DRAWS)]
        scores = [scores for scores in draws if scores is not None]
        if scores:
            mean = {pair: np.mean([one[pair] for one in scores], axis=0) for pair in ERRORS}
            found.append((mean, np.nan))
    return estimate_calibration(found)


def check_calibration(calibration: Calibration) -> None:
    """Raise CalibrationError if the mounting is wrong beyond doubt."""
    unsure = (_LARGEST_ERROR < calibration.errors[name][1] < np.inf for name in ERRORS['turned'])
    if calibration.cause == 'turned' and any(unsure):
        return
    found = calibration.found(REFUSED_DEG)
    if found:
        raise CalibrationError(
            f'{" and ".join(found)}, which the models would learn (less than '
            f'{_ALLOWED[calibration.cause]} is allowed): correct the transform from LiDAR to '
            'camera (/tf_static), camera_info, or the stamps of the scans, and record the bag '
            'again'
        )
