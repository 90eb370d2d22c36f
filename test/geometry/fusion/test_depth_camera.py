# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A depth camera with holes and a limited range: depth in the holes, sigma beyond the range."""

import cv2
from marigold_ros.config import PipelineConfig
from marigold_ros.evaluation.baselines import interpolate_nearest
from marigold_ros.frame import Alignment, Frame, SparseDepth, SparseInput
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.geometry.sigma.fused_sigma import with_range_limit
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
import pytest
from simulated_predictions import PATTERNS, simulate_prediction

LIMIT = 4.0
CONFIG = PipelineConfig()


class Planted:
    """A model with a given prediction; its description leads to the embedded fusion network."""

    description = {'name': 'planted', 'path': '/nowhere', 'space': 'depth'}

    def predict(self, rgb, **options):
        return self.prediction


@pytest.fixture(scope='module')
def seen():
    """Truth, which pixels are holes, points and result in rooms that reach beyond the limit."""
    model, found = Planted(), []
    for seed in (0, 2, 10):
        drive = simulate_drive(1, seed=seed, kind='room', width=160, height=120)
        (frame,) = drive.frames
        z = frame.depth.astype(np.float64)
        rng = np.random.default_rng(seed)
        noise = cv2.GaussianBlur(rng.standard_normal(z.shape).astype(np.float32), (0, 0), 3.0)
        hole = noise < np.quantile(noise, 0.4)
        measured = z + 0.002 * z**2 * rng.standard_normal(z.shape)
        depth = np.where((z < LIMIT) & ~hole, measured, np.nan).astype(np.float32)
        model.prediction = simulate_prediction(z, PATTERNS[0], 'smooth', seed).prediction
        inputs = [SparseInput('depth_image', sparse_image=depth)]
        given = Frame(frame.rgb, drive.camera, inputs=inputs)
        points, _ = sparse_of_frame(given, CONFIG.alignment)
        found.append((z, hole & (z < LIMIT), points, FramePipeline(model, CONFIG).process(given)))
    return found


def test_holes_are_filled_better_than_by_the_nearest_point(seen):
    errors = []
    for z, hole, points, result in seen:
        v, u = np.nonzero(hole)
        for depth in (result.metric[v, u], interpolate_nearest(points, u, v)):
            errors.append(np.nanmean(np.abs(depth - z[v, u]) / z[v, u]))
    of_ours, of_nearest = np.mean(errors[::2]), np.mean(errors[1::2])
    assert of_ours < 0.7 * of_nearest


def test_sigma_covers_what_lies_beyond_the_range(seen):
    within = []
    for z, _, _, result in seen:
        beyond = z >= LIMIT
        assert beyond.mean() > 0.1
        within.append((np.abs(result.metric - z) <= result.sigma)[beyond])
    assert np.concatenate(within).mean() > 0.6


def wall(depth, **more):
    """Points on the left half of an image of one depth, and a fit of that depth everywhere."""
    v, u = (part.ravel() for part in np.mgrid[:48:2, :32:2])
    points = SparseDepth(u, v, np.full(len(u), depth, np.float32), **more)
    return points, Alignment('fitted', metric=np.full((48, 64), depth, np.float32))


def test_only_pixels_without_points_at_the_range_are_widened():
    points, fit = wall(4.0, kind=PointKind.DEPTH_CAMERA)
    sigma = with_range_limit(np.full((48, 64), 0.1), fit, points)
    np.testing.assert_allclose(sigma[:, :32], 0.1)
    assert (sigma[:, 44:] > 1.0).all()
    near = Alignment('fitted', metric=np.full((48, 64), 2.0, np.float32))
    assert with_range_limit(np.full((48, 64), 0.1), near, points).max() == pytest.approx(0.1)


def test_a_lidar_is_not_taken_for_limited():
    points, fit = wall(4.0)
    assert with_range_limit(np.full((48, 64), 0.1), fit, points).max() == pytest.approx(0.1)
