# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""LiDAR in the image: points are projected, or dropped and counted by cause."""

import json

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Camera, SparseDepth
from marigold_ros.geometry import project_lidar
from marigold_ros.geometry.camera.lidar_projection import nearest_per_pixel, sparse_from_depth
from marigold_ros.geometry.camera.rectification import rectified
from marigold_ros.geometry.fit_report import coverage
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
import pytest

CAMERA = Camera(np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]]), 160, 120)
CONFIG = AlignmentConfig()
# A LiDAR on the left of the camera, seen from which things move far against each other.
BESIDE = np.eye(4)
BESIDE[0, 3] = -0.5
REASONS = ('not_finite', 'out_of_range', 'outside', 'farther_in_pixel', 'occluded', 'kept')


def project(points, T=None, camera=CAMERA, config=CONFIG, **more):
    return project_lidar(points, np.eye(4) if T is None else T, camera, config, **more)


def wall(z, u, v):
    """Points at depth z on the given pixels."""
    u, v = np.meshgrid(u, v)
    return np.stack([(u - 79.5) / 100 * z, (v - 59.5) / 100 * z, np.full(u.shape, z)], -1).reshape(
        -1, 3
    )


def points_of(sparse):
    return {*zip(sparse.u.tolist(), sparse.v.tolist(), sparse.z.tolist(), strict=True)}


@given(seed=st.integers(0, 1000), tilt=st.floats(-3, 3), n=st.integers(0, 400))
def test_points_behind_the_camera_are_counted_not_projected(seed, tilt, n):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-150, 150, (n, 3))
    points[rng.random(n) < 0.1] = np.nan
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(rng.normal(size=3) * tilt)[0]
    T[:3, 3] = rng.normal(size=3)
    sparse = project(points, T)
    z = (T[:3, :3] @ points.T + T[:3, 3:])[2]
    assert (z[sparse.index] > 0).all()
    assert ((sparse.z >= CONFIG.min_depth) & (sparse.z <= CONFIG.max_depth)).all()
    assert ((sparse.u >= 0) & (sparse.u < 160) & (sparse.v >= 0) & (sparse.v < 120)).all()
    assert sparse.counts['points'] == n == sum(sparse.counts[reason] for reason in REASONS)
    assert sparse.counts['kept'] == len(sparse)


def test_projection_agrees_with_opencv():
    rng = np.random.default_rng(3)
    points = rng.uniform((-5, -4, 3), (5, 4, 30), (5000, 3))
    R, t = np.array([0.02, -0.03, 0.01]), np.array([0.1, -0.2, 0.3])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(R)[0], t
    sparse = project(points, T, config=AlignmentConfig(occlusion_window=1))
    pixels = cv2.projectPoints(points, R, t, CAMERA.K, None)[0][:, 0]
    outside = ((pixels < -0.5) | (pixels > (159.5, 119.5))).any(axis=1)
    assert sparse.counts['outside'] == np.count_nonzero(outside)
    assert len(sparse) > 100
    assert np.abs(sparse.u - pixels[sparse.index, 0]).max() <= 0.5 + 1e-6
    assert np.abs(sparse.v - pixels[sparse.index, 1]).max() <= 0.5 + 1e-6


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([1, 2, 3]))))
def test_one_return_stays_in_each_pixel_and_it_is_a_nearest_one(returns):
    u, v, z = (np.array([item[part] for item in returns], int) for part in range(3))
    kept = nearest_per_pixel(u, v, z.astype(np.float32), 3)
    nearest = {}
    for column, row, depth in returns:
        nearest[row, column] = min(depth, nearest.get((row, column), depth))
    winners = list(zip(zip(v[kept], u[kept], strict=True), z[kept], strict=True))
    assert winners == sorted(nearest.items())


@pytest.mark.parametrize('seed', range(3))
def test_the_order_of_the_points_of_a_cloud_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform((-4, -3, 1), (4, 3, 9), (20_000, 3))
    order = rng.permutation(len(points))
    sparse, mixed = project(points, BESIDE), project(points[order], BESIDE)
    for name in 'uvz':
        np.testing.assert_array_equal(getattr(mixed, name), getattr(sparse, name))
    np.testing.assert_array_equal(order[mixed.index], sparse.index)
    assert mixed.counts == sparse.counts
    assert len(points) == sum(sparse.counts[reason] for reason in REASONS)


def test_every_pixel_of_a_portrait_keeps_its_own_point():
    portrait = Camera(np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]]), 12, 120)
    sparse = project(wall(5.0, range(12), range(120)).tolist(), camera=portrait)
    assert len(sparse) == 12 * 120
    assert sparse.counts['farther_in_pixel'] == 0


def from_beside(points):
    """Points of the camera's frame in that of the LiDAR beside it."""
    return np.asarray(points) - BESIDE[:3, 3]


def test_only_background_seen_past_an_object_is_hidden():
    # A post at 5 m, sampled every 4th pixel; the wall at 20 m is sampled between and beside it.
    post = wall(5.0, range(60, 81, 4), range(20, 100, 4))
    between = wall(20.0, range(62, 79, 4), range(22, 96, 4))
    beside = wall(20.0, range(100, 150, 4), range(20, 100, 4))
    points = from_beside(np.concatenate([post, between, beside]))
    sparse = project(points, BESIDE)
    assert sparse.counts['occluded'] == len(between)
    assert len(sparse) == len(post) + len(beside)
    off = project(points, BESIDE, config=AlignmentConfig(occlusion_window=1))
    assert off.counts['occluded'] == 0


def test_background_between_the_lines_on_an_object_is_hidden_too():
    # A LiDAR above sees three rows of a board at 4 m; what it sees over it lands in between.
    board, wall_behind = wall(4.0, range(60, 100), [50, 70, 90]), wall(12.0, range(160), [60])
    above = np.eye(4)
    above[1, 3] = -0.8
    points = np.concatenate([board, wall_behind]) - above[:3, 3]
    sparse = project(points, above)
    assert sparse.counts['occluded'] == pytest.approx(40, abs=4)
    assert (sparse.z[(sparse.u >= 62) & (sparse.u < 98)] == 4.0).all()
    off = project(points, above, config=AlignmentConfig(occlusion_window=1))
    assert off.counts['occluded'] == 0


def test_a_sensor_at_the_camera_sees_nothing_that_is_hidden():
    points = np.random.default_rng(5).uniform((-8, -6, 2), (8, 6, 12), (3000, 3))
    turned = np.eye(4)
    turned[:3, :3] = cv2.Rodrigues(np.array([0.02, -0.04, 0.01]))[0]
    assert project(points, turned).counts['occluded'] == 0
    assert project(from_beside(points), BESIDE).counts['occluded'] > 300


def test_a_scan_in_a_frame_far_from_its_sensor_keeps_what_the_camera_sees():
    drive = simulate_drive(1, width=160, height=120, lidar_beams=64)
    (frame,) = drive.frames
    points = np.stack([frame.points[axis] for axis in 'xyz'], axis=1).astype(float)
    T, camera = drive.mounting.T_cam_lidar, rectified(drive.camera)
    known = project(points, T, camera)
    odom = np.eye(4)
    odom[:3, 3] = -30.0, 20.0, -1.5  # in the LiDAR's frame
    moved = project(points - odom[:3, 3], T @ odom, camera)
    assert known.counts['occluded'] > 0
    assert set(known.index) <= set(moved.index)


def test_rays_without_a_return_are_no_points_at_a_sensor_in_front_of_the_camera():
    T = np.eye(4)
    T[:3, 3] = 0.1, 0.2, 1.5
    seen = wall(8.0, range(160), range(120)) - T[:3, 3]
    sparse = project(np.concatenate([seen, np.zeros((50, 3))]), T)
    assert sparse.counts['out_of_range'] == 50
    np.testing.assert_array_equal(sparse.index, project(seen, T).index)


def test_points_on_pixels_without_image_count_as_outside():
    valid = np.zeros((120, 160), bool)
    valid[:, 80:] = True
    sparse = project(wall(5.0, range(160), [50]), valid=valid)
    assert sparse.u.min() == 80
    assert sparse.counts['outside'] == 80


@pytest.mark.parametrize('height', [60, 240])
def test_a_mask_of_another_image_is_refused(height):
    with pytest.raises(InputError, match=rf'valid has shape \({height}, 160\), the camera \(120'):
        project(np.ones((5, 3)), valid=np.ones((height, 160), bool))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda T: T[:3], 'shape'),
        (lambda T: np.where(T == 1, np.nan, T), 'finite=False'),
        (lambda T: T + np.eye(4)[3], 'last row'),
        (lambda T: np.diag([1.001, 1, 1, 1]), 'orthonormality by 0.002'),
        (lambda T: np.diag([-1.0, 1, 1, 1]), 'determinant -1'),
    ],
)
def test_a_transform_that_is_no_rigid_motion_is_refused(change, message):
    with pytest.raises(CalibrationError, match=message):
        project(np.ones((5, 3)), change(np.eye(4)))


def test_a_distorted_camera_is_refused():
    with pytest.raises(CalibrationError, match='rectif'):
        project(np.ones((5, 3)), camera=Camera(CAMERA.K, 160, 120, (0.1, 0, 0, 0, 0)))


@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [((5, 4), float), ((3,), float), ((5, 3, 1), float), ((5, 3), object), ((5, 3), complex)],
)
def test_points_of_a_wrong_shape_or_type_are_refused(shape, dtype):
    with pytest.raises(InputError, match=rf'dtype {np.dtype(dtype)}; a scan is \(N, 3\) floats'):
        project_lidar(np.ones(shape, dtype), np.eye(4), CAMERA, CONFIG)


@pytest.mark.parametrize(
    ('shape', 'dtype', 'stride'),
    [((4, 5, 1), float, 1), ((0, 0), float, 1), ((4, 5), object, 1), ((4, 5), float, 0)],
)
def test_a_depth_image_of_a_wrong_shape_type_or_stride_is_refused(shape, dtype, stride):
    with pytest.raises(InputError, match=rf'{np.dtype(dtype)}.*stride of at least 1'):
        sparse_from_depth(np.ones(shape, dtype), CONFIG, stride)


def test_a_depth_image_becomes_points_at_its_own_pixels():
    depth = np.random.default_rng(0).uniform(0.01, 120, (40, 50)).astype(np.float32)
    depth[::2, 4] = 0.5 * CONFIG.min_depth
    depth[::3] = np.nan
    depth[1, 1] = 0
    sparse = sparse_from_depth(depth, CONFIG, stride=2)
    assert set(sparse.u % 2) == set(sparse.v % 2) == {0}
    np.testing.assert_array_equal(sparse.z, depth[sparse.v, sparse.u])
    np.testing.assert_array_equal(sparse.z, depth.ravel()[sparse.index])
    assert CONFIG.min_depth <= sparse.z.min() < sparse.z.max() <= CONFIG.max_depth
    assert sparse.counts['points'] == 500 == sum(sparse.counts[reason] for reason in REASONS)


@pytest.mark.parametrize(('name', 'least'), [('kitti', 12000), ('nuscenes', 2000)])
def test_a_real_scan_covers_its_image(shared_data, name, least):
    calibration = json.loads((shared_data / name / 'camera.json').read_text())
    height, width = cv2.imread(str(shared_data / name / 'image.jpg')).shape[:2]
    points = np.load(shared_data / name / 'points_lidar.npy')
    camera = Camera(np.array(calibration['K']), width, height)
    sparse = project_lidar(points, np.array(calibration['T_cam_lidar']), camera, CONFIG)
    assert len(sparse) > least
    assert sparse.counts['occluded'] < 0.2 * len(sparse)
    # Road scenes: what is lower in the image is nearer.
    low, high = sparse.v > 0.8 * height, sparse.v < 0.55 * height
    assert np.median(sparse.z[low]) < 0.7 * np.median(sparse.z[high])
    mixed = np.random.default_rng(0).permutation(len(points))
    again = project_lidar(points[mixed], np.array(calibration['T_cam_lidar']), camera, CONFIG)
    assert points_of(again) == points_of(sparse)  # in any order


def test_coverage_measures_image_and_depth_range():
    assert coverage(None, (120, 160))['image_coverage'] == 0.0
    u, v = np.arange(0, 160, 10), np.full(16, 5)
    row = coverage(SparseDepth(u, v, np.linspace(2, 21, 16).astype(np.float32)), (120, 160))
    assert row['image_coverage'] == pytest.approx(1 / 12)
    assert (row['nearest'], row['farthest']) == pytest.approx((2.95, 20.05), rel=1e-3)
    every = np.mgrid[0:120, 0:160].reshape(2, -1)
    full = SparseDepth(every[1], every[0], np.ones(every.shape[1], np.float32))
    assert coverage(full, (120, 160))['image_coverage'] == 1.0
