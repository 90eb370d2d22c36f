# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Recordings with planted errors of the mounting are refused before anything is trained."""

import cv2
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Prediction
from marigold_ros.geometry.calibration.evidence import ERRORS
from marigold_ros.geometry.calibration.monitor import Calibration
from marigold_training.adapt.calibration import calibration_of_recording, check_calibration
import numpy as np
import pytest

from test.geometry.calibration.test_monitor import CONFIG, K, of_angles, scan_of, scene, turned


def recording(T, images=10):
    for index in range(images):
        rgb, depth = scene(index)
        relative = cv2.GaussianBlur(np.log(depth) ** 1.2 / 6, (0, 0), 12.0)
        prediction = Prediction(relative.astype(np.float32), space='log')
        yield rgb, prediction, scan_of(depth, T, index), K


@pytest.mark.parametrize(
    ('T', 'name', 'size', 'words'),
    [
        (turned(1.0, 0.0), 'yaw_deg', 1.0, '° to the right of the image'),
        (turned(-1.3, 0.0), 'yaw_deg', -1.3, '° to the left of the image'),
        (turned(0.0, -1.3), 'pitch_deg', -1.3, '° below the image'),
        (turned(0.0, 0.0, 4.0), 'roll_deg', 4.0, '° to the right'),
    ],
)
def test_a_recording_with_a_wrong_mounting_is_refused_with_its_error(T, name, size, words):
    found = calibration_of_recording(recording(T), CONFIG)
    seen = found.errors[name][0]
    assert seen == pytest.approx(size, abs=0.6)
    with pytest.raises(CalibrationError, match=f'{abs(seen):.1f}{words}.*camera_info'):
        check_calibration(found)


def test_a_refusal_names_the_rule_for_its_kind_of_error():
    kinds = {
        'turned': (3.0, '0.7°'),
        'rolled': (9.0, '2.5° of roll and 5%'),
        'shifted': (0.3, '0.15 m'),
    }
    for cause, (size, allowed) in kinds.items():
        first, second = ERRORS[cause]
        wrong = Calibration({first: (size, 0.1 * size), second: (0.0, 0.0)}, cause)
        with pytest.raises(CalibrationError, match=rf'less than {allowed}.* is allowed'):
            check_calibration(wrong)


def test_a_recording_with_the_right_mounting_or_too_few_images_is_not_refused():
    check_calibration(calibration_of_recording(recording(np.eye(4)), CONFIG))
    few = calibration_of_recording(recording(turned(3.0, 0.0), images=4), CONFIG)
    assert few.n_images == 4
    check_calibration(few)
    check_calibration(of_angles(2.6, 2.6, error=0.6))  # parts disagree


def test_a_yaw_is_refused_where_the_scene_shows_no_pitch():
    found = Calibration({'yaw_deg': (2.6, 0.1), 'pitch_deg': (-2.6, np.inf)}, 'turned')
    with pytest.raises(CalibrationError, match='^LiDAR looks 2.6° to the right of the image, '):
        check_calibration(found)
