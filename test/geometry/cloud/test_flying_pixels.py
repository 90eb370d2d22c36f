# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Flying pixels: ramps between surfaces go, surfaces stay, at any scale."""

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry.cloud.flying_pixels import flying_pixels
import numpy as np
import pytest

K = np.array([[554.0, 0, 319.5], [0, 554.0, 239.5], [0, 0, 1]])
SIZE = (480, 640)


def plane(normal, distance, size=SIZE, matrix=K):
    """Depth of the plane with that normal and distance from the camera's centre."""
    v, u = np.mgrid[0 : size[0], 0 : size[1]]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(matrix).T
    along = rays @ np.asarray(normal, dtype=float)
    with np.errstate(divide='ignore'):
        depth = distance / along
    depth[(along <= 0) | (depth > 200)] = np.nan
    return depth.astype(np.float32)


def step(near, far, column=320):
    depth = np.full(SIZE, far, dtype=np.float32)
    depth[:, :column] = near
    return depth


@pytest.mark.parametrize('blur', [4, 8, 16])
@pytest.mark.parametrize(('near', 'far'), [(2, 3), (4, 20), (10, 100)])
@pytest.mark.parametrize('upright', [True, False])
def test_most_of_a_blurred_step_goes_and_both_surfaces_stay(blur, near, far, upright):
    truth = step(near, far) if upright else step(near, far).T.copy()
    depth = cv2.blur(truth, (blur, blur))
    gap = np.minimum(np.abs(depth - near), np.abs(depth - far))
    veil, surface = gap > 0.05 * depth, gap < 1e-3 * depth
    mask = flying_pixels(depth, K)
    inner = np.s_[40:-40, 40:-40]
    assert mask[inner][veil[inner]].mean() > (0.6 if blur == 16 else 0.8)
    assert mask[surface].mean() < 0.01
    near_step = cv2.dilate((gap > 1e-6).astype(np.uint8), np.ones((9, 9))) > 0
    assert not mask[~near_step].any()


@given(
    degrees=st.floats(0, 88),
    turn=st.floats(0, 360),
    distance=st.floats(0.3, 5),
    focal=st.floats(150, 1500),
)
def test_planes_stay_however_they_are_tilted(degrees, turn, distance, focal):
    matrix = np.array([[focal, 0, 79.5], [0, focal, 59.5], [0, 0, 1]])
    tilt, turn = np.deg2rad(degrees), np.deg2rad(turn)
    normal = (np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt))
    assert not flying_pixels(plane(normal, distance, (120, 160), matrix), matrix).any()


@pytest.mark.parametrize('angle', [89.0, 89.999_999])
def test_of_a_camera_of_short_focal_length_and_steep_angles_nothing_flies(angle):
    assert not flying_pixels(cv2.blur(step(2, 30), (8, 8)), np.diag([1.0, 1.0, 1.0]), angle).any()


def test_a_noisy_road_stays_up_to_80_degrees():
    road = plane((0, 1, 0), 1.6)
    shallow = np.isfinite(road) & (road < 1.6 * np.tan(np.deg2rad(80)))
    noise = 1 + 0.002 * np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    assert flying_pixels(road * noise, K)[shallow].mean() < 1e-3


def test_corners_between_planes_stay():
    floor, wall = plane((0, 1, 0), 1.5), plane((0, 0, 1), 8.0)
    assert not flying_pixels(np.fmin(floor, wall), K).any()


@pytest.mark.parametrize('width', [3, 6, 20])
def test_the_middle_of_a_thin_post_stays(width):
    depth = np.full(SIZE, 30, dtype=np.float32)
    depth[:, 300 : 300 + width] = 5
    blurred = cv2.blur(depth, (4, 4))
    nearest = np.nonzero(blurred[0] <= blurred.min() * 1.01)[0]
    middle = nearest[len(nearest) // 4 : -(len(nearest) // 4) or None]
    assert not flying_pixels(blurred, K)[:, middle].any()


@pytest.mark.parametrize('width', [8, 10, 16, 24])
@pytest.mark.parametrize('upright', [True, False])
def test_a_leg_between_a_nearer_and_a_farther_thing_stays(width, upright):
    depth = step(1, 4, 300)
    depth[:, 300 : 300 + width] = 2
    leg = depth == 2
    mask = flying_pixels(depth, K) if upright else flying_pixels(depth.T.copy(), K).T
    inner = np.s_[1:-1, 1:-1]
    assert mask[inner][leg[inner]].mean() <= 2 / width  # its two sides may go


@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 100))
def test_the_mask_does_not_depend_on_the_unit(seed, factor):
    rng = np.random.default_rng(seed)
    rough = cv2.resize(np.exp(rng.normal(size=(12, 16))).astype(np.float32), (160, 120))
    mask = flying_pixels(rough, K)
    # Rounding may turn pixels that lie on a limit.
    assert (flying_pixels(rough * np.float32(factor), K) != mask).mean() < 1e-3


def test_mask_turns_and_mirrors_with_the_depth():
    depth = cv2.blur(step(3, 9), (4, 4))[:, :480]
    mask = flying_pixels(depth, K)
    np.testing.assert_array_equal(flying_pixels(depth.T, K), mask.T)
    # The pixels of the coarse levels are not symmetrical about the middle.
    mirrored = flying_pixels(depth[:, ::-1], K)[:, ::-1]
    for one, other in ((mask, mirrored), (mirrored, mask)):
        assert not (one & ~(cv2.dilate(other.astype(np.uint8), np.ones((1, 5))) > 0)).any()


def test_a_smaller_angle_takes_more_and_90_degrees_nothing():
    depth = cv2.blur(step(5, 6), (4, 4))
    counts = [flying_pixels(depth, K, angle).sum() for angle in (60, 80, 89, 90)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0
    assert counts[-1] == 0


def test_unknown_depth_is_never_flying():
    depth = cv2.blur(step(2, 6), (4, 4))
    depth[100:110], depth[200:210, 300:330], depth[0, 0] = np.nan, np.inf, -1.0
    before = depth.copy()
    mask = flying_pixels(depth, K)
    np.testing.assert_array_equal(depth, before)
    assert not mask[~np.isfinite(depth) | (depth <= 0)].any()
    assert mask[300].any()


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (200, 3), (9, 9), (17, 31)])
def test_small_images_of_any_size_pass(size):
    depth = np.random.default_rng(0).uniform(1, 9, size)
    assert flying_pixels(depth, K).shape == size
