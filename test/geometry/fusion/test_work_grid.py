# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The work grid: its size and proportions, and the same place for points, maps and images."""

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, median_gap
from marigold_ros.geometry.fusion.work_grid import (
    CELLS,
    cells_needed,
    enlarge_depth,
    through_points,
    with_detail,
    work_grid,
    WorkGrid,
)
import numpy as np
import pytest

SEEDS = st.integers(0, 10_000)
SIDES = st.integers(1, 2000)


def pixels(seed, shape, count):
    rng = np.random.default_rng(seed)
    return rng.integers(0, shape[1], count), rng.integers(0, shape[0], count), rng


@given(height=SIDES, width=SIDES)
def test_sides_are_multiples_of_16_near_the_images_or_smaller(height, width):
    grid = work_grid((height, width))
    assert grid.shape == (height, width)
    for cells, side in ((grid.rows, height), (grid.columns, width)):
        assert cells % 16 == 0
        assert 16 <= cells <= max(16, side + 8)


@given(height=SIDES, width=SIDES, seed=SEEDS)
def test_a_pixel_lies_in_the_cell_that_holds_its_middle(height, width, seed):
    u, v, _ = pixels(seed, (height, width), 50)
    grid = work_grid((height, width))
    row, column = grid.cell_of(u, v)
    np.testing.assert_array_equal(row, (2 * v + 1) * grid.rows // (2 * height))
    np.testing.assert_array_equal(column, (2 * u + 1) * grid.columns // (2 * width))


@given(height=st.integers(20, 500), width=st.integers(20, 500), seed=SEEDS)
def test_tiles_of_points_whose_spacing_is_known_are_the_same(height, width, seed):
    u, v, _ = pixels(seed, (height, width), 50)
    spacing = median_gap(u, v, (height, width), among=True)
    known = checkerboard_fold(u, v, (height, width), among=True, spacing=spacing)
    np.testing.assert_array_equal(known, checkerboard_fold(u, v, (height, width), among=True))


@given(height=st.integers(200, 4000), ratio=st.floats(0.3, 3.4), cells=st.sampled_from(CELLS))
def test_a_large_image_has_about_so_many_cells_in_its_proportions(height, ratio, cells):
    width = max(260, round(height * ratio))
    grid = work_grid((height, width), cells)
    if height * width > 1.2 * cells:
        assert grid.rows * grid.columns == pytest.approx(cells, rel=0.2)
    assert grid.columns / grid.rows == pytest.approx(width / height, rel=0.15)


@given(height=st.integers(100, 1500), width=st.integers(100, 3000), gap=st.floats(0.5, 100))
def test_closer_points_get_more_cells_and_a_magnified_image_the_same(height, width, gap):
    cells = cells_needed(10_000, gap, (height, width))
    assert cells in CELLS
    assert cells_needed(10_000, gap / 2, (height, width)) >= cells
    assert cells_needed(10_000, 3 * gap, (3 * height, 3 * width)) == cells
    assert cells_needed(1000, gap, (height, width)) == CELLS[0]  # too few for more cells


@pytest.mark.parametrize(('points', 'place'), [(500, 0), (2000, 0), (10_000, 1)])
def test_many_points_get_a_finer_grid(points, place):
    rng = np.random.default_rng(0)
    v, u = np.divmod(rng.choice(480 * 640, points, replace=False), 640)
    gap, _ = median_gap(u, v, (480, 640), among=True)
    assert cells_needed(points, gap, (480, 640)) == CELLS[place]


@given(points=st.integers(1, 99), gap=st.floats(0.5, 100))
def test_a_few_points_get_fewer_cells_than_any_others(points, gap):
    assert cells_needed(points, gap, (480, 640)) < cells_needed(100, gap, (480, 640))


def test_known_sizes():
    for shape, size in (((480, 640), (192, 256)), ((375, 1242), (128, 400)), ((3, 3), (16, 16))):
        grid = work_grid(shape)
        assert (grid.rows, grid.columns) == size
        assert grid.halved() == WorkGrid(shape, size[0] // 2, size[1] // 2)


@given(seed=SEEDS, height=st.integers(1, 300), width=st.integers(1, 300))
def test_means_and_counts_keep_the_sum_of_the_values(seed, height, width):
    u, v, rng = pixels(seed, (height, width), 200)
    values = rng.normal(size=200)
    grid = work_grid((height, width))
    mean, count = grid.mean_in_cells(u, v, values)
    assert mean.shape == count.shape == (grid.rows, grid.columns)
    assert count.sum() == 200
    assert (mean * count).sum() == pytest.approx(values.sum(), abs=1e-3)
    assert (mean[count == 0] == 0).all()


@given(seed=SEEDS, height=st.integers(16, 300), width=st.integers(16, 300))
def test_places_and_samples_agree(seed, height, width):
    u, v, _ = pixels(seed, (height, width), 50)
    grid = work_grid((height, width))
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns].astype(np.float64)
    place = grid.place(u, v)
    inside = (place >= 0).all(axis=1) & (place <= (grid.rows - 1, grid.columns - 1)).all(axis=1)
    for axis, ramp in enumerate((rows, columns)):
        np.testing.assert_allclose(grid.sample(ramp, u, v)[inside], place[inside, axis], atol=1e-9)


def measured(seed, count=60, noise=0.02):
    """Return points around a depth of 5 m, 8 pixels or more from each other, and that depth."""
    rng = np.random.default_rng(seed)
    place = rng.choice(12 * 16, count, replace=False)
    v, u = 8 * (place // 16) + 4, 8 * (place % 16) + 4
    z = 5.0 * np.exp(noise * rng.uniform(-1, 1, count))
    return SparseDepth(u, v, z.astype(np.float32)), np.full((96, 128), 5.0, np.float32)


def brought(depth, points, error):
    """Return depth brought to points, with the same error expected everywhere."""
    grid = work_grid(depth.shape)
    errors = np.full((grid.rows, grid.columns), error, np.float32)
    return through_points(depth, points, errors, grid)


def test_where_points_are_dense_pixels_beside_a_step_are_drawn_to_its_surfaces():
    truth = np.tile(np.where(np.arange(60) < 30, 3.0, 6.0).astype(np.float32), (40, 1))
    v, u = (part.ravel() for part in np.mgrid[1:40:3, 1:60:2])
    points, mixed = SparseDepth(u, v, truth[v, u]), np.exp(cv2.blur(np.log(truth), (5, 1)))
    errors = np.abs(np.log([mixed, brought(mixed, points, 0.1)] / truth))
    errors[:, v, u] = 0.0
    assert errors[1].sum() < 0.65 * errors[0].sum()


@pytest.mark.parametrize('shape', [(480, 640), (375, 1242), (50, 70)])
def test_colour_of_cells_is_their_mean_without_rounding(shape):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    grid = work_grid(shape)
    wanted = grid.shrink(rgb.astype(np.float32))
    np.testing.assert_allclose(grid.mean_colour(rgb[::-1])[::-1], wanted, atol=1e-3)
    np.testing.assert_allclose(grid.mean_colour(rgb), wanted, atol=1e-3)


@given(seed=SEEDS, expected=st.floats(0.01, 0.3))
def test_sound_points_are_published_as_measured_and_move_their_neighbours_only(seed, expected):
    points, depth = measured(seed)
    found = brought(depth, points, expected)
    np.testing.assert_allclose(found[points.v, points.u], points.z, rtol=1e-6)
    beside, far = found[points.v, points.u + 1], found[points.v, points.u - 4]
    moved = (points.z - 5.0) * (beside - 5.0)
    assert (moved >= -1e-7).all()
    assert (np.abs(beside - 5.0) <= np.abs(points.z - 5.0) + 1e-6).all()
    np.testing.assert_allclose(far, 5.0, rtol=1e-3)


def test_between_points_of_a_line_depth_goes_on_and_beside_the_line_it_does_not():
    depth = np.full((40, 600), 5.0, np.float32)
    u = np.arange(100, 200, 4)
    found = brought(
        depth, SparseDepth(u, np.full(len(u), 20), np.full(len(u), 5.2, np.float32)), 0.05
    )
    np.testing.assert_allclose(found[20, 100:197], 5.2, rtol=1e-6)
    np.testing.assert_allclose(found[[15, 25]], 5.0, rtol=1e-6)


def test_a_point_that_is_many_expected_errors_off_goes_with_the_sound_ones_around_it():
    v, u = (part.ravel() for part in np.mgrid[40:43, 60:63])
    z = np.where((v == 41) & (u == 61), 10.0, 5.2).astype(np.float32)
    found = brought(np.full((96, 128), 5.0, np.float32), SparseDepth(u, v, z), 0.05)
    assert found[41, 61] == pytest.approx(5.2, rel=0.01)


@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_a_factor_on_depth_and_points_is_kept(seed, scale):
    points, depth = measured(seed)
    far = SparseDepth(points.u, points.v, np.float32(scale) * points.z)
    plain = brought(depth, points, 0.02)
    scaled = brought(np.float32(scale) * depth, far, 0.02)
    np.testing.assert_allclose(scaled, scale * plain, rtol=1e-5)


@given(seed=SEEDS, share=st.floats(0, 1))
def test_a_map_that_has_all_of_the_share_is_published_with_its_edges(seed, share):
    rng, shape = np.random.default_rng(seed), (240, 320)
    grid = work_grid(shape)
    fitted = np.full(shape, 6.0, np.float32)
    fitted[60:150, 80 : 200 + seed % 50] = 2.0
    rgb = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    on_grid = np.exp(grid.shrink(np.log(fitted)))
    depth = enlarge_depth(on_grid, rgb, grid.shrink(rgb.astype(np.float32)), grid)
    change = np.full(on_grid.shape, 0.1, np.float32)
    shares = np.full(on_grid.shape, share, np.float32)
    found = with_detail(depth, fitted, change, shares, grid)
    expected = np.log(depth) + share * (np.log(fitted) + 0.1 - np.log(depth))
    np.testing.assert_allclose(np.log(found), expected, atol=1e-4)


@pytest.mark.parametrize(('far', 'is_step'), [(6.0, True), (2.1, False)])
def test_pixels_between_two_surfaces_are_placed_by_colour_and_others_are_not(far, is_step):
    v, u = np.mgrid[0:480, 0:640]
    near = np.hypot(v - 240, u - 320) < 150
    depth = np.where(near, 2.0, far).astype(np.float32)
    rgb = np.where(near, 200, 50).astype(np.uint8)[..., None].repeat(3, axis=2)
    grid = work_grid(depth.shape)
    on_grid = np.exp(grid.shrink(np.log(depth)))
    found, plain = enlarge_depth(on_grid, rgb, grid.mean_colour(rgb), grid), grid.enlarge(on_grid)
    errors = [np.abs(np.log(one / depth)).mean() for one in (found, plain)]
    assert errors[0] < 0.1 * errors[1] if is_step else (found == plain).all()


def test_where_the_map_is_unknown_depth_stays():
    depth, fitted = np.full((240, 320), 5.0, np.float32), np.full((240, 320), np.nan, np.float32)
    grid = work_grid(depth.shape)
    ones = np.ones((grid.rows, grid.columns), np.float32)
    np.testing.assert_allclose(with_detail(depth, fitted, 0 * ones, ones, grid), depth, rtol=1e-6)
