# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma of held depth: that of the depth before, and what changed since."""

from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Alignment, CurrentFrame, Frame, Prediction
from marigold_ros.geometry.camera.rectification import thumbnail
from marigold_ros.geometry.fusion.fuse import FusionGuide
from marigold_ros.geometry.sigma.fused_sigma import SigmaHistory, state_sigma
from marigold_ros.geometry.stream import carry_over, PreviousFrame
from marigold_ros.pipeline import FramePipeline
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
import pytest

CONFIG = AlignmentConfig()
STEP = 100_000_000
SHAPE = (120, 160)


def nothing(_points):
    return Alignment()


def held(metric):
    """Return depth that is held with a sigma of 1 %, as points tell it that a map goes through."""
    return Alignment('held', metric=metric, sigma=0.01 * metric, age_ns=STEP)


def moving(columns):
    rng = np.random.default_rng(0)
    rgb = rng.integers(40, 215, (*SHAPE, 3)).astype(np.uint8)
    return thumbnail(np.roll(rgb, columns, axis=1))


@pytest.mark.parametrize('change', [0.0, 0.5])
def test_it_is_that_of_the_previous_depth_and_of_what_changed(change):
    depth = np.repeat(np.linspace(30, 4, 120, dtype=np.float32)[:, None], 160, axis=1)
    sigma = 0.2 * depth
    previous = PreviousFrame(depth, moving(0), 0, sigma=sigma)
    current = CurrentFrame(moving(9), STEP)
    stated = carry_over(held(depth + np.float32(change)), previous, current, CONFIG, nothing)
    np.testing.assert_allclose(stated.sigma, np.hypot(sigma, change), rtol=1e-4)
    unknown = PreviousFrame(depth, moving(0), 0)
    assert carry_over(held(depth), unknown, current, CONFIG, nothing).sigma.max() < 0.31


def test_it_grows_with_the_age_of_the_depth():
    depth = np.full(SHAPE, 10.0, np.float32)
    guide, map_ = FusionGuide(SHAPE), Prediction(np.zeros(SHAPE, np.float32))
    stated = state_sigma(held(depth), map_, None, guide, CONFIG, SigmaHistory())
    np.testing.assert_allclose(stated.sigma, np.hypot(0.1, CONFIG.hold_growth), rtol=1e-6)


def test_with_poses_it_goes_along_with_its_depth():
    journey = simulate_drive(frames=2, width=160, height=120, lidar_beams=2)
    first, second = journey.frames
    depth, now = (np.where(np.isfinite(f.depth), f.depth, np.nan) for f in (first, second))
    places = [(journey.camera.K, f.T_world_cam) for f in (first, second)]
    grey = thumbnail(first.rgb)
    previous = PreviousFrame(depth, grey, 0, *places[0], sigma=0.2 * depth)
    current = CurrentFrame(moving(0), STEP, *places[1])
    stated = carry_over(held(now), previous, current, CONFIG, nothing)
    relative = (stated.sigma / now)[np.isfinite(now)]
    assert np.quantile(relative, 0.05) > 0.19
    assert np.median(relative) < 0.22


def test_beside_the_previous_image_it_is_the_error_of_the_fit():
    K, pose = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]]), np.eye(4)
    depth = np.full(SHAPE, 10.0, np.float32)
    previous = PreviousFrame(depth, moving(0), 0, K, np.eye(4), sigma=0.2 * depth)
    pose[0, 3] = 6.0  # the right part of the image was not in view
    current = CurrentFrame(moving(9), STEP, K, pose)
    by_fit = Alignment('held', metric=depth, spread_log=0.3, age_ns=STEP)
    stated = carry_over(by_fit, previous, current, CONFIG, nothing)
    np.testing.assert_allclose(stated.sigma[:, 110:], 3.0)
    np.testing.assert_allclose(stated.sigma[5:-5, 10:90], 2.0, rtol=1e-5)


class Wavy:
    """A model that is off by another field of 15 % in each image."""

    def __init__(self, depths):
        self._depths, self._rng = iter(depths), np.random.default_rng(2)

    def predict(self, rgb, **_settings):
        depth = next(self._depths)
        v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
        phase = self._rng.uniform(0, 6, 2)
        wave = 0.15 * np.sin(u / 25 + phase[0]) * np.cos(v / 25 + phase[1])
        relative = (np.minimum(depth, 80.0) / 80.0 * np.exp(wave)).astype(np.float32)
        return Prediction(relative / max(1.0, float(relative.max())))

    def reset(self):
        pass


def test_without_scans_one_sigma_covers_what_it_should_at_once():
    journey = simulate_drive(frames=9, width=320, height=240, lidar_beams=16, seed=3)
    frames = list(journey.frames)
    pipeline = FramePipeline(Wavy([f.depth for f in frames]), PipelineConfig())
    covered = []
    for index, frame in enumerate(frames):
        points = np.stack([frame.points[axis] for axis in 'xyz'], 1) if index < 6 else None
        result = pipeline.process(
            Frame(
                rgb=frame.rgb,
                camera=journey.camera,
                points_lidar=points,
                T_cam_lidar=journey.mounting.T_cam_lidar,
                stamp_ns=frame.stamp_ns,
            )
        )
        if index < 6:
            continue
        assert result.alignment.state == 'held'
        known = np.isfinite(frame.depth) & np.isfinite(result.metric)
        off = np.abs(result.metric - frame.depth)[known]
        covered.append((off <= result.sigma[known]).mean())
    assert min(covered) > 0.6
