# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Temporal smoothing: less flicker where nothing moves, no trail where something does."""

from contextlib import suppress
from dataclasses import replace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.frame import Alignment, Camera, Frame, Prediction, SparseInput
from marigold_ros.geometry import align, project_lidar
from marigold_ros.geometry.camera.lidar_projection import sparse_from_depth
from marigold_ros.geometry.camera.rectification import thumbnail
from marigold_ros.geometry.cloud.organised import unproject_depth
from marigold_ros.geometry.stream import (
    carry_over,
    CurrentFrame,
    is_scene_cut,
    PreviousFrame,
    remembered_points,
    smooth,
)
from marigold_ros.pipeline import FramePipeline
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
import pytest

CONFIG = AlignmentConfig()
STEP = 100_000_000
SHAPE = (120, 160)


def still(seed=0):
    """Return a textured image and its depth."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:120, 0:160]
    squares = rng.integers(40, 215, (12, 16)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
    depth = (4 + 16 * (1 - v / 120) + 2 * np.sin(u / 20)).astype(np.float32)
    return np.repeat(squares[..., None], 3, axis=2), depth


def noisy(depth, rng, share=0.03):
    return (depth * (1 + share * rng.normal(size=depth.shape))).astype(np.float32)


def test_flicker_of_a_still_scene_is_at_least_halved():
    rgb, depth = still()
    rng, previous, flicker, errors = np.random.default_rng(1), None, ([], []), ([], [])
    raw = depth
    for index in range(20):
        last_raw, raw = raw, noisy(depth, rng)
        noise = rng.normal(0, 3, rgb.shape)
        current = CurrentFrame(
            thumbnail(np.clip(rgb + noise, 0, 255).astype(np.uint8)), index * STEP
        )
        calm = raw if previous is None else smooth(raw, previous, current, CONFIG)
        if index > 3:
            pairs = ((raw, last_raw), (calm, previous.metric))
            for part, (new, old) in zip(flicker, pairs, strict=True):
                part.append(np.median(np.abs(new / old - 1)))
            for part, new in zip(errors, (raw, calm), strict=True):
                part.append(np.mean(np.abs(new / depth - 1)))
        previous = PreviousFrame(calm, current.grey, current.stamp_ns)
    assert np.mean(flicker[1]) < 0.5 * np.mean(flicker[0])
    assert np.mean(errors[1]) < np.mean(errors[0])


@pytest.mark.parametrize('nearer', [0.8, 0.5, 0.93, 1.6])
@pytest.mark.parametrize('repainted', [True, False])
@pytest.mark.parametrize('place', [(), (np.diag([150.0, 150.0, 1.0]), np.eye(4))])
def test_changed_content_leaves_no_trail_beyond_two_frames(nearer, repainted, place):
    rgb, depth = still()
    previous = PreviousFrame(depth, thumbnail(rgb), 0, *place)
    changed, new = rgb.copy(), depth.copy()
    new[40:80, 60:100] *= np.float32(nearer)
    if repainted:
        patch = changed[40:80, 60:100]
        patch += np.where(patch < 128, 60, 256 - 60).astype(np.uint8)
    for index in (1, 2, 3):
        current = CurrentFrame(thumbnail(changed), index * STEP, *place)
        previous = PreviousFrame(
            smooth(new, previous, current, CONFIG), current.grey, current.stamp_ns, *place
        )
        off = np.abs(previous.metric / new - 1)[40:80, 60:100]
        # Looked up by poses, a pixel beside an edge of the paint may be its neighbour.
        trail = np.percentile(off, 75) if place else off.max()
        if repainted or nearer != 0.93:
            assert trail < 0.002
    # A small step that the image does not show is let in slowly, but not for long.
    assert off.max() < 0.02


@settings(max_examples=min(20, settings().max_examples))
@given(seed=st.integers(0, 99), share=st.floats(0, 0.9), age_s=st.floats(0, 2), gaps=st.booleans())
def test_smoothed_depth_lies_between_old_and_new(seed, share, age_s, gaps):
    rng = np.random.default_rng(seed)
    rgb, depth = still(seed)
    old, new = noisy(depth, rng, 0.05), noisy(depth, rng, 0.05)
    if gaps:
        old[rng.random(SHAPE) < 0.2] = np.nan
        new[rng.random(SHAPE) < 0.2] = np.nan
    before = new.copy()
    current = CurrentFrame(thumbnail(rgb), int(age_s * 1e9))
    previous = PreviousFrame(old, thumbnail(rgb), 0)
    result = smooth(new, previous, current, replace(CONFIG, smoothing=share))
    np.testing.assert_array_equal(new, before)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(new))
    both = np.isfinite(new) & np.isfinite(old)
    low, high = np.minimum(old, new)[both], np.maximum(old, new)[both]
    assert (result[both] >= low * (1 - 1e-6)).all()
    assert (result[both] <= high * (1 + 1e-6)).all()
    alone = np.isfinite(new) & ~both
    np.testing.assert_array_equal(result[alone], new[alone])
    if share == 0 or age_s >= CONFIG.hold_limit:
        np.testing.assert_array_equal(result, new)


@pytest.mark.parametrize('hold_limit', [0.5, 4.0])
def test_the_weight_of_previous_depth_falls_to_none_at_the_age_up_to_which_it_is_held(hold_limit):
    rgb, depth = still()
    config, grey = replace(CONFIG, smoothing=0.6, hold_limit=hold_limit), thumbnail(rgb)
    new = depth * np.float32(1.001)
    for part in (0.25, 0.5, 1.0):
        current = CurrentFrame(grey, round(part * hold_limit * 1e9))
        calm = smooth(new, PreviousFrame(depth, grey, 0), current, config)
        weight = np.median((new - calm) / (new - depth))
        assert weight == pytest.approx(0.6 * (1 - part), rel=0.01)


def test_scale_contradiction_or_moved_camera_keep_nothing():
    rgb, depth = still()
    previous, current = PreviousFrame(depth, thumbnail(rgb), 0), CurrentFrame(thumbnail(rgb), STEP)
    for factor in (0.88, 1.12):
        other = depth * np.float32(factor)
        np.testing.assert_array_equal(smooth(other, previous, current, CONFIG), other)
    moved = CurrentFrame(thumbnail(np.roll(rgb, 5, axis=1)), STEP)
    new = depth * np.float32(1.02)
    np.testing.assert_array_equal(smooth(new, previous, moved, CONFIG), new)
    assert len(remembered_points(previous, moved)) == 0
    assert len(remembered_points(previous, current)) > 1000


def test_of_poses_that_stand_still_while_the_image_moves_nothing_is_remembered():
    rgb, depth = still()
    rgb[:40] = 200  # a plain wall looks the same wherever the camera goes
    K, pose = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]]), np.eye(4)
    previous = PreviousFrame(depth, thumbnail(rgb), 0, K, pose)
    moved = CurrentFrame(thumbnail(np.roll(rgb, 5, axis=1)), STEP, K, pose)
    assert len(remembered_points(previous, moved)) == 0
    standing = CurrentFrame(thumbnail(rgb), STEP, K, pose)
    assert len(remembered_points(previous, standing)) > 1000
    forward = pose.copy()
    forward[2, 3] = 0.05
    assert len(remembered_points(previous, replace(standing, T_world_camera=forward))) > 500


@pytest.mark.parametrize(
    'place',
    [
        (),
        *(
            (np.array([[30.0, skew, 14.5], [0, 30, 9.5], [0, 0, 1]]), np.eye(4))
            for skew in (0.0, 4.0, -20.0)
        ),
    ],
)
def test_every_pixel_of_a_small_image_at_rest_is_remembered(place):
    rng = np.random.default_rng(0)
    depth = rng.uniform(2, 9, (20, 30)).astype(np.float32)
    grey = thumbnail(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8))
    points = remembered_points(
        PreviousFrame(depth, grey, 0, *place), CurrentFrame(grey, STEP, *place)
    )
    again = np.zeros_like(depth)
    again[points.v, points.u] = points.z
    np.testing.assert_allclose(again, depth, rtol=1e-6)


@pytest.mark.parametrize('shape', [(64, 640), (96, 960), (67, 703)])
def test_known_poses_of_a_camera_at_rest_change_nothing(shape):
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 255, (32, 320, 3)).astype(np.uint8)
    grey = thumbnail(cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_NEAREST))
    depth = rng.uniform(2, 9, shape).astype(np.float32)
    place = np.array([[600.0, 0, 300], [0, 600, 40], [0, 0, 1]]), np.eye(4)
    plain, posed = (
        smooth(
            1.02 * depth, PreviousFrame(depth, grey, 0, *p), CurrentFrame(grey, STEP, *p), CONFIG
        )
        for p in ((), place)
    )
    assert (plain < 1.015 * depth).all()
    np.testing.assert_allclose(posed[1:-1, 1:-1], plain[1:-1, 1:-1], rtol=1e-4)


def test_an_image_without_edges_keeps_depth_only_where_the_motion_is_known():
    _, depth = still()
    grey, new = thumbnail(np.full((*SHAPE, 3), 9, np.uint8)), depth * np.float32(1.02)
    K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
    plain, posed = (
        smooth(new, PreviousFrame(depth, grey, 0, *p), CurrentFrame(grey, STEP, *p), CONFIG)
        for p in ((), (K, np.eye(4)))
    )
    np.testing.assert_array_equal(plain, new)
    assert (posed != new).mean() > 0.5


@pytest.mark.parametrize('share', [0.005, 0.0])
def test_what_comes_nearer_by_more_than_sigma_does_not_lag_though_it_looks_the_same(share):
    rgb, depth = still()
    new = depth * np.float32(1.002)
    new[40:80, 60:100] *= np.float32(0.96)
    fitted = Alignment(state='fitted', metric=new, sigma=depth * np.float32(share))
    previous, current = PreviousFrame(depth, thumbnail(rgb), 0), CurrentFrame(thumbnail(rgb), STEP)
    change = carry_over(fitted, previous, current, CONFIG, align).metric / new - 1
    assert np.abs(change[40:80, 60:100]).max() < 1e-6
    assert (change[:30] < -0.001).all() == (share > 0)


def refitting(prediction, config):
    return lambda points: align(prediction, points, config)


@pytest.mark.parametrize('method', ['local', 'fused'])
def test_still_scene_keeps_its_metres_without_points(method):
    config = replace(CONFIG, method=method)
    rgb, depth = still()
    first = Prediction(((depth - 2) / 30).astype(np.float32))
    fitted = align(first, sparse_from_depth(depth, config, stride=4), config)
    previous = PreviousFrame(fitted.metric, thumbnail(rgb), 0)
    current = CurrentFrame(thumbnail(rgb), STEP)
    anew = Prediction(((depth - 1) / 22).astype(np.float32))
    held = align(anew, None, config, replace(fitted, age_ns=STEP))
    refit = refitting(anew, config)
    result = carry_over(held, previous, current, config, refit)
    assert (result.state, result.age_ns, result.reason) == ('held', STEP, held.reason)
    assert np.abs(held.metric / depth - 1).mean() > 0.1
    np.testing.assert_allclose(result.metric, depth, rtol=0.04)
    moved = CurrentFrame(thumbnail(np.roll(rgb, 5, axis=1)), STEP)
    assert carry_over(held, previous, moved, config, refit) is held
    calm = replace(config, smoothing=0.0)
    assert carry_over(held, previous, current, calm, refit) is held


@pytest.mark.parametrize('method', ['local', 'fused'])
def test_what_a_caller_writes_into_a_result_reaches_no_later_frame(ramp, method):
    rgb, depth = still()
    config = PipelineConfig(sky='fitted', alignment=replace(CONFIG, method=method))
    points = SparseInput('depth_image', sparse_image=depth)
    last = []
    for written in (False, True):
        pipeline = FramePipeline(ramp, config)
        first = pipeline.process(Frame(rgb, stamp_ns=STEP, inputs=[points]))
        if written:
            for image in (first.metric, first.sigma):
                with suppress(ValueError):  # read-only
                    image[:] = 50.0
        last.append(pipeline.process(Frame(rgb, stamp_ns=2 * STEP)))
    assert [one.alignment.state for one in last] == ['held', 'held']
    np.testing.assert_array_equal(last[1].metric, last[0].metric)
    np.testing.assert_array_equal(last[1].sigma, last[0].sigma)


def test_held_fit_stays_where_the_map_does_not_fit_the_previous_depth():
    rgb, depth = still()
    relative = ((depth - 2) / 30).astype(np.float32)
    config = replace(CONFIG, method='local')
    fitted = align(Prediction(relative), sparse_from_depth(depth, config, stride=4), config)
    previous = PreviousFrame(fitted.metric, thumbnail(rgb), 0)
    current = CurrentFrame(thumbnail(rgb), STEP)
    held = align(Prediction(relative), None, config, replace(fitted, age_ns=STEP))
    refit = refitting(Prediction(np.full(SHAPE, 0.5, np.float32)), config)
    assert carry_over(held, previous, current, config, refit) is held


def test_memory_alone_holds_fused_depth_without_any_fit_of_the_map():
    rgb, depth = still()
    previous = PreviousFrame(depth, thumbnail(rgb), 0)
    useless, config = Prediction(np.full(SHAPE, 0.5, np.float32)), replace(CONFIG, method='fused')
    nothing = align(useless, None, config)
    refit = refitting(useless, config)
    current = CurrentFrame(thumbnail(rgb), STEP)
    held = carry_over(nothing, previous, current, config, refit)
    assert (held.state, held.age_ns, held.led_by) == ('held', STEP, 'memory')
    assert held.reason == nothing.reason
    assert np.isnan(held.scale)
    assert np.abs(held.metric / depth - 1).mean() < 0.01
    for stamp_ns in (0, round(config.hold_limit * 1e9) + 1):  # an age that is none, or too much
        other = CurrentFrame(thumbnail(rgb), stamp_ns)
        assert carry_over(nothing, previous, other, config, refit) is nothing
    demanding = replace(config, min_points=100_000)
    assert carry_over(nothing, previous, current, demanding, refit) is nothing


def test_sigma_of_remembered_depth_covers_an_obstacle_that_appears():
    rgb, depth = still()
    previous = PreviousFrame(depth, thumbnail(rgb), 0, sigma=np.float32(0.01) * depth)
    useless, config = Prediction(np.full(SHAPE, 0.5, np.float32)), replace(CONFIG, method='fused')
    now, obstacle = rgb.copy(), np.s_[40:80, 60:100]
    now[obstacle] = 255 - now[obstacle]
    current = CurrentFrame(thumbnail(now), STEP)
    nothing = align(useless, None, config)
    held = carry_over(nothing, previous, current, config, refitting(useless, config))
    relative = held.sigma / held.metric
    differs = np.abs(now[obstacle][..., 0].astype(float) - rgb[obstacle][..., 0]) > 12
    assert relative[obstacle][differs].min() > 0.4
    assert 0.009 < np.median(relative[:30]) < 0.02
    assert 0.009 < np.median(relative[90:]) < 0.02


def drive(**more):
    """Depth, sky invalid, and neighbouring frames of a synthetic drive; its mounting."""
    journey = simulate_drive(width=320, height=240, **more)
    known = [(np.where(np.isfinite(f.depth), f.depth, np.nan), f) for f in journey.frames]
    shown = [(depth.astype(np.float32), frame) for depth, frame in known]
    return journey.camera.K, shown, journey.mounting.T_cam_lidar


def test_with_poses_depth_is_carried_along_a_drive():
    K, ((before, first), (truth, second)), _ = drive(frames=2, lidar_beams=2)
    previous = PreviousFrame(before, thumbnail(first.rgb), 0, K, first.T_world_cam)
    current = CurrentFrame(thumbnail(second.rgb), STEP, K, second.T_world_cam)
    points = remembered_points(previous, current)
    assert len(points) > 300
    ratio = points.z / truth[points.v, points.u]
    assert np.nanmedian(np.abs(ratio - 1)) < 0.01
    new = noisy(truth, np.random.default_rng(0))
    calm = smooth(new, previous, current, CONFIG)
    used = np.isfinite(new) & (calm != new)
    assert used.mean() > 0.2
    assert np.abs(calm / truth - 1)[used].mean() < 0.8 * np.abs(new / truth - 1)[used].mean()


class Unsteady:
    """A model whose answer is off by another smooth field in each frame."""

    def __init__(self, depths):
        self._depths = iter(depths)
        self._rng = np.random.default_rng(0)

    def predict(self, rgb, **options):
        depth = next(self._depths)
        few = self._rng.normal(0, 0.1, (4, 5)).astype(np.float32)
        off = cv2.resize(few, depth.shape[::-1], interpolation=cv2.INTER_CUBIC)
        log_depth = np.log(np.nan_to_num(depth, nan=100.0)) + off
        return Prediction(np.clip(log_depth / 5.0, 0, 1).astype(np.float32), space='log')


def drive_through(K, shown, mounting, smoothing, poses):
    """Flicker at points that stand still, and error at scan lines left out, over a drive."""
    settings = PipelineConfig(alignment=AlignmentConfig(smoothing=smoothing))
    pipeline = FramePipeline(Unsteady([depth for depth, _ in shown]), settings)
    before, flicker, error = None, [], []
    for depth, frame in shown:
        camera = Camera(K, depth.shape[1], depth.shape[0])
        points = np.stack([frame.points[axis] for axis in 'xyz'], axis=1)
        fitted = frame.points['ring'] % 4 == 0
        pose = frame.T_world_cam if poses else None
        metric = pipeline.process(
            Frame(frame.rgb, camera, points[fitted], mounting, frame.stamp_ns, T_world_camera=pose)
        ).metric
        held = project_lidar(points[~fitted], mounting, camera, CONFIG)
        error.append(np.nanmean(np.abs(metric[held.v, held.u] / held.z - 1)))
        wrong = metric / depth
        if before is not None:
            # Where the same thing was seen before, by the truth.
            motion = np.linalg.solve(before[1], frame.T_world_cam)
            seen = unproject_depth(depth, K) @ motion[:3, :3].T + motion[:3, 3]
            x, y = ((seen @ K.T)[..., :2] / seen[..., 2:]).astype(np.float32).transpose(2, 0, 1)
            then = [
                cv2.remap(part, x, y, cv2.INTER_LINEAR, borderValue=np.nan)
                for part in (before[0], before[2])
            ]
            same = np.abs(then[1] / seen[..., 2] - 1) < 0.02
            flicker.append(np.nanmedian(np.abs(wrong / then[0] - 1)[same]))
        before = (wrong, frame.T_world_cam, depth)
    return np.mean(flicker), np.mean(error)


@pytest.mark.slow  # a drive of nine images, three times
def test_odometry_halves_flicker_without_losing_accuracy():
    drive_settings = drive(frames=9, lidar_beams=32, seed=1)
    alone = drive_through(*drive_settings, 0.0, poses=False)
    blind = drive_through(*drive_settings, 0.6, poses=False)
    carried = drive_through(*drive_settings, 0.6, poses=True)
    assert carried[0] < 0.5 * alone[0]
    assert carried[1] < 1.02 * alone[1]
    assert blind[1] < 1.02 * alone[1]


def test_poses_that_are_equal_change_nothing():
    rgb, depth = still()
    K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
    new, grey = depth * np.float32(1.03), thumbnail(rgb)
    plain, posed = (
        smooth(new, PreviousFrame(depth, grey, 0, *p), CurrentFrame(grey, STEP, *p), CONFIG)
        for p in ((), (K, np.eye(4)))
    )
    inner = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(posed[inner], plain[inner], rtol=1e-3)


def test_a_scene_cut_is_a_large_change_of_the_whole_image():
    one, two = thumbnail(still(0)[0]), thumbnail(255 - still(0)[0])
    assert is_scene_cut(one, two, 0.15)
    assert not is_scene_cut(one, one, 0.15)
    patch = still(0)[0].copy()
    patch[30:60, 40:80] = 255
    assert not is_scene_cut(one, thumbnail(patch), 0.15)
