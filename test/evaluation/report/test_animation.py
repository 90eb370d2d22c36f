# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The animated WebP of a drive: its frames, their layout and their duration."""

from __future__ import annotations

import cv2
from marigold_ros.evaluation.report.animation import write_animation
import numpy as np
import pytest

if not hasattr(cv2, 'imwriteanimation'):
    pytest.skip('OpenCV older than 4.11 writes no animations', allow_module_level=True)

RED = np.full((60, 80, 3), (250, 0, 0), np.uint8)
BLUE = np.full((60, 80, 3), (0, 0, 250), np.uint8)


def read_back(path):
    done, animation = cv2.imreadanimation(str(path))
    assert done
    return [frame[..., :3] for frame in animation.frames], np.ravel(animation.durations)


def test_every_frame_lasts_its_seconds(tmp_path):
    path = tmp_path / 'drive.webp'
    assert write_animation(path, [{'a': RED}, {'a': BLUE}, {'a': RED}], 0.2)
    frames, durations = read_back(path)
    assert len(frames) == 3
    assert durations.tolist() == [200, 200, 200]


@pytest.mark.parametrize('colours', [(RED, BLUE), (RED, BLUE, RED)])
def test_panels_stand_side_by_side_in_rgb_and_leave_no_place_empty(tmp_path, colours):
    path = tmp_path / 'drive.webp'
    assert write_animation(path, [dict(zip('abc', colours, strict=False))], 0.1)
    first = read_back(path)[0][0]
    height, width = first.shape[:2]
    assert width > len(colours) * height  # panels of 4:3 in one row
    for place, colour in enumerate(colours):
        bgr = first[height // 2, (2 * place + 1) * width // (2 * len(colours))]
        np.testing.assert_allclose(bgr[::-1].astype(int), colour[0, 0], atol=40)


def test_without_frames_there_is_no_file(tmp_path):
    path = tmp_path / 'drive.webp'
    assert not write_animation(path, [], 0.1)
    assert not path.exists()
