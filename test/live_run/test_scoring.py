# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The animation of a live run, whatever its frames lack."""

from types import SimpleNamespace

import cv2
from marigold_ros.bags.frames import BagFrame
from marigold_ros.config import NodeConfig
from marigold_ros.frame import Camera, Frame
from marigold_ros.live_run import scoring
from marigold_ros.live_run.scoring import animate_recording, RecordedFrame
from marigold_ros.message_codec import encode_depth
import numpy as np
import pytest

K = np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
DEPTH = np.full((24, 32), 5.0, np.float32)
AHEAD, BEHIND = np.array([[0.0, 0, 5.0]]), np.array([[0.0, 0, -5.0]])


@pytest.mark.skipif(not hasattr(cv2, 'imwriteanimation'), reason='OpenCV is older than 4.11')
def test_frames_without_truth_or_point_are_part_of_the_animation(tmp_path, monkeypatch):
    def frames(_job):
        recorded = RecordedFrame({'depth': encode_depth(DEPTH)})
        truths = (DEPTH, None, np.full_like(DEPTH, np.nan))
        for number, (points, truth) in enumerate(zip((AHEAD, BEHIND, AHEAD), truths, strict=True)):
            rgb = np.full((24, 32, 3), 80 * number, np.uint8)
            frame = Frame(rgb, Camera(K, 32, 24), points, np.eye(4))
            yield BagFrame(frame, None, number, truth), recorded

    monkeypatch.setattr(scoring, '_recorded_frames', frames)
    bag = SimpleNamespace(images=3, period=0.1, topics=SimpleNamespace(truth='/truth'))
    job = SimpleNamespace(bag=bag, config=NodeConfig(), folder=tmp_path)
    assert animate_recording(job)
    done, animation = cv2.imreadanimation(str(tmp_path / 'demo.webp'))
    assert (done, len(animation.frames)) == (True, 3)
