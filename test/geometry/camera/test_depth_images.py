# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Depth cameras: points of another camera land where the image sees them, with their noise."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Camera, Frame, SparseInput
from marigold_ros.geometry.camera.depth_images import is_depth_camera
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason
import numpy as np
import pytest

CONFIG = AlignmentConfig()
RGB = np.zeros((120, 160, 3), np.uint8)
CAMERA = Camera(np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]]), 160, 120)


def points_of(depth, config=CONFIG, **more):
    """Return the points of a depth image beside the image, and why there are none."""
    given = SparseInput('depth_image', sparse_image=depth, **more)
    return sparse_of_frame(Frame(RGB, CAMERA, inputs=[given]), config)


def plane_depth(camera, normal, distance):
    """Depth of the plane ``normal @ p = distance`` at each pixel of a camera."""
    v, u = np.mgrid[: camera.height, : camera.width].astype(float)
    rays = np.stack([(u - camera.K[0, 2]) / camera.K[0, 0], (v - camera.K[1, 2]) / camera.K[1, 1]])
    return distance / (normal[0] * rays[0] + normal[1] * rays[1] + normal[2])


@pytest.mark.parametrize(
    ('known', 'dense'),
    [
        (np.s_[:], True),
        (np.s_[::2], False),
        (np.s_[:, ::2], False),
        (([4, 4, 5], [4, 5, 4]), False),
    ],
)
def test_a_depth_camera_knows_pixels_beside_and_below_each_other(known, dense):
    depth = np.zeros((30, 40), np.float32)
    depth[known] = 3.0
    assert is_depth_camera(depth) == dense


@settings(max_examples=min(25, settings().max_examples))
@given(
    st.integers(40, 200),
    st.floats(0.6, 1.6),
    st.floats(-0.3, 0.3),
    st.tuples(*[st.floats(-0.2, 0.2)] * 3),
)
def test_a_plane_seen_by_another_camera_is_the_plane(width, focal, slope, baseline):
    own = Camera(
        np.array([[focal * width, 0, width / 2], [0, focal * width, 30], [0, 0, 1]]), width, 61
    )
    normal, distance = np.array([slope, 0.2, 1.0]), 2.0
    # p_cam = p_own + baseline: the same plane in either frame.
    depth = plane_depth(own, normal, distance - normal @ np.array(baseline))
    T = np.eye(4)
    T[:3, 3] = baseline
    sparse, refusal = points_of(depth, sparse_camera=own, T_cam_lidar=T)
    assert refusal is None
    assert len(sparse) > 50
    expected = plane_depth(CAMERA, normal, distance)[sparse.v, sparse.u]
    # A point lies up to half a pixel from the middle of its own.
    np.testing.assert_allclose(sparse.z, expected, rtol=0.01)


def test_the_own_camera_of_the_same_pose_changes_nothing():
    depth = np.random.default_rng(0).uniform(1.0, 4.0, (120, 160)).astype(np.float32)
    registered, _ = points_of(depth)
    config = AlignmentConfig(occlusion_window=1)
    projected, _ = points_of(depth, config, sparse_camera=CAMERA, T_cam_lidar=np.eye(4))
    for one, other in ((registered.u, projected.u), (registered.v, projected.v)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(registered.z, projected.z, rtol=1e-6)
    np.testing.assert_allclose(registered.sigma, projected.sigma, rtol=1e-5)


def test_depth_of_the_rectified_image_stays_where_the_raw_one_moves():
    raw = Camera(CAMERA.K, 160, 120, (-0.3, 0.1, 0.0, 0.0, 0.0))
    depth = np.full((120, 160), 2.0)
    depth[:, :20] = np.nan
    registered = SparseInput('depth_image', sparse_image=depth)
    for item in (registered, replace(registered, is_rectified=True)):
        sparse, _ = sparse_of_frame(Frame(RGB, raw, inputs=[item]), CONFIG)
        assert (sparse.u.min() == 20) == item.is_rectified


def test_the_noise_of_a_depth_camera_grows_with_the_square_of_depth():
    depth = np.repeat(np.linspace(1.0, 4.0, 160)[None], 120, axis=0)
    sparse, _ = points_of(depth)
    near, far = (sparse.sigma[np.argmin(np.abs(sparse.z - z))] for z in (2.0, 4.0))
    assert far / near == pytest.approx(4.0, rel=0.05)
    assert sparse.kind is PointKind.DEPTH_CAMERA


def test_a_scan_projected_into_an_image_keeps_all_points_and_has_no_such_noise():
    depth = np.full((120, 160), np.nan)
    depth[::4, ::2] = 50.0
    sparse, _ = points_of(depth)
    assert (len(sparse), sparse.sigma, sparse.kind) == (30 * 80, None, PointKind.LIDAR)


@pytest.mark.parametrize('unknown', [np.nan, 0.0, np.inf])
def test_pixels_without_depth_thin_out_no_others(unknown):
    image = np.full((600, 800), 3.0)
    image[:300] = unknown
    frame = Frame(np.zeros((600, 800, 3), np.uint8), inputs=[SparseInput('d', sparse_image=image)])
    assert len(sparse_of_frame(frame, CONFIG)[0]) == 300 * 800


@pytest.mark.parametrize(('height', 'width', 'least'), [(480, 640, 307_200), (720, 1280, 230_000)])
def test_the_image_of_a_depth_camera_is_used_whole_or_thinned_out_evenly(height, width, least):
    rgb, image = np.zeros((height, width, 3), np.uint8), np.full((height, width), 3.0)
    frame = Frame(rgb, inputs=[SparseInput('depth_image', sparse_image=image)])
    sparse, _ = sparse_of_frame(frame, CONFIG)
    assert least <= len(sparse) <= 310_000
    assert np.ptp(sparse.u) >= width - 2
    assert np.ptp(sparse.v) >= height - 2


def test_a_depth_camera_of_unknown_pose_has_no_points():
    assert points_of(np.full((60, 80), 2.0), sparse_camera=CAMERA) == (
        None,
        Reason('no_transform'),
    )
