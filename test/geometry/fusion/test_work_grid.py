# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The work grid: its size and proportions, and the same place for points, maps and images."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry.fusion.work_grid import work_grid, WorkGrid
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


@given(height=st.integers(200, 4000), ratio=st.floats(0.3, 3.4))
def test_a_large_image_has_about_49152_cells_in_its_proportions(height, ratio):
    width = max(260, round(height * ratio))
    grid = work_grid((height, width))
    if height * width > 60_000:
        assert grid.rows * grid.columns == pytest.approx(49152, rel=0.15)
    assert grid.columns / grid.rows == pytest.approx(width / height, rel=0.15)


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


@given(seed=SEEDS, height=st.integers(1, 400), width=st.integers(1, 1300))
def test_a_point_is_counted_in_the_cell_that_holds_the_middle_of_its_pixel(seed, height, width):
    u, v, _ = pixels(seed, (height, width), 1)
    grid = work_grid((height, width))
    _, count = grid.mean_in_cells(u, v, np.ones(1))
    place = grid.place(u, v)[0]
    assert np.abs(np.argwhere(count)[0] - place).max() <= 0.5 + 1e-9


@given(seed=SEEDS, height=st.integers(16, 300), width=st.integers(16, 300))
def test_places_and_samples_agree(seed, height, width):
    u, v, _ = pixels(seed, (height, width), 50)
    grid = work_grid((height, width))
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns].astype(np.float64)
    place = grid.place(u, v)
    inside = (place >= 0).all(axis=1) & (place <= (grid.rows - 1, grid.columns - 1)).all(axis=1)
    for axis, ramp in enumerate((rows, columns)):
        np.testing.assert_allclose(grid.sample(ramp, u, v)[inside], place[inside, axis], atol=1e-9)


def test_corner_pixels_lie_in_corner_cells():
    for shape in ((480, 640), (375, 1242), (16, 16)):
        grid = work_grid(shape)
        u, v = np.array([0, shape[1] - 1]), np.array([0, shape[0] - 1])
        _, count = grid.mean_in_cells(u, v, np.ones(2))
        place = grid.place(u, v)
        assert count[0, 0] == count[-1, -1] == 1
        assert (place > -0.5).all()
        assert (place < (grid.rows - 0.5, grid.columns - 0.5)).all()


@pytest.mark.parametrize('shape', [(480, 640), (375, 1242), (17, 40), (3, 3)])
def test_shrinking_and_enlarging_keep_means_and_constants(shape):
    grid = work_grid(shape)
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    small = grid.shrink(image)
    assert small.shape == (grid.rows, grid.columns)
    assert small.mean() == pytest.approx(image.mean(), abs=0.02)
    constant = grid.enlarge(np.full(small.shape, 2.5, np.float32))
    assert constant.shape == shape
    np.testing.assert_allclose(constant, 2.5, rtol=1e-6)
