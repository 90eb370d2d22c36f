# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma where a sensor could not have points: beyond its range, off the plane or line it saw."""

from hypothesis import example, given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.sigma.fused_sigma import widen_sigma
from marigold_ros.geometry.sigma.unseen import fills_areas, is_line, is_plane, widen_unseen
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest

SHAPE = (48, 64)


def points_at(seen, depth, **more):
    """Points of depth (H, W) where seen (H, W)."""
    v, u = np.nonzero(seen)
    return SparseDepth(u, v, depth[v, u].astype(np.float32), **more)


def widened(points, depth, sigma=0.1, **more):
    """Sigma that was the same everywhere, of depth (H, W)."""
    fit = Alignment('fitted', metric=np.broadcast_to(np.float32(depth), SHAPE), **more)
    return widen_unseen(np.full(SHAPE, sigma, np.float32), fit, points)


@pytest.fixture
def left():
    """Pixels of the left half, and depth of a bent wall from 3.5 to 4 m."""
    seen = np.zeros(SHAPE, bool)
    seen[:, :32] = True
    return seen, np.broadcast_to(3.5 + 0.5 * np.cos(np.arange(64) / 4), SHAPE)


@pytest.mark.parametrize('kind', [PointKind.DEPTH_CAMERA, PointKind.LIDAR])
def test_of_a_sensor_that_fills_areas_what_may_be_beyond_its_range_is_widened(left, kind):
    points = points_at(*left, kind=kind)
    sigma = widened(points, 4.0)
    np.testing.assert_allclose(sigma[:, :32], 0.1)
    np.testing.assert_allclose(sigma[:, 44:], 0.45 * 4.0, rtol=1e-6)
    np.testing.assert_allclose(widened(points, 3.2), 0.1)  # below 0.85 of the farthest
    np.testing.assert_array_equal(widened(points, 4.0, sigma=2.0), 2.0)  # nor does it shrink


def test_a_frame_is_widened_by_what_its_points_could_not_see_and_by_what_they_dispute(left):
    points, metric = points_at(*left, kind=PointKind.DEPTH_CAMERA), np.full(SHAPE, 4.0, 'f4')
    fit, map_ = Alignment('fitted', metric=metric), Prediction(metric / 10)
    for dispute in (0.0, 0.3):
        sigma = widen_sigma(0.1 * metric, map_, fit, points, AlignmentConfig(), dispute)
        np.testing.assert_allclose(sigma[:, :32], np.hypot(0.1, dispute) * 4.0, rtol=1e-6)
        np.testing.assert_allclose(sigma[:, 44:], np.hypot(0.45, dispute) * 4.0, rtol=1e-6)


def test_lines_of_a_lidar_are_not_taken_for_limited_as_those_of_a_depth_camera_are(left):
    seen, depth = left
    lines = np.zeros(SHAPE, bool)
    lines[::8, ::2] = True
    np.testing.assert_allclose(widened(points_at(seen & lines, depth), 4.0), 0.1)
    few = points_at(seen & lines, depth, kind=PointKind.DEPTH_CAMERA)
    np.testing.assert_allclose(widened(few, 4.0)[:, 60:], 0.45 * 4.0, rtol=1e-6)


def test_points_of_the_ground_and_of_a_radar_say_nothing_of_what_is_beside_them(left):
    for kind in (PointKind.GROUND, PointKind.RADAR):
        np.testing.assert_allclose(widened(points_at(*left, kind=kind), 4.0), 0.1)


def test_off_the_only_plane_that_is_seen_all_is_widened():
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    floor = 1.0 / (0.1 + 0.005 * v)
    seen = (v >= 24) & (u % 2 == 0) & (v % 6 == 0)
    sigma = widened(points_at(seen, floor), floor)
    np.testing.assert_allclose(sigma[30:], 0.1)
    np.testing.assert_allclose(sigma[:8], 0.45 * floor[:8], rtol=1e-6)
    np.testing.assert_array_equal(widened(points_at(seen, floor), floor, led_by='map'), sigma)
    step = np.where(u < 32, floor, 0.8 * floor)
    np.testing.assert_allclose(widened(points_at(seen, step), floor), 0.1)


def test_points_that_were_found_wrong_do_not_hide_a_plane():
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    floor = 1.0 / (0.1 + 0.005 * v)
    wrong = (u + v) % 5 == 0
    points = points_at((v >= 24) & (v % 6 == 0), np.where(wrong, 2.0 * floor, floor))
    metric = floor.astype(np.float32)
    for inlier, least in ((None, 0.1), (~wrong[points.v, points.u], 0.45 * floor[0, 0])):
        fit = Alignment('fitted', metric=metric, inlier=inlier)
        sigma = widen_unseen(np.full(SHAPE, 0.1), fit, points)
        assert sigma[0, 0] == pytest.approx(least)


def test_beside_the_line_of_a_planar_laser_all_is_widened():
    depth = np.broadcast_to(2.0 + np.arange(64) % 7, SHAPE).astype(np.float32)
    seen = np.zeros(SHAPE, bool)
    seen[30, ::2] = True
    sigma = widened(points_at(seen, depth), 3.0)
    assert sigma[30].max() == pytest.approx(0.1)
    assert sigma[:20].min() == pytest.approx(0.45 * 3.0)
    # Of depth of a map that foretold the line sigma is the map's.
    np.testing.assert_allclose(widened(points_at(seen, depth), 3.0, led_by='map'), 0.1)
    seen[10, ::2] = True
    np.testing.assert_allclose(widened(points_at(seen, depth), 3.0), 0.1)


@given(st.integers(3, 3000), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.integers(0, 99))
@example(19, 0.5, -0.5, 64)
def test_points_of_any_plane_are_on_one_whichever_few_are_wrong(count, across, down, seed):
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, 640, count), rng.integers(0, 480, count)
    z = 3.0 / (1.0 + across * (u - 320) / 640 + down * (v - 240) / 480)
    z *= rng.uniform(0.99, 1.01, count)
    wrong = rng.random(count) < 0.02
    wrong[: count // 2] = False
    assert is_plane(u, v, np.where(wrong & (count > 500), 3 * z, z))


@given(st.integers(40, 3000), st.floats(1.1, 3.0), st.integers(0, 99))
def test_points_of_two_planes_are_not_on_one(count, step, seed):
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, 640, count), rng.integers(0, 480, count)
    z = np.where(rng.permutation(count) % 3 == 0, step, 1.0)
    assert not is_plane(u, v, z)


@pytest.mark.parametrize('width', [64, 1280])
@pytest.mark.parametrize(('part', 'on_line'), [(0.008, True), (0.015, False)])
def test_points_within_a_hundredth_of_the_width_are_on_a_line(width, part, on_line):
    along = np.linspace(0.0, width, 50)
    across = part * width * np.where(np.arange(50) % 2, 1.0, -1.0)
    assert is_line(0.8 * along - 0.6 * across, 0.6 * along + 0.8 * across, width) == on_line


@pytest.mark.parametrize('count', [1, 2])
def test_fewer_than_three_points_are_on_a_line(count):
    assert is_line(np.array([3, 50])[:count], np.array([4, 9])[:count], 64)


@pytest.mark.parametrize('stride', [1, 2, 3, 4])
def test_depth_images_of_any_stride_fill_areas_and_points_anywhere_do_not(stride):
    rng = np.random.default_rng(1)
    empty = np.ones((480, 640), np.uint8)
    empty[100:400:stride, 200:500:stride] = 0
    assert fills_areas(empty)
    anywhere = (rng.random((480, 640)) >= 0.05).astype(np.uint8)
    assert not fills_areas(anywhere)
    rows = np.ones((480, 640), np.uint8)
    rows[:: 480 // 64, ::stride] = 0
    assert not fills_areas(rows)
    patch = np.ones((480, 640), np.uint8)
    patch[:40, :40:stride] = 0
    assert not fills_areas(patch)  # as it is not a tenth of the image
