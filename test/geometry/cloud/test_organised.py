# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Clouds: unprojecting inverts projecting, invalid stays invalid, colours keep their bits."""

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig, PointsConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Alignment, Camera, FrameResult
from marigold_ros.geometry import organise_cloud, project_lidar, unproject_depth
from marigold_ros.geometry.cloud.organised import cloud_of, depth_of_cloud
import numpy as np
import pytest

K = np.array([[310.0, 0, 161.3], [0, 305.0, 118.7], [0, 0, 1]])


@given(
    fx=st.floats(50, 2000),
    fy=st.floats(50, 2000),
    cx=st.floats(-20, 80),
    cy=st.floats(-20, 60),
    skew=st.floats(-5, 5),
    seed=st.integers(0, 100),
)
def test_unprojecting_then_projecting_returns_the_same_pixels(fx, fy, cx, cy, skew, seed):
    matrix = np.array([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
    depth = np.random.default_rng(seed).uniform(1, 90, (40, 60)).astype(np.float32)
    points = unproject_depth(depth, matrix).reshape(-1, 3)
    config = AlignmentConfig(occlusion_window=1)
    sparse = project_lidar(points, np.eye(4), Camera(matrix, 60, 40), config)
    assert len(sparse) == depth.size
    np.testing.assert_array_equal(sparse.v * 60 + sparse.u, sparse.index)
    np.testing.assert_array_equal(sparse.z, depth.ravel()[sparse.index])


def test_invalid_depth_stays_invalid_in_all_coordinates():
    depth = np.full((5, 6), 2.0)
    depth[1, 2], depth[3, 4], depth[0, 0] = np.nan, np.inf, -np.inf
    depth.setflags(write=False)
    points = unproject_depth(depth, K)
    assert points.dtype == np.float32
    bad = ~np.isfinite(depth)
    assert np.isnan(points[bad]).all()
    assert np.isfinite(points[~bad]).all()


@pytest.mark.parametrize('stride', [1, 2, 3])
def test_a_thinned_cloud_is_every_nth_point_of_the_full_one(stride):
    rng = np.random.default_rng(2)
    depth, sigma = rng.uniform(1, 50, (2, 31, 43)).astype(np.float32)
    rgb = rng.integers(0, 256, (31, 43, 3), dtype=np.uint8)
    cloud = organise_cloud(depth, K, rgb, sigma, stride)
    full = unproject_depth(depth, K)[::stride, ::stride]
    assert cloud.dtype.names == ('x', 'y', 'z', 'rgb', 'sigma')
    for axis, name in enumerate('xyz'):
        np.testing.assert_allclose(cloud[name], full[..., axis], rtol=1e-6)
    np.testing.assert_array_equal(cloud['sigma'], sigma[::stride, ::stride])


def test_colours_are_packed_red_above_green_above_blue():
    rgb = np.array([[[255, 1, 2], [0, 0, 0], [3, 254, 255]]], dtype=np.uint8)
    cloud = organise_cloud(np.ones((1, 3)), K, rgb)
    bits = np.ascontiguousarray(cloud['rgb']).view(np.uint32)
    assert bits.tolist() == [[0xFF0102, 0, 0x03FEFF]]
    assert cloud.dtype.itemsize == 16


def test_normals_come_last_and_are_unknown_where_the_point_is():
    rng = np.random.default_rng(3)
    depth = rng.uniform(1, 9, (7, 9)).astype(np.float32)
    depth[2, 4] = np.inf
    normals = rng.normal(size=(7, 9, 3)).astype(np.float32)
    cloud = organise_cloud(depth, K, sigma=depth, stride=2, normals=normals)
    names = ('normal_x', 'normal_y', 'normal_z')
    assert cloud.dtype.names == ('x', 'y', 'z', 'sigma', *names)
    found = np.stack([cloud[name] for name in names], axis=-1)
    wanted = normals[::2, ::2].copy()
    wanted[1, 2] = np.nan
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(cloud['sigma'], depth[::2, ::2])


def test_cloud_omits_flying_and_out_of_range_points_unclipped():
    surface = np.full((60, 80), 4.0, dtype=np.float32)
    surface[:, 40:] = 12.0
    surface = cv2.blur(surface, (4, 4))
    depth = surface.copy()
    depth[5, 5], depth[6, 6], depth[7, 7], depth[30, 37:40] = 0.5, 50.0, np.nan, np.nan
    depth.setflags(write=False)
    kept = depth_of_cloud(depth, surface, K, PointsConfig(min_depth=1.0, max_depth=20.0))
    left_out = np.isnan(kept)
    np.testing.assert_array_equal(kept[~left_out], depth[~left_out])
    assert left_out[[5, 6, 7], [5, 6, 7]].all()
    assert left_out[30, 40]
    assert not left_out[:, :36][8:].any()
    assert not left_out[:, 44:].any()
    everything = PointsConfig(flying_angle=90.0, max_depth=100.0)
    np.testing.assert_array_equal(depth_of_cloud(depth, surface, K, everything), depth)
    by_columns = (np.asfortranarray(image) for image in (depth, surface))
    again = depth_of_cloud(*by_columns, K, PointsConfig(min_depth=1.0, max_depth=20.0))
    np.testing.assert_array_equal(again, kept)


@pytest.mark.parametrize(
    ('call', 'error'),
    [
        (lambda: unproject_depth(np.ones(3), K), InputError),
        (lambda: unproject_depth(np.ones((3, 3)), np.zeros((3, 3))), CalibrationError),
        (lambda: organise_cloud(np.ones((3, 3)), K, stride=0), InputError),
        (lambda: organise_cloud(np.ones((3, 3)), K, np.zeros((2, 3, 3), np.uint8)), InputError),
        (lambda: organise_cloud(np.ones((3, 3)), K, sigma=np.ones((3, 4))), InputError),
        (lambda: organise_cloud(np.ones((3, 3)), K, normals=np.ones((3, 4, 3))), InputError),
        (lambda: organise_cloud(np.ones((3, 3)), K, np.zeros((3, 3), np.uint8)), InputError),
        (lambda: organise_cloud(np.ones((3, 3)), K, np.zeros((3, 3, 3), np.float32)), InputError),
        (lambda: organise_cloud(np.ones((3, 3)), K, normals=np.ones((3, 3, 2))), InputError),
        (lambda: unproject_depth(np.ones((3, 3)), K.T), CalibrationError),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, error):
    with pytest.raises(error):
        call()


def test_the_cloud_of_a_frame_has_published_depth_normals_of_the_fitted_and_always_sigma():
    fitted = np.full((6, 8), 3.0, np.float32)
    metric = fitted.copy()
    metric[4, 4] = metric[2, 3] = np.nan
    result = FrameResult(
        *(metric, 'depth', Alignment(state='fitted', metric=fitted), metric),
        *(None, None, Camera(K, 8, 6), np.zeros((6, 8, 3), np.uint8), None, 0),
    )
    cloud = cloud_of(result, PointsConfig(sigma=True, normals=True, stride=2))
    np.testing.assert_array_equal(cloud['z'], metric[::2, ::2])
    assert np.isfinite(cloud['normal_z'][1, 1:]).all()  # also beside a gap
    assert np.isnan(cloud['sigma']).all()
