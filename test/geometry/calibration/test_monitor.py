# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Planted errors of angle and clock are reported with side and size, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
import re
import tracemalloc

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Camera, CurrentFrame, Prediction, SparseDepth
from marigold_ros.geometry import align, project_lidar
from marigold_ros.geometry.calibration.evidence import agreement, ERRORS, PITCH_DEG, YAW_DEG
from marigold_ros.geometry.calibration.monitor import (
    Calibration,
    CalibrationState,
    estimate_calibration,
    line_gap,
    log_depth_of_fit,
    update_calibration,
)
from marigold_ros.geometry.camera.rectification import thumbnail
from marigold_ros.geometry.cloud.organised import unproject_depth
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

CONFIG = AlignmentConfig(method='global')
WIDTH, HEIGHT, FOCAL, HORIZON = 640, 480, 420.0, 200.0
K = np.array([[FOCAL, 0, 319.5], [0, FOCAL, HORIZON], [0, 0, 1]])
CAMERA = Camera(K, WIDTH, HEIGHT)
STEP = 200_000_000
NOTHING_SEEN = (
    {pair: np.zeros([len(axis) for axis in axes.values()]) for pair, axes in ERRORS.items()},
    np.nan,
)


@lru_cache(maxsize=32)
def scene(seed):
    """A sloping ground with boxes, each in a colour of its own: image and depth."""
    rng = np.random.default_rng(seed)
    v = np.arange(HEIGHT)[:, None]
    depth = np.minimum(1.6 * FOCAL / np.maximum(v - HORIZON, 8.0), 60.0) * np.ones((1, WIDTH))
    rgb = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    rgb[: int(HORIZON)] = 200
    for z in sorted(rng.uniform(4, 30, 14), reverse=True):
        left, side, height = rng.uniform(-0.7, 0.7) * z, rng.uniform(0.6, 2.5), rng.uniform(1, 2.6)
        x = np.array([left, left + side]) / z * FOCAL + 319.5
        y = np.array([1.6 - height, 1.6]) / z * FOCAL + HORIZON
        (top, bottom), (first, last) = (np.maximum(pair, 0).astype(int) for pair in (y, x))
        depth[top:bottom, first:last] = z
        rgb[top:bottom, first:last] = rng.integers(0, 255, 3)
    noise = rng.normal(0, 3, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), depth.astype(np.float32)


def turned(yaw, pitch, roll=0.0):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('yxz', [yaw, pitch, roll], degrees=True).as_matrix()
    return T


def shifted(x, y):
    T = np.eye(4)
    T[:2, 3] = x, y
    return T


def scan_of(depth, T, seed, spread=1.0):
    """Points of 40 rows of a LiDAR beside the camera, as they seem to lie with T for an error."""
    rng, beside = np.random.default_rng(seed), np.eye(4)
    beside[0, 3] = 0.3
    points = unproject_depth(depth, K)[4::12, 1::4].reshape(-1, 3)
    points = points * rng.normal(1, 0.003, (len(points), 1)) - beside[:3, 3]
    camera = replace(CAMERA, K=K * [[spread, 1, 1], [1, spread, 1], [1, 1, 1]])
    return project_lidar(points, T @ beside, camera, CONFIG)


def drive(T=None, images=16, still=False, delay=0.0, rate=0.0, spread=1.0, curves=1):
    """Show a monitor many images; the map is the truth, blurred, in a tone error."""
    T = np.eye(4) if T is None else T
    state, heading = CalibrationState(), 0.0
    for index in range(images):
        rgb, depth = scene(0 if still else index % 24)
        turning = rate * np.sin(index) ** curves
        heading += turning * STEP / 1e9
        sparse = scan_of(depth, turned(delay * turning, 0.0) @ T, index, spread)
        relative = cv2.GaussianBlur(np.log(depth) ** 1.2 / 6, (0, 0), 12.0)
        prediction = Prediction(relative.astype(np.float32), space='log')
        current = CurrentFrame(
            thumbnail(rgb), index * STEP, K, turned(heading, 0) if rate else None
        )
        alignment = align(prediction, sparse, CONFIG)
        state = update_calibration(state, current, prediction, sparse, alignment, CONFIG)
    return state.calibration


@pytest.mark.parametrize(
    ('T', 'name', 'size', 'words'),
    [
        (turned(2.0, 0.0), 'yaw_deg', 2.0, r'LiDAR looks 2\.\d° to the right of the image'),
        (turned(-2.0, 0.0), 'yaw_deg', -2.0, r'LiDAR looks [12]\.\d° to the left of the image'),
        (turned(0.0, 2.0), 'pitch_deg', 2.0, r'LiDAR looks \d\.\d° above the image'),
        (turned(0.0, -2.0), 'pitch_deg', -2.0, r'LiDAR looks \d\.\d° below the image'),
        (turned(0.0, 0.0, 5.0), 'roll_deg', 5.0, r'LiDAR is rolled \d\.\d° to the right'),
        (turned(0.0, 0.0, -9.0), 'roll_deg', -9.0, r'LiDAR is rolled \d\.\d° to the left'),
        (shifted(-0.3, 0.0), 'right_m', -0.3, r'LiDAR is placed 0\.[23]\d m too far left'),
        (shifted(0.0, -0.3), 'up_m', 0.3, r'LiDAR is placed 0\.[23]\d m too high'),
        (np.eye(4), 'focal_share', 0.12, r'focal lengths are \d+% too long'),
        (np.eye(4), 'focal_share', -0.12, r'focal lengths are \d+% too short'),
    ],
)
def test_planted_error_of_the_mounting_is_reported_with_its_side(T, name, size, words):
    found = drive(T, images=12, spread=1.0 + size if name == 'focal_share' else 1.0)
    tolerances = {'right_m': 0.11, 'up_m': 0.05, 'roll_deg': 1.0, 'focal_share': 0.04}
    assert found.errors[name][0] == pytest.approx(size, abs=tolerances.get(name, 0.6))
    assert re.fullmatch(words, found.text), found.text


@pytest.mark.parametrize('rate', [0.0, 25.0])
def test_no_error_raises_no_alarm(rate):
    found = drive(rate=rate, images=32)
    most = {'roll_deg': 1.0, 'focal_share': 0.03, 'right_m': 0.05, 'up_m': 0.05}
    for name, (size, _) in found.errors.items():
        assert abs(size) < most.get(name, 0.5)
    assert found.text == ''


def test_robot_at_rest_observes_one_image_only():
    assert drive(turned(3.0, 0.0), still=True, images=30).n_images <= 1


def test_images_within_the_period_are_not_observed_and_the_last_120_are_kept():
    state, counts = CalibrationState(observations=(NOTHING_SEEN,) * 119), []
    for index, stamp_ms in enumerate((0, 100, 149, 150, 250, 300, 50)):
        rgb, depth = scene(index)
        prediction = Prediction((np.log(depth) / 6).astype(np.float32), space='log')
        current = CurrentFrame(thumbnail(rgb), stamp_ms * 1_000_000, K)
        sparse = replace(scan_of(depth, np.eye(4), index), kind=PointKind.DEPTH_CAMERA)
        state = update_calibration(state, current, prediction, sparse, Alignment(), CONFIG)
        counts.append(state.count)
    assert counts == [1, 1, 1, 2, 2, 3, 4]  # also after a clock that goes back
    assert len(state.observations) == state.calibration.n_images == 120
    assert state.calibration.line_gap_deg == line_gap(sparse, K, WIDTH)
    assert state.calibration.sensor == 'depth camera'
    assert [one is NOTHING_SEEN for one in state.observations] == [True] * 116 + [False] * 4


def test_yaw_rates_are_those_of_the_poses_and_unknown_over_gaps():
    state = CalibrationState()
    poses = (0.0, 0.0), (0.4, 8.0), (0.8, 4.0), (2.0, 9.0), (2.4, None), (2.8, 1.0)
    for index, (stamp_s, heading) in enumerate(poses):
        rgb, depth = scene(index)
        prediction = Prediction((np.log(depth) / 6).astype(np.float32), space='log')
        pose = None if heading is None else turned(heading, 0.0)
        current = CurrentFrame(thumbnail(rgb), round(stamp_s * 1e9), K, pose)
        sparse = scan_of(depth, np.eye(4), index)
        state = update_calibration(state, current, prediction, sparse, Alignment(), CONFIG)
    rates = np.rad2deg([rate for _, rate in state.observations])
    np.testing.assert_allclose(rates, [np.nan, 20.0, -10.0, np.nan, np.nan, np.nan])
    unknown = CurrentFrame(thumbnail(scene(9)[0]), 5 * 10**9)
    again = update_calibration(state, unknown, prediction, sparse, Alignment(), CONFIG)
    assert again.observations is state.observations


def test_pixels_without_depth_are_near_in_the_map_that_points_are_compared_to():
    relative = np.full((40, 60), 0.5, np.float32)
    relative[:10] = np.nan
    fit = Alignment('fitted', scale=10.0, shift=1.0)
    found = log_depth_of_fit(Prediction(relative), fit, (40, 60), CONFIG)
    np.testing.assert_allclose(np.unique(found), np.log([CONFIG.min_depth, 6.0]), rtol=1e-6)
    held = replace(fit, state='held')
    assert log_depth_of_fit(Prediction(relative), held, (40, 60), CONFIG) is None


@pytest.mark.parametrize(
    ('T', 'delay', 'curves', 'words'),
    [
        (turned(1.5, 0.0), 0.08, 1, r'looks 1\.\d° to the right of the image; LiDAR.* late'),
        (turned(1.5, 0.0), -0.06, 1, r'looks 1\.\d° to the right of the image; LiDAR.* early'),
        # A delay that is not worth a word hides no roll.
        (turned(0.0, 0.0, 5.0), 0.02, 1, r'is rolled [45]\.\d° to the right'),
        # Beside a delay the mounting is judged where the camera hardly turns.
        (shifted(0.0, -0.3), 0.1, 5, r'is placed 0\.[23]\d m too high; LiDAR.* late'),
    ],
)
def test_yaw_rate_separates_delay_from_mounting(T, delay, curves, words):
    found = drive(T, delay=delay, rate=25.0, images=32, curves=curves)
    assert found.delay_s == pytest.approx(delay, abs=0.01)
    assert re.fullmatch('LiDAR ' + words, found.text), found.text
    assert 'at least' not in found.text


def seen_best_at(pair, first, second=0.0, reach=6.0):
    """Agreement that falls to none so many steps from its best errors, and none by other pairs."""
    axes = zip(ERRORS[pair].values(), (first, second), strict=True)
    across, along = ((axis - best) / (axis[1] - axis[0]) for axis, best in axes)
    return NOTHING_SEEN[0] | {pair: np.maximum(1 - np.hypot(across[:, None], along) / reach, 0)}


@pytest.mark.parametrize(
    ('peak', 'delay', 'words'),
    [
        ((7.0, 0.0), 0.0, 'LiDAR looks at least 5.0° to the right of the image'),
        ((0.0, -6.0), 0.0, 'LiDAR looks at least 4.0° below the image'),
        ((0.0, 0.0), 0.25, 'LiDAR is at least 0.20 s late'),
        ((0.0, 3.5), -0.1, 'LiDAR looks 3.5° above the image; LiDAR is 0.10 s early'),
    ],
)
def test_what_lies_beyond_the_search_is_not_stated_as_exact(peak, delay, words):
    seen = []
    for rate in np.linspace(-12.0, 12.0, 32):  # degrees a second
        agreed = seen_best_at('turned', peak[0] + delay * rate, peak[1])
        seen.append((agreed, np.deg2rad(rate)))
    assert estimate_calibration(seen).text == words
    assert np.isfinite(estimate_calibration(seen[::2]).delay_s)
    assert np.isnan(estimate_calibration(seen[1::2][1:]).delay_s)  # of 15 images


def test_a_delay_far_beyond_the_search_is_stated_as_the_least():
    found = drive(delay=1.0, rate=25.0, images=60)
    assert found.text.startswith('LiDAR is at least 0.1')


def test_images_without_structure_or_points_are_no_evidence():
    state = CalibrationState()
    flat = Prediction(np.full((HEIGHT, WIDTH), 0.5, np.float32))
    for index in range(20):
        current = CurrentFrame(thumbnail(scene(index)[0]), index * STEP, K)
        wall = scan_of(np.full((HEIGHT, WIDTH), 5.0, np.float32), turned(3, 0), index)
        for sparse in (None, wall):
            state = update_calibration(state, current, flat, sparse, Alignment(), CONFIG)
    np.testing.assert_equal(vars(state.calibration), vars(Calibration()))
    assert state.count == 0


def test_one_grey_few_points_and_few_steps_are_no_evidence():
    grey, size, u = thumbnail(scene(1)[0]), (HEIGHT, WIDTH), np.arange(0, WIDTH, 4)

    def is_evidence(points, image=grey):
        return agreement(image, None, points, K, size, np.random.default_rng(0)) is not None

    def fence(posts, points):
        z = np.where((u % 8 == 0) & (u < 8 * posts), 5.0, 10.0).astype(np.float32)
        return SparseDepth(u[:points], np.full(points, 240), z[:points])

    cases = (10, 160), (20, 50), (9, 160), (20, 49)
    assert [is_evidence(fence(*case)) for case in cases] == [True, True, False, False]
    assert not is_evidence(fence(20, 160), np.full_like(grey, 255.0))  # overexposed
    # A smooth wall along the view has no steps.
    depth = np.repeat(1700.0 / (30.0 + np.arange(WIDTH))[None], HEIGHT, axis=0)  # 3 to 57 m
    points = unproject_depth(depth, K)[4::12].reshape(-1, 3)
    assert not is_evidence(project_lidar(points, np.eye(4), CAMERA, CONFIG))


@pytest.mark.parametrize(('yaw', 'pitch'), [(0.0, 0.0), (-3.0, 0.0), (0.0, 3.0)])
def test_a_sign_in_the_corner_of_a_wide_image_shows_yaw_and_pitch(yaw, pitch):
    u, v = np.meshgrid(np.arange(240), np.arange(180))
    sign = (u >= 170) & (u < 210) & (v >= 24) & (v < 61)
    hidden = (u >= 167) & (u < 213) & ~sign  # a step is sought beyond it, in small images too
    wide = Camera(np.array([[90.0, 0, 99.5], [0, 90.0, 99.5], [0, 0, 1]]), 240, 180)
    points = unproject_depth(np.where(sign, 5.0, 10.0), wide.K)[(v % 4 == 0) & ~hidden]
    sparse = project_lidar(points, turned(yaw, pitch), wide, CONFIG)
    grey, rng = np.where(sign, 50.0, 150.0).astype(np.float32), np.random.default_rng(0)
    scores = agreement(grey, None, sparse, wide.K, grey.shape, rng)['turned']
    first, second = np.unravel_index(scores.argmax(), scores.shape)
    assert (YAW_DEG[first], PITCH_DEG[second]) == pytest.approx((yaw, pitch), abs=1.0)  # 2 pixels


@pytest.mark.parametrize('focal', [1.0, 1e6])
def test_a_focal_length_that_no_camera_has_takes_no_more_memory(focal):
    rgb, depth = scene(1)
    sparse, intrinsics = scan_of(depth, turned(0, 0), 0), np.diag([focal, focal, 1.0])
    tracemalloc.start()
    scores = agreement(
        thumbnail(rgb), None, sparse, intrinsics, (HEIGHT, WIDTH), np.random.default_rng(0)
    )
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(np.isfinite(score).all() for score in scores.values())
    assert most < 50e6


def test_contradicting_images_give_no_alarm():
    def said(places):
        seen = [(seen_best_at('turned', yaw, reach=2.0), np.nan) for yaw in places]
        return estimate_calibration(seen).text

    assert said(np.repeat((3.0, 2.0, 1.0, 2.0), 6)) == 'LiDAR looks 2.0° to the right of the image'
    assert said(np.repeat((4.0, 2.0, -1.0, 2.0), 6)) == ''
    assert said(np.tile((2.0, 2.0, 0.0), 8)) == ''  # for a third the mounting is right


def test_beside_a_delay_the_cause_is_what_explains_the_images_best():
    def said(delays, rates, roll=0.0, share=0.0):
        rolled = {'rolled': share * seen_best_at('rolled', roll)['rolled']}
        misled = np.random.default_rng(1).normal(2.0, 0.3, len(rates))  # by the scenes
        places = zip(misled + delays * rates, np.deg2rad(rates), strict=True)
        seen = [(seen_best_at('turned', yaw) | rolled, rate) for yaw, rate in places]
        return estimate_calibration(seen).text

    rates = np.linspace(-20.0, 20.0, 24)
    both = 'LiDAR looks 2.0° to the right of the image; LiDAR is 0.10 s late'
    assert said(0.1, rates) == both
    assert said(np.tile((0.1, 0.1, 0.1, -0.1), 6), rates) == ''  # images contradict each other
    rolled = said(0.1, rates, roll=8.0, share=2.0)
    assert rolled == 'LiDAR is rolled 8.0° to the right; LiDAR is 0.10 s late'
    # Blurred by the delay, the yaw explains less than a right roll does, except between turns.
    assert said(0.1, rates**3 / 400.0, share=0.9) == both
    # A steady turn shows the yaw and no delay.
    assert said(0.1, np.full(24, 10.0)) == 'LiDAR looks 3.0° to the right of the image'


@pytest.mark.parametrize('pitch', [-2.5, -4.0])
def test_scenes_that_agree_at_many_heights_show_a_yaw_and_no_pitch(pitch):
    # As among trunks: the yaw has a peak, and agreement is about the same from the pitch down.
    below = 1.0 / (1.0 + np.exp(PITCH_DEG - 1.0)) - 0.01 * np.abs(PITCH_DEG - pitch)

    def said(yaw):
        scores = {'turned': np.exp(-np.square(YAW_DEG - yaw))[:, None] * below}
        return estimate_calibration([(NOTHING_SEEN[0] | scores, np.nan)] * 12).text

    assert said(0.0) == ''
    assert said(2.0) == 'LiDAR looks 2.0° to the right of the image'


def of_angles(yaw, pitch, error=0.1, **facts):
    errors = {'yaw_deg': (yaw, error), 'pitch_deg': (pitch, 0.1)}
    return Calibration(errors, 'turned', **facts)


def test_text_names_significant_errors_only():
    both = of_angles(-1.32, 0.9, delay_s=0.08, delay_error_s=0.01)
    assert both.text == 'LiDAR looks 1.3° to the left of the image; LiDAR is 0.08 s late'
    assert Calibration().text == ''
    assert of_angles(-1.32, 0.1, error=0.5).text == ''
    assert replace(of_angles(-1.32, 0.1), cause='').text == ''
    camera = of_angles(0.1, -1.9, delay_s=0.08, delay_error_s=0.01, sensor='depth camera')
    assert camera.text == ('depth camera looks 1.9° below the image; depth camera is 0.08 s late')
    # Upright edges that agree exclude a large yaw, whatever the maps of a scene make likely.
    assert of_angles(-2.4, 1.3, edges_agree=True).text.startswith('LiDAR looks 1.3°')
    # They meet points that are too low or a little aside as well.
    aside = of_angles(-1.3, -1.9, edges_agree=True).text
    assert aside == 'LiDAR looks 1.3° to the left of the image; LiDAR looks 1.9° below the image'
    # Between lines that are farther apart than a pitch it is not seen.
    assert of_angles(0.1, 1.5).text == 'LiDAR looks 1.5° above the image'
    assert of_angles(0.1, 2.4, line_gap_deg=3.3).text == ''
    assert of_angles(0.1, 1.5, line_gap_deg=0.5).text != ''


def test_few_lines_show_a_shift_to_the_side_and_neither_height_nor_roll():
    errors = {'right_m': (0.3, 0.01), 'up_m': (-0.2, 0.01)}
    both = 'LiDAR is placed 0.30 m too far right; LiDAR is placed 0.20 m too low'
    assert Calibration(errors, 'shifted').text == both
    few = Calibration(errors, 'shifted', line_gap_deg=3.3)
    assert few.text == 'LiDAR is placed 0.30 m too far right'
    rolled = {'roll_deg': (9.0, 0.1), 'focal_share': (0.1, 0.01)}
    assert Calibration(rolled, 'rolled', line_gap_deg=3.3).text == ''
    # Errors that a scene can feign are none.
    assert Calibration({'roll_deg': (2.4, 0.1), 'focal_share': (0.04, 0.001)}, 'rolled').text == ''
    assert Calibration({'right_m': (0.14, 0.01), 'up_m': (0.14, 0.01)}, 'shifted').text == ''


@settings(max_examples=min(30, settings().max_examples))
@given(lines=st.integers(3, 64), step=st.integers(1, 4), tilt=st.floats(-0.02, 0.02))
def test_the_gap_is_that_of_the_scan_lines(lines, step, tilt):
    K = np.array([[700.0, 0, 640.0], [0, 700.0, 240.0], [0, 0, 1]])
    row, column = np.mgrid[0:lines, 0:1280:step].reshape(2, -1)
    spacing = 470 / (lines - 1)
    v = np.rint(row * spacing + tilt * (column - 640) + 4).astype(int)
    points = SparseDepth(column, v, np.ones(len(v), np.float32))
    expected = np.rad2deg(spacing / 700.0)
    assert 0.6 * expected < line_gap(points, K, 1280) < 1.1 * expected
    assert line_gap(replace(points, v=np.zeros_like(v)), K, 1280) == 0.0
