# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A depth camera with holes and a limited range: depth in the holes, sigma beyond the range."""

import cv2
from marigold_ros.config import PipelineConfig
from marigold_ros.evaluation.baselines import interpolate_nearest
from marigold_ros.frame import Frame, SparseDepth, SparseInput
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.pipeline import FramePipeline
from marigold_ros.point_kinds import PointKind
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
import pytest
from simulated_predictions import PATTERNS, simulate_prediction

LIMIT = 4.0
CONFIG = PipelineConfig()


def points_of(depth, K):
    """Points (N, 3) of a depth image, as a depth camera's cloud has them."""
    v, u = np.nonzero(np.isfinite(depth))
    z = depth[v, u].astype(np.float64)
    return np.stack([u * z, v * z, z], axis=1) @ np.linalg.inv(np.asarray(K)).T


class Planted:
    """A model with a given prediction; its description leads to the embedded fusion network."""

    description = {'name': 'planted', 'path': '/nowhere', 'space': 'depth'}

    def predict(self, rgb, **options):
        return self.prediction


@pytest.fixture(scope='module', params=['depth_image', 'lidar'])
def seen(request):
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
        if request.param == 'depth_image':
            given = SparseInput('depth_image', sparse_image=depth)
        else:
            cloud = points_of(depth, drive.camera.K)
            given = SparseInput('lidar', points_lidar=cloud, T_cam_lidar=np.eye(4))
        given = Frame(frame.rgb, drive.camera, inputs=[given])
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


@pytest.fixture(scope='module')
def beside():
    """A function that returns truth, and the result of a LiDAR beside a depth camera."""
    drive = simulate_drive(1, seed=2, kind='room', width=160, height=120)
    (frame,) = drive.frames

    def see(near=None, factor=1.0):
        z = frame.depth.astype(np.float64)
        seen = z.copy() if near is None else np.where(near, 0.5 * z.min(), z)
        v, u = (part.ravel() for part in np.mgrid[3:120:6, 1:160:3])
        lidar = SparseInput('pointcloud', sparse=SparseDepth(u, v, np.float32(z[v, u])))
        depth = np.float32(factor * np.where(seen < LIMIT, seen, np.nan))
        # As the stride of a large image leaves it.
        depth[1::2] = depth[:, 1::2] = np.nan
        v, u = np.nonzero(np.isfinite(depth))
        points = SparseDepth(u, v, depth[v, u], kind=PointKind.DEPTH_CAMERA)
        model = Planted()
        model.prediction = simulate_prediction(z, PATTERNS[0], 'smooth', 0).prediction
        inputs = [lidar, SparseInput('depth_image', sparse=points)]
        return seen, FramePipeline(model, CONFIG).process(
            Frame(frame.rgb, drive.camera, inputs=inputs)
        )

    return see


def test_what_stands_below_the_lines_of_a_lidar_is_where_the_depth_camera_sees_it(beside):
    near = np.zeros((120, 160), bool)
    near[50:110, 50:110] = True
    seen, result = beside(near)
    ratio = (result.metric / seen)[near]
    assert np.mean(np.abs(ratio - 1.0) > 0.1) < 0.03


@pytest.mark.parametrize('factor', [0.7, 1.3])
def test_sigma_covers_by_how_much_two_sources_differ(beside, factor):
    right = beside()[1].sigma
    seen, result = beside(factor=factor)
    assert np.mean(np.abs(result.metric - seen) <= 1.1 * result.sigma) > 0.9
    assert np.median(right / seen) < 0.1
