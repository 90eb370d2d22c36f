# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Refuse recordings whose LiDAR is miscalibrated: models would learn its error."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marigold_ros.config import PipelineConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.calibration.recording import calibration_of_recording, check_calibration
from marigold_ros.geometry.camera.rectification import rectified, rectify_image
from marigold_ros.models.protocol import DepthModel
from marigold_training.adapt.blocks import thinned
from marigold_training.adapt.judge import judged_frames
import numpy as np

MOST_IMAGES = 40
_NAME = 'base'


def check_mounting(
    bags: Sequence[str],
    numbers: Sequence[int],
    topics: Mapping[str, Any],
    model: DepthModel,
    config: PipelineConfig,
) -> None:
    """Raise CalibrationError if points and images of these numbers do not fit each other."""
    depths = []

    def images() -> Iterator[tuple[np.ndarray, Prediction, SparseDepth, np.ndarray]]:
        chosen = thinned(numbers, MOST_IMAGES)
        for one in judged_frames(bags, chosen, topics, {_NAME: model}, config):
            camera = one.frame.camera
            if camera is None or not len(one.lidar):
                continue
            depths.append(float(np.median(one.lidar.z)))
            rgb = rectify_image(one.frame.rgb, camera)
            yield rgb, one.predictions[_NAME], one.lidar, rectified(camera).K

    calibration = calibration_of_recording(images(), config.alignment)
    if depths:
        check_calibration(calibration, float(np.median(depths)))
