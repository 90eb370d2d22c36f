# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The animation of a live run, and the run without a node, whatever their frames lack."""

from types import SimpleNamespace

import cv2
from marigold_ros.bags.frames import BagFrame
from marigold_ros.config import NodeConfig
from marigold_ros.frame import Camera, Frame, Prediction
from marigold_ros.geometry.camera.rectification import rectify_depth
from marigold_ros.live_run import scoring
from marigold_ros.live_run.played_bag import DemoJob, prepare_bag
from marigold_ros.live_run.scoring import animate_recording, evaluate_offline, RecordedFrame
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

    scales = []
    monkeypatch.setattr(scoring, '_recorded_frames', frames)
    monkeypatch.setattr(scoring, 'depth_scale', lambda z: scales.append(z) or (1.0, 10.0))
    bag = SimpleNamespace(images=3, period=0.1, topics=SimpleNamespace(truth='/truth'))
    job = SimpleNamespace(bag=bag, config=NodeConfig(), folder=tmp_path)
    assert animate_recording(job)
    done, animation = cv2.imreadanimation(str(tmp_path / 'demo.webp'))
    assert (done, len(animation.frames)) == (True, 3)
    assert len(scales) == 1  # that of the first frame serves all


@pytest.mark.parametrize(('images', 'stride'), [(1, 1), (20, 1), (21, 2), (100, 5)])
def test_an_animation_has_at_most_20_frames_in_real_time(tmp_path, monkeypatch, images, stride):
    monkeypatch.setattr(scoring, 'drawn_frames', lambda _job, every: every)
    monkeypatch.setattr(scoring, 'write_animation', lambda _path, *drawn: drawn)
    job = SimpleNamespace(bag=SimpleNamespace(images=images, period=0.1), folder=tmp_path)
    assert animate_recording(job) == (stride, pytest.approx(0.1 * stride))


@pytest.mark.parametrize('rectified', [True, False])
def test_the_animation_moves_truth_that_is_not_rectified_yet(monkeypatch, rectified):
    R = cv2.Rodrigues(np.array([0.0, 0.3, 0.0]))[0]
    camera = Camera(K, 32, 24, R=R)
    truth = DEPTH if rectified else np.full((24, 32), 8.0, np.float32)
    item = BagFrame(
        Frame(np.zeros((24, 32, 3), np.uint8), camera, AHEAD, np.eye(4)),
        None,
        0,
        truth,
        truth_is_rectified=rectified,
    )
    recorded = RecordedFrame({'depth': encode_depth(DEPTH)})
    monkeypatch.setattr(scoring, '_recorded_frames', lambda _job: [(item, recorded)])
    monkeypatch.setattr(scoring, 'error_image', lambda _rgb, _u, _v, error: error)
    job = SimpleNamespace(
        bag=SimpleNamespace(topics=SimpleNamespace(truth='/truth')), config=NodeConfig()
    )
    (panels,) = scoring.drawn_frames(job, 1)
    error = panels['relative error, yellow from 50 %']
    moved = truth if rectified else rectify_depth(truth, camera)
    known = moved > 0
    np.testing.assert_array_equal(error, np.abs(DEPTH - moved)[known] / moved[known])


class CountedModel:
    """Predicts a ramp, and counts how often."""

    def __init__(self):
        self.description = {'name': 'ramp', 'space': 'depth'}
        self.predicted = 0

    def predict(self, rgb, **options):
        self.predicted += 1
        ramp = np.linspace(1, 0, len(rgb), dtype=np.float32)[:, None]
        return Prediction(np.repeat(ramp, rgb.shape[1], axis=1))


@pytest.fixture
def offline(tmp_path):
    """Return a function that evaluates images of a bag without a node, by a model."""

    def evaluate(path, images, model):
        config = NodeConfig()
        job = DemoJob(prepare_bag(path, config, images), config, tmp_path)
        return evaluate_offline(job, model, lambda done: None)

    return evaluate


def test_an_unusable_image_does_not_end_a_run_without_a_node(offline, changed_drive, tmp_path):
    first = []

    def change(topic, message, log_ns):
        if topic.endswith('camera_info') and not first:
            first.append(log_ns)
            return topic, {'distortion_model': 'unknown', 'd': np.ones(5)}, log_ns
        return topic, {}, log_ns

    model = CountedModel()
    results = offline(changed_drive(tmp_path / 'bag', change), 3, model)
    assert results['frames']['rejected'] == {'calibration': 1}
    assert model.predicted == 3  # of the first good image again, for its cloud
    assert (tmp_path / 'cloud.ply').is_file()


def test_no_more_images_than_asked_for_are_searched_for_a_cloud(offline, changed_drive, tmp_path):
    def change(topic, message, log_ns):
        return None if topic == '/velodyne_points' else (topic, {}, log_ns)

    model = CountedModel()
    results = offline(changed_drive(tmp_path / 'bag', change), 1, model)
    assert (results['frames']['read'], results['frames']['metric']) == (1, 0)
    assert model.predicted == 2
