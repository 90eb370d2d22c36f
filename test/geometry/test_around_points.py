# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Loops over points, against OpenCV's filters and sums written out."""

import cv2
from hypothesis import example, given
from hypothesis import strategies as st
from marigold_ros.geometry.around_points import (
    draw_to_points,
    hull_of,
    pixel_order,
    range_around,
    spacing_of,
    spread_at,
)
import numpy as np
import pytest

SEEDS = st.integers(0, 2**32 - 1)


def scene(seed, share=0.3):
    """Return depth of any size, and u, v and depth of some of its pixels."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 20, 2))
    depth = rng.uniform(1, 10, shape).astype(np.float32)
    v, u = np.nonzero(rng.random(shape) < share)
    return depth, u, v, rng.uniform(1, 10, len(u)).astype(np.float32)


@given(seed=SEEDS)
def test_the_range_around_pixels_is_that_of_5x5(seed):
    depth, u, v, _ = scene(seed)
    least, largest = range_around(depth, u, v)
    window = np.ones((5, 5), np.uint8)
    np.testing.assert_array_equal(least, cv2.erode(depth, window)[v, u])
    np.testing.assert_array_equal(largest, cv2.dilate(depth, window)[v, u])


def test_a_value_is_spread_over_a_gaussian_of_height_one():
    found = spread_at(np.array([20 * 41 + 20]), np.array([3.0], np.float32), (41, 41))
    y, x = np.mgrid[-20:21, -20:21]
    np.testing.assert_allclose(found, 3 * np.exp(-(x**2 + y**2) / 2), atol=0.01)


@given(seed=SEEDS, share=st.sampled_from([0.3, 0.95]))
def test_depth_is_drawn_by_distance_and_by_how_close_it_is(seed, share):
    depth, u, v, z = scene(seed, share)
    weight = np.random.default_rng(seed).random(len(u)).astype(np.float32)
    pixel = v * depth.shape[1] + u
    found = draw_to_points(depth, (u, v, z, weight), pixel)
    log_depth = np.log(depth.astype(np.float64))
    bend = np.abs(log_depth - cv2.blur(log_depth, (5, 5)))
    bend[:2], bend[-2:], bend[:, :2], bend[:, -2:] = 0, 0, 0, 0
    bend = cv2.dilate(bend, np.ones((5, 5)))
    wanted = depth.astype(np.float64)
    for y, x in np.ndindex(depth.shape):
        near = (np.abs(u - x) <= 2) & (np.abs(v - y) <= 2)
        apart = z[near] / wanted[y, x] - 1
        by = weight[near] * np.exp(((u - x) ** 2 + (v - y) ** 2)[near] / (-2 * 0.8**2))
        by /= 1 + (apart / 0.3) ** 2
        if y * depth.shape[1] + x not in pixel:
            drawn = (by * apart).sum() / (by.sum() + 0.1)
            wanted[y, x] *= 1 + drawn * bend[y, x] ** 2 / (bend[y, x] ** 2 + 0.04**2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_the_hull_of_nothing_is_empty_and_that_of_corners_is_all_between_them():
    seen = np.zeros((20, 30), np.uint8)
    assert not hull_of(seen).any()
    seen[[2, 2, 17, 17], [3, 25, 3, 25]] = 1
    wanted = np.zeros(seen.shape, bool)
    wanted[2:18, 3:26] = True
    np.testing.assert_array_equal(hull_of(seen), wanted)


@given(
    pixels=st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 5)), max_size=60),
    in_order=st.booleans(),
)
@example(pixels=[(1, 0), (0, 0)], in_order=False)
def test_pixels_are_ordered_by_row_then_column_and_equal_ones_stay(pixels, in_order):
    if in_order:
        pixels.sort(key=lambda pixel: pixel[::-1])
    u, v = np.array(pixels, np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(pixel_order(u, v), np.lexsort((u, v)))


@pytest.mark.parametrize('count', [2, 3, 400, 401, 3000])
def test_the_spacing_of_points_does_not_depend_on_their_order(count):
    rng = np.random.default_rng(count)
    u, v = rng.integers(0, 99_999, count), rng.integers(0, 9, count)
    orders = [rng.permutation(count) for _ in range(5)]
    assert len({spacing_of(u[order], v[order]) for order in orders}) == 1
