# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What a LiDAR sees past objects is found, however far apart its lines are; nothing else is."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry.camera.hidden_points import (
    behind_surfaces,
    not_hidden,
)
import numpy as np
import pytest

STEP = np.radians(0.4)
ABOVE, BELOW, BESIDE = (0.0, -0.5, 0.0), (0.0, 0.5, 0.0), (0.5, 0.0, 0.0)
PLACES = {'above': ABOVE, 'below': BELOW, 'beside': BESIDE, 'above and behind': (0.1, -0.5, -0.4)}
FLOOR, WALL = 1.5, 10.0


def directions(lines=16):
    """Unit vectors (N, 3) of a spinning LiDAR that looks ahead."""
    up, side = np.meshgrid(np.radians(np.linspace(-25, 15, lines)), np.arange(-0.7, 0.7, STEP))
    return np.stack(
        [np.cos(up) * np.sin(side), -np.sin(up), np.cos(up) * np.cos(side)], -1
    ).reshape(-1, 3)


def first_hit(origin, rays, boards):
    """Distances (N,) to the floor, the wall and upright boards (x, y, z of two corners)."""
    origin = np.asarray(origin)
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = (WALL - origin[2]) / rays[:, 2]
        floor = (FLOOR - origin[1]) / rays[:, 1]
        distance = np.where((floor > 0) & (floor < distance), floor, distance)
        for low, high in boards:
            to = (low[2] - origin[2]) / rays[:, 2]
            x, y = (origin[i] + to * rays[:, i] for i in (0, 1))
            hit = (x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]) & (to < distance)
            distance = np.where(hit, to, distance)
    return distance


def scanned(lidar, boards, lines=16):
    """Points (3, N) in the camera's frame, and which of them the camera sees."""
    rays = directions(lines)
    points = np.asarray(lidar) + rays * first_hit(lidar, rays, boards)[:, None]
    points = points[points[:, 2] > 0.1]
    away = np.linalg.norm(points, axis=1)
    visible = first_hit((0.0, 0.0, 0.0), points / away[:, None], boards) > away - 1e-6
    return points.T.astype(np.float32), visible


def in_image(points):
    """Indices of the points in an image of 90 by 70 degrees."""
    return np.flatnonzero((np.abs(points[0]) < points[2]) & (np.abs(points[1]) < 0.7 * points[2]))


def found(lidar, boards, lines=16):
    """Which points of the image are found to be hidden, and which are visible."""
    points, visible = scanned(lidar, boards, lines)
    seen = in_image(points)
    return behind_surfaces(points, np.asarray(lidar), seen, STEP), visible[seen]


@pytest.mark.parametrize('place', PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(('lines', 'least'), [(16, 0.5), (32, 0.8), (64, 0.85)])
def test_what_a_board_hides_is_found_and_the_rest_stays(place, lines, least):
    hidden, visible = found(place, [((-1.2, -0.9, 4.0), (0.8, 0.3, 4.0))], lines)
    assert np.count_nonzero(~visible) > 70
    assert hidden[~visible].mean() >= least
    assert hidden[visible].mean() < 0.005


def test_a_board_that_goes_on_below_the_first_line_hides_what_lands_there():
    board = [((-0.3, -0.4, 1.0), (0.3, 1.2, 1.0))]
    points, visible = scanned(ABOVE, board)
    seen = in_image(points)
    hidden = behind_surfaces(points, np.asarray(ABOVE), seen, STEP)
    lowest = points[1, seen[points[2, seen] < 1.1]].max()  # of what is hit of the board
    below = ~visible[seen] & (points[1, seen] / points[2, seen] > lowest)
    assert np.count_nonzero(below) > 20
    assert hidden[below].mean() > 0.9  # but at the edges


@pytest.mark.parametrize('place', [ABOVE, BELOW])
def test_what_is_seen_under_a_bar_is_not_hidden(place):
    hidden, visible = found(place, [((-2.0, 0.3, 3.0), (2.0, 0.36, 3.0))])
    assert not hidden[visible].any()


@pytest.mark.parametrize('place', PLACES.values(), ids=PLACES)
def test_between_posts_all_but_the_points_beside_them_stay(place):
    posts = [((x, -3.0, 4.0), (x + 0.1, FLOOR, 4.0)) for x in np.arange(-2, 2, 0.5)]
    hidden, visible = found(place, posts)
    assert hidden[visible].mean() < 0.05  # two of the 18 columns between two posts are 11 %


@given(seed=st.integers(0, 10**6), count=st.integers(2, 2000), away=st.floats(0.01, 1.5))
def test_in_a_convex_room_nothing_is_hidden_from_anywhere(seed, count, away):
    rng = np.random.default_rng(seed)
    rays, lidar = rng.normal(size=(count, 3)), rng.normal(size=3)
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    lidar *= away / np.linalg.norm(lidar)
    # From the LiDAR to a sphere of 5 m around the camera.
    along = rays @ lidar
    points = lidar + rays * (np.sqrt(along**2 + 25.0 - away**2) - along)[:, None]
    points = points[points[:, 2] > 0.1].T.astype(np.float32)
    if points.shape[1] > 1:
        every = np.arange(points.shape[1])
        assert behind_surfaces(points, lidar, every, 2.0 / np.sqrt(count)).mean() < 0.01


@pytest.mark.parametrize('place', PLACES.values(), ids=PLACES)
def test_points_that_are_sent_twice_hide_what_they_hide_once(place):
    points, _ = scanned(place, [((-1.2, -0.9, 4.0), (0.8, 0.3, 4.0))])
    points = np.append(points, [[0.0], [0.0], [2.0]], axis=1).astype(np.float32)  # one alone
    seen, count = in_image(points), points.shape[1]
    once = behind_surfaces(points, np.asarray(place), seen, STEP)
    assert once.any()
    twice = np.concatenate([points, points], axis=1)
    for asked in (seen, seen + count):
        np.testing.assert_array_equal(behind_surfaces(twice, np.asarray(place), asked, STEP), once)


@pytest.mark.parametrize('ahead', [0.5, -0.5])
def test_a_lidar_straight_ahead_or_behind_has_planes_too(ahead):
    points, visible = scanned((0.0, 0.0, ahead), [((-0.5, -0.5, 3.0), (0.5, 0.5, 3.0))], 64)
    seen = in_image(points)
    hidden = behind_surfaces(points, np.array([0.0, 0.0, ahead]), seen, STEP)
    assert hidden[visible[seen]].mean() < 0.01


def test_a_hundred_thousand_points_in_one_plane_do_not_take_forever():
    rng = np.random.default_rng(0)
    y, z = rng.uniform(-5, 5, 100_000), rng.uniform(1, 50, 100_000)
    points = np.stack([0.0 * y, y, z]).astype(np.float32)
    every = np.arange(100_000)
    assert behind_surfaces(points, np.asarray(ABOVE), every, 1e-12).any()


@given(st.integers(0, 99))
def test_the_window_agrees_with_the_rule_written_out(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.permutation(160 * 120)[:800]
    u, v, z = pixels % 160, pixels // 160, rng.uniform(2, 12, 800).astype(np.float32)
    apart = [np.abs(x[:, None] - x[None, :]) <= 3 for x in (u, v)]
    nearest = np.where(apart[0] & apart[1], z[None, :], np.inf).min(axis=1)
    np.testing.assert_array_equal(not_hidden(u, v, z, 7, 1.5), z <= nearest + np.float32(1.5))


def test_a_slope_seen_from_the_air_hides_nothing_of_itself():
    u, v = np.arange(30), np.zeros(30, int)
    z = np.linspace(800.0, 830.0, 30, dtype=np.float32)  # 7 m in a window
    assert not_hidden(u, v, z, 7, 1.5).all()


@pytest.mark.parametrize('behind', [0.3, -0.3])
def test_points_on_the_line_through_both_sensors_are_as_good_as_others(behind):
    points = np.array([[0.0, 0.0, 0.1], [0.0, 0.0, 0.1], [5.0, 8.0, 5.0]], np.float32)
    hidden = behind_surfaces(points, np.array([0.0, 0.0, -behind]), np.arange(3), STEP)
    assert hidden.tolist() == [False, False, False]
