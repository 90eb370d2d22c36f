# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A map that gains nothing is left out for some frames: depth is what it is when it is judged."""

from dataclasses import replace

from marigold_ros.frame import Camera, Frame, Prediction
from marigold_ros.geometry import unproject_depth
from marigold_ros.geometry.stream import StreamState
from marigold_ros.pipeline import FramePipeline
from marigold_ros.reasons import Reason
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest

CAMERA = Camera(np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]]), 160, 120)
PERIOD_NS = 100_000_000
EVERY = 4
SAMPLE = make_sample(0, 160, 120, 'room')


class Planted:
    """A map of the true depth, or one that is so far off that points alone are better."""

    def __init__(self, good: bool) -> None:
        noise = np.random.default_rng(0).normal(0.0, 0.02 if good else 0.4, (12, 16))
        fine = np.kron(noise, np.ones((10, 10)))
        depth = SAMPLE.depth * np.exp(fine)
        self.prediction = Prediction((1.0 / depth).astype(np.float32), space='disparity')

    def predict(self, rgb, **asked):
        return replace(self.prediction)


def frame(index: int, points: int = 2500) -> Frame:
    """Return a frame of the same street with other points in each."""
    v, u = np.nonzero(SAMPLE.depth)
    few = np.random.default_rng(index).choice(len(u), points, replace=False)
    seen = unproject_depth(SAMPLE.depth, CAMERA.K)[v[few], u[few]].astype(np.float64)
    return Frame(
        *(SAMPLE.rgb, CAMERA), points_lidar=seen, T_cam_lidar=np.eye(4), stamp_ns=index * PERIOD_NS
    )


class Judging(FramePipeline):
    """Judges the map in every frame."""

    def process(self, frame):
        self.state = replace(self.state, idle=0)
        return super().process(frame)


def test_depth_without_an_idle_map_is_that_of_a_map_that_was_judged():
    resting, judging = FramePipeline(Planted(good=False)), Judging(Planted(good=False))
    rested = 0
    for index in range(3 * EVERY):
        rested += resting.state.is_map_idle
        found, wanted = resting.process(frame(index)), judging.process(frame(index))
        np.testing.assert_array_equal(found.metric, wanted.metric)
        np.testing.assert_array_equal(found.sigma, wanted.sigma)
        for name in ('scale', 'shift', 'condition', 'rms', 'shares', 'n_inliers', 'state'):
            assert getattr(found.alignment, name) == getattr(wanted.alignment, name)
        assert found.alignment.map_refusal.code == wanted.alignment.map_refusal.code
    assert rested == 6


def test_a_map_that_is_good_at_last_has_its_share_within_four_frames():
    pipeline = FramePipeline(Planted(good=False))
    for index in range(2 * EVERY + 2):
        assert not pipeline.process(frame(index)).alignment.shares['map']
    pipeline.model = Planted(good=True)
    shares = [
        pipeline.process(frame(index)).alignment.shares['map']
        for index in range(2 * EVERY + 2, 3 * EVERY + 2)
    ]
    assert shares[0] == 0.0
    assert shares[-1] > 0.1
    assert not pipeline.state.is_map_idle


def test_what_is_held_after_idle_frames_is_the_last_fit_with_its_field_and_age():
    pipeline = FramePipeline(Planted(good=False))
    last = -1
    for index in range(EVERY + 3):
        judged = not pipeline.state.is_map_idle
        pipeline.process(frame(index))
        last = index if judged else last
    assert last == EVERY
    held = pipeline.state.held_fit((EVERY + 3) * PERIOD_NS)
    assert held.field is not None
    assert held.age_ns == 3 * PERIOD_NS


def test_points_that_contradict_each_other_make_no_metres_beside_an_idle_map():
    pipeline = FramePipeline(Planted(good=False))
    for index in range(EVERY + 1):
        pipeline.process(frame(index))
    assert pipeline.state.is_map_idle
    coming = frame(EVERY + 1)
    points = coming.lidar.points_lidar
    factor = np.exp(np.random.default_rng(0).normal(0.0, 1.5, (len(points), 1)))
    shuffled = replace(coming.lidar, points_lidar=points * factor)
    result = pipeline.process(replace(coming, inputs=(shuffled,)))
    assert result.metric is None
    assert result.alignment.state == 'none'


@pytest.mark.parametrize('idle', range(14))
def test_an_idle_map_is_judged_in_one_of_four_frames(idle):
    state = StreamState(idle=idle, map_refusal=Reason('map_gains_nothing', {}))
    assert state.is_map_idle == (idle in (5, 6, 7, 9, 10, 11, 13))
    assert not state.without_fits().is_map_idle
