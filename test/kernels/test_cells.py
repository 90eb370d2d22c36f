# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Grids of cells: values between them, points in them, enlarging and filling them."""

from hypothesis import example, given
from hypothesis import strategies as st
from marigold_ros.kernels.bilinear import sample_grid, sampled, sampled_between, scattered
from marigold_ros.kernels.cells import representatives
from marigold_ros.kernels.joint_bilateral import cells_before, place_by_colour
from marigold_ros.kernels.pull_push import pull_push
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

SEEDS, SIDES = st.integers(0, 10_000), st.integers(1, 9)


@given(SEEDS, SIDES, SIDES)
def test_between_cells_a_grid_is_linear_and_beyond_them_constant(seed, rows, columns):
    rng = np.random.default_rng(seed)
    grid, u, v = rng.normal(size=(rows, columns)), rng.uniform(-5, 45, 50), rng.uniform(-5, 35, 50)
    places = (v + 0.5) / 30 * rows - 0.5, (u + 0.5) / 40 * columns - 0.5
    wanted = map_coordinates(grid, places, order=1, mode='nearest')
    np.testing.assert_allclose(sample_grid(grid, u, v, (30, 40)), wanted, atol=1e-9)


@given(SEEDS, SIDES, SIDES)
def test_scattering_is_the_adjoint_of_sampling(seed, rows, columns):
    rng = np.random.default_rng(seed)
    grid, (x, y) = rng.normal(size=(rows, columns)), rng.uniform(-1, 10, (2, 20))
    values, weights = rng.normal(size=20), rng.random(20)
    found = np.tensordot(grid, scattered(x, y, values, weights, rows, columns), 2)
    at_points = weights * sampled(grid, x, y)
    np.testing.assert_allclose(found, [at_points @ values, at_points.sum()], atol=1e-4)


def test_between_two_slices_values_are_linear():
    rng = np.random.default_rng(0)
    slices, (x, y), share = rng.normal(size=(4, 5, 3)), rng.uniform(0, 5, (2, 20)), rng.random(20)
    lower = rng.integers(0, 2, 20)
    each = np.stack([sampled(np.ascontiguousarray(slices[..., k]), x, y) for k in range(3)])
    below, above = each[lower, np.arange(20)], each[lower + 1, np.arange(20)]
    found = sampled_between(slices, x, y, lower, share)
    np.testing.assert_allclose(found, below + share * (above - below))


def test_all_points_stand_for_themselves_up_to_the_limit():
    u = np.arange(7) // 2
    np.testing.assert_array_equal(representatives(u, u, u, 7), range(7))


@pytest.mark.parametrize(('most', 'places'), [(1, [2000]), (3, [0, 2000, 9999])])
def test_groups_beyond_the_limit_are_left_out_evenly(most, places):
    u = np.repeat([0, 2000, 5000, 9999], 50)
    np.testing.assert_array_equal(u[representatives(u, 0 * u, u, most)], places)


def test_points_in_a_part_of_the_image_are_represented_as_finely():
    u, v = np.random.default_rng(0).integers(0, 90, (2, 5000))
    far = np.append(u, 2000), np.append(v, 2000)  # of an area 500 times as large
    assert len(representatives(*far, far[0], 300)) > 0.75 * 300


@pytest.mark.parametrize('count', [40, 401])
def test_the_median_stands_for_few_points_and_for_many(count):
    values = np.random.default_rng(0).normal([[9.0], [5.0], [0.0]], 1.0, (3, count))
    u = np.repeat([0, 2000, 9999], count)
    chosen = representatives(u, 0 * u, values.ravel(), 40)
    lower_medians = np.sort(values)[:, (count - 1) // 2]
    np.testing.assert_array_equal(values.ravel()[chosen], lower_medians)


def enlarged(depth, cells, rgb, near=1):
    whole = np.full(rgb.shape[:2], -1.0, np.float32)
    sides = [cells_before(*side) for side in zip(whole.shape, depth.shape, strict=True)]
    place_by_colour(whole, np.full(whole.shape, near, np.uint8), depth, (rgb, cells), *sides)
    return whole


def two_halves():
    """Depth, and colours of the cells and of an image: an edge, 3 pixels before cells have it."""
    depth, cells = np.full((4, 6), 2.0, np.float32), np.zeros((4, 6, 3), np.float32)
    depth[:, 3:] = 9.0
    return depth, cells, np.zeros((20, 30, 3), np.uint8)


@pytest.mark.parametrize('channel', [0, 1, 2])
def test_depth_follows_the_edges_of_the_image(channel):
    depth, cells, rgb = two_halves()
    cells[:, 3:, channel] = 60.0
    rgb[:, 12:, channel] = 60
    found = enlarged(depth, cells, rgb)
    np.testing.assert_allclose(found[:, :12], 2.0, atol=0.4)
    np.testing.assert_allclose(found[:, 12:], 9.0, atol=0.4)
    np.testing.assert_array_equal(enlarged(depth, cells, rgb, near=0), -1.0)


def test_a_colour_of_no_cell_takes_its_place_between_them():
    depth, cells, rgb = two_halves()
    rgb[..., 0] = 60
    cells[:, 3:, 0] = 108.0
    found, (before, share) = enlarged(depth, cells, rgb), cells_before(30, 6)
    linear = depth[0, before] * (1 - share) + depth[0, before + 1] * share
    np.testing.assert_allclose(found, np.tile(linear, (20, 1)), atol=1.0)


@given(st.integers(2, 9), st.integers(1, 12))
def test_every_pixel_lies_between_two_cells(cells, factor):
    before, share = cells_before(cells * factor, cells)
    place = np.clip((np.arange(cells * factor) + 0.5) / factor - 0.5, 0, cells - 1)
    np.testing.assert_allclose(before + share, place, atol=1e-5)
    assert before.min() >= 0
    assert before.max() <= cells - 2


@example(0, 1, 9)
@given(SEEDS, SIDES, SIDES)
def test_cells_are_filled_within_the_range_of_what_is_known_which_stays(seed, rows, columns):
    rng = np.random.default_rng(seed)
    mean, count = rng.normal(size=(rows, columns)), rng.integers(0, 2, (rows, columns))
    count[0, 0] = 1
    found, turned = pull_push(mean, count), pull_push(mean.T.copy(), count.T.copy())
    np.testing.assert_allclose(turned.T, found, atol=1e-5)
    known = mean[count > 0]
    np.testing.assert_allclose(found[count > 0], known, atol=1e-6)
    assert found.min() >= known.min() - 1e-5
    assert found.max() <= known.max() + 1e-5
    assert found.dtype == np.float32
