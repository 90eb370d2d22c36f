# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scan lines are found, and splits share nothing."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError, CalibrationError, InputError
from marigold_ros.evaluation.protocols.held_out import choose_fit_lines, hold_out, project_scan
from marigold_ros.evaluation.protocols.scan_lines import azimuth_blocks, find_scan_lines
from marigold_ros.frame import Camera, Frame
import numpy as np
import pytest

K = np.array([[100.0, 0, 80], [0, 100, 60], [0, 0, 1]])
# LiDAR x forward, y left, z up; camera 0.3 m below it, looking forward.
T_CAM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0.3], [1, 0, 0, 0], [0, 0, 0, 1]])


def scan(rng, beams=32, steps=90, view=(-40.0, 40.0)):
    """Scan lines of a spinning scanner, laser after laser, over its view, and their numbers."""
    azimuth = np.radians(np.linspace(*view, steps))
    elevation = np.radians(np.linspace(-20, 4, beams))
    range_m = rng.uniform(4, 40, (beams, steps))
    x = range_m * np.cos(elevation)[:, None] * np.cos(azimuth)
    y = range_m * np.cos(elevation)[:, None] * np.sin(azimuth)
    z = range_m * np.sin(elevation)[:, None] * np.ones(steps)
    line = np.repeat(np.arange(beams), steps)
    return np.stack([x, y, z], axis=-1).reshape(-1, 3), line


def frame_of(points):
    rgb = np.zeros((120, 160, 3), np.uint8)
    return Frame(rgb, Camera(K, 160, 120), points, T_CAM_LIDAR)


@given(st.integers(0, 2**32 - 1), st.integers(8, 64), st.floats(0, 0.3), st.sampled_from([-1, 1]))
def test_lines_are_found_whatever_the_order_of_the_points(seed, beams, dropped, turn):
    rng = np.random.default_rng(seed)
    points, line = scan(rng, beams, view=(-40.0 * turn, 40.0 * turn))
    kept = rng.random(len(points)) >= dropped
    points, line = points[kept], line[kept]
    found = find_scan_lines(points)
    assert (found.found_by, found.count) == ('order', beams)
    assert (found.index == line).all()
    shuffled = rng.permutation(len(points))
    found = find_scan_lines(points[shuffled])
    assert (found.found_by, found.count) == ('elevation', beams)
    assert (found.index == line[shuffled]).all()


def test_of_a_planar_laser_blocks_of_azimuth_are_held_out():
    points, _ = scan(np.random.default_rng(0), beams=1, steps=400)
    split = hold_out(frame_of(points), AlignmentConfig(), every=8)
    assert split.scan_lines.found_by == 'azimuth'
    assert 0 < len(split.fit) < len(split.score)


@pytest.mark.parametrize('turn', [1, -1])
@pytest.mark.parametrize('first', [0.0, 180.0, 37.0, -140.0, 360.0, 1e-5, -1e-5])
def test_a_line_is_a_whole_turn_from_where_the_scanner_begins(first, turn):
    view = (first, first + turn * (360.0 - 360.0 / 512))
    points, line = scan(np.random.default_rng(0), 16, 512, view)
    # Where drivers usually begin, the first points may be lost.
    for lost in (0, 9) if first in (0.0, 180.0) else (0,):
        found = find_scan_lines(points[lost:].astype(np.float32))
        assert (found.found_by, found.count) == ('order', 16)
        assert (found.index == line[lost:]).all()


def test_stray_points_between_the_lines_join_the_nearest():
    rng = np.random.default_rng(0)
    points, line = scan(rng, 16)
    stray = rng.random(len(points)) < 0.03
    points[stray, 2] += (np.hypot(*points.T[:2]) * rng.uniform(-0.01, 0.01, len(points)))[stray]
    shuffled = rng.permutation(len(points))
    found = find_scan_lines(points[shuffled])
    assert (found.found_by, found.count) == ('elevation', 16)
    assert (found.index == line[shuffled]).all()


@pytest.mark.parametrize('has_ring', [False, True])
@pytest.mark.parametrize('nothing', [0.0, np.nan, np.inf])
def test_rays_without_a_return_disturb_no_line_or_degree(has_ring, nothing):
    points, line = scan(np.random.default_rng(0), 64)
    lost = np.random.default_rng(1).random(len(points)) < 0.6
    scanned = np.where(lost[:, None], nothing, points)
    found = find_scan_lines(scanned, line if has_ring else None)
    assert (found.found_by, found.count) == ('ring' if has_ring else 'order', 64)
    assert (found.index[~lost] == line[~lost]).all()
    degrees = [azimuth_blocks(rays).index[~lost] for rays in (scanned, points)]
    assert np.ptp(degrees[0] - degrees[1]) == 0


def test_near_points_of_an_offset_laser_keep_their_line():
    rng = np.random.default_rng(0)
    points, line = scan(rng, 64)
    points[:, 2] += np.where(line % 2 == 0, 0.1, -0.1)  # lasers beside the scanner's centre
    points[:, 1] += points[:, 0] * rng.normal(0, 0.007, len(points))  # azimuths of a shaken mount
    found = find_scan_lines(points)
    assert found.found_by == 'order'
    assert found.count == 64
    assert len(set(zip(found.index.tolist(), line.tolist(), strict=True))) == 64


def test_ring_field_precedes_geometry_and_counts_from_below():
    points, line = scan(np.random.default_rng(0), 16)
    found = find_scan_lines(points, ring=15 - line)
    assert found.found_by == 'ring'
    assert (found.index == line).all()
    same = find_scan_lines(points, ring=np.ones_like(line))  # as drivers write that know none
    assert (same.found_by, same.count) == ('order', 16)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(0, 1), (7, 3), (-5, 2), (70_000, 1)]),
    st.sampled_from([16, 300]),
)
def test_rings_may_have_any_numbers_in_any_order(seed, numbering, beams):
    rng = np.random.default_rng(seed)
    points, line = scan(rng, beams, steps=30)
    points[rng.integers(0, len(points), 9), 2] = rng.uniform(-30, 30, 9)  # as of rain
    first, step = numbering
    found = find_scan_lines(points, ring=first + step * rng.permutation(beams)[line])
    assert (found.index == line).all()


def test_points_without_lines_become_bands_of_elevation():
    points = np.random.default_rng(0).normal(0, 5, (5000, 3)) + (20, 0, 0)
    found = find_scan_lines(points)
    assert found.found_by == 'bands'
    assert 32 <= found.count <= 64


@pytest.mark.parametrize(
    'given',
    [(np.zeros((0, 3)),), (np.zeros(3),), (np.zeros((4, 2)),), (np.ones((4, 3)), np.zeros(3))],
)
def test_a_malformed_scan_is_an_input_error(given):
    with pytest.raises(InputError) as refusal:
        find_scan_lines(*given)
    assert refusal.value.cause == 'shape'


def test_a_fit_to_every_line_and_a_frame_without_extrinsics_are_refused():
    with pytest.raises(AlignmentError):
        choose_fit_lines(find_scan_lines(scan(np.random.default_rng(0))[0]), 1)
    frame = Frame(np.zeros((120, 160, 3), np.uint8), Camera(K, 160, 120), np.ones((5, 3)))
    with pytest.raises(CalibrationError):
        hold_out(frame, AlignmentConfig())


def pixels(sparse):
    return set(zip(sparse.u.tolist(), sparse.v.tolist(), strict=True))


@pytest.mark.parametrize('held_out', ['rings', 'azimuth'])
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(4, 40), st.booleans())
def test_fit_and_score_share_no_line_or_degree_point_or_pixel(
    held_out, seed, every, beams, with_ring
):
    rng = np.random.default_rng(seed)
    points, line = scan(rng, beams, steps=200)
    shuffled = rng.permutation(len(points))
    points, line = points[shuffled], line[shuffled]
    frame, config, ring = frame_of(points), AlignmentConfig(), line if with_ring else None
    split = hold_out(frame, config, every, ring, held_out)
    degree = np.floor(np.degrees(np.arctan2(points[:, 1], points[:, 0])))
    fitted = set((line if held_out == 'rings' else degree)[split.in_fit])
    assert fitted
    if held_out == 'azimuth':
        assert split.scan_lines.found_by == 'azimuth'
        assert fitted.isdisjoint(degree[split.score.index])
        assert len(fitted) == pytest.approx(80 / every, abs=1)
    elif with_ring:
        assert fitted.isdisjoint(line[split.score.index])
    assert not split.in_fit[split.score.index].any()
    assert pixels(split.fit).isdisjoint(pixels(split.score))
    assert (split.to_fit(frame).points_lidar == points[split.in_fit]).all()
    again = hold_out(frame, config, every, ring, held_out, project_scan(frame, points, config))
    assert (again.score.index == split.score.index).all()


def test_a_flat_scanner_has_blocks_of_azimuth_too():
    angle = np.radians(np.arange(-90, 90, 0.25))
    blocks = azimuth_blocks(np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1))
    assert blocks.count == 180
    assert (np.diff(blocks.index) >= 0).all()


@pytest.mark.parametrize(('beams', 'every'), [(4, 20), (5, 20), (16, 20), (64, 8)])
def test_the_middle_line_of_each_group_is_for_the_fit(beams, every):
    points, line = scan(np.random.default_rng(0), beams)
    chosen = choose_fit_lines(find_scan_lines(points), every)
    middle = min(beams, every) // 2
    np.testing.assert_array_equal(chosen, np.isin(line, range(middle, beams, every)))


def test_lines_of_the_real_drive_are_those_of_a_64_beam_scanner(shared_data):
    points = np.load(shared_data / 'kitti' / 'points_lidar.npy')
    found = find_scan_lines(points)
    assert found.found_by == 'order'
    assert 60 <= found.count <= 64
    shuffled = find_scan_lines(points[np.random.default_rng(0).permutation(len(points))])
    assert 40 <= shuffled.count <= 64
