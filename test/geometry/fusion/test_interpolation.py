# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Interpolation of points: exact on planes, as SciPy's, within the range of the points."""

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.geometry.fusion import interpolation
from marigold_ros.geometry.fusion.candidates import depth_range
from marigold_ros.geometry.fusion.interpolation import nearest_points
from marigold_ros.geometry.fusion.work_grid import work_grid, WorkGrid
from marigold_ros.kernels.pull_push import pull_push
import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt

SHAPE = (240, 320)
GRID = work_grid(SHAPE)
SEEDS = st.integers(0, 10_000)


def scattered(seed, count, shape=SHAPE):
    """Draw distinct pixels."""
    rng = np.random.default_rng(seed)
    v, u = np.divmod(rng.choice(shape[0] * shape[1], count, replace=False), shape[1])
    return u, v, rng


def interpolate(u, v, values, grid=GRID, most=14000):
    return interpolation.interpolate(u, v, values, grid, most)


def plane(u, v, rng):
    """Return a function of pixels that is linear and positive on the image."""
    a, b = rng.uniform(-1, 1, 2) / max(SHAPE)
    return lambda u, v: 0.1 * (2.5 + a * u + b * v)


def cell_centres(grid=GRID):
    """Return column and row in pixels of the middle of each cell."""
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns] + 0.5
    return columns * grid.shape[1] / grid.columns - 0.5, rows * grid.shape[0] / grid.rows - 0.5


def sites(seed, rows, columns, count):
    """Draw cells with points and their values; both (rows, columns)."""
    rng = np.random.default_rng(seed)
    known = np.zeros(rows * columns, np.float32)
    known[rng.choice(rows * columns, count, replace=False)] = 1
    known = known.reshape(rows, columns)
    return known, (known * rng.uniform(0.1, 1, (rows, columns))).astype(np.float32)


@given(seed=SEEDS, count=st.integers(3, 8000))
def test_a_plane_is_exact_inside_the_points(seed, count):
    u, v, rng = scattered(seed, count)
    truth = plane(u, v, rng)
    linear, inside = interpolate(u, v, truth(u, v))
    np.testing.assert_allclose(linear[inside], truth(*cell_centres())[inside], rtol=2e-6)


@settings(max_examples=min(15, settings().max_examples))
@given(seed=SEEDS, count=st.integers(1000, 50000), most=st.integers(100, 40000))
def test_a_plane_is_nearly_exact_however_many_points_are_too_many(seed, count, most):
    u, v, rng = scattered(seed, count)
    truth = plane(u, v, rng)
    linear, inside = interpolate(u, v, truth(u, v), most=most)
    error = np.abs(np.log(linear / truth(*cell_centres())))[inside]
    assert error.mean() < 0.01


def along_border(inside):
    """Return the cells beside or on the border of a region."""
    region, window = inside.astype(np.uint8), np.ones((3, 3), np.uint8)
    return cv2.dilate(region, window) != cv2.erode(region, window)


@given(seed=SEEDS, most=st.sampled_from([100, 3000, 14000]))
def test_outside_of_the_points_is_the_nearest_however_many_they_are(seed, most):
    rng = np.random.default_rng(seed)
    v, u = np.nonzero(rng.random(GRID.shape) < 0.5)
    low = v > GRID.shape[0] // 2
    u, v = u[low], v[low]
    values = rng.uniform(0.1, 2.0, len(u))
    found, inside = interpolate(u, v, values, most=most)
    mean, count = GRID.mean_in_cells(u, v, values)
    nearest = interpolation.nearest_points(count).spread(mean)
    assert 0.3 < inside.mean() < 0.6
    np.testing.assert_array_equal(found[~inside], nearest[~inside].astype(np.float32))


@pytest.mark.parametrize('count', [4, 12, 40, 120, 400, 800])
def test_interpolation_is_scipys_where_no_points_are_left_out(count):
    # Four points on a circle have two triangulations, of which SciPy may take the other one: of
    # these points hardly any four are.
    u, v, rng = scattered(1, count)
    order = np.lexsort((u, v))
    u, v, disparity = u[order], v[order], rng.uniform(0.05, 1, count)
    linear, inside = interpolate(u, v, disparity)
    rows, columns = np.mgrid[0 : GRID.rows, 0 : GRID.columns].astype(np.float64)
    expected = LinearNDInterpolator(GRID.place(u, v), disparity)(rows, columns)
    # Rounding decides about cells on the hull, and beside triangles without area.
    differs = (np.isfinite(expected) != inside) & ~along_border(inside)
    assert differs.mean() < 0.01
    both = np.isfinite(expected) & inside
    same = np.isclose(linear[both], expected[both], rtol=1e-5)
    assert same.mean() > 0.98


@given(seed=SEEDS, count=st.integers(1, 3000), spread=st.floats(0, 3))
def test_interpolation_stays_within_the_range_of_the_points(seed, count, spread):
    u, v, rng = scattered(seed, count)
    disparity = np.exp(rng.normal(0, spread, count))
    linear, _ = interpolate(u, v, disparity)
    assert linear.dtype == np.float32
    assert linear.min() >= disparity.min() * (1 - 1e-6)
    assert linear.max() <= disparity.max() * (1 + 1e-6)


@given(seed=SEEDS, rows=st.integers(2, 60), columns=st.integers(2, 60), share=st.floats(0.001, 1))
def test_distance_and_nearest_cell_are_those_of_the_exact_transform(seed, rows, columns, share):
    known, values = sites(seed, rows, columns, max(1, int(share * rows * columns)))
    nearest = nearest_points(known)
    exact = distance_transform_edt(known == 0)
    # Steps of a chess knight approximate distance to about 2 %.
    np.testing.assert_allclose(nearest.distance, exact, rtol=0.03)
    row, column = np.divmod(nearest.cell, columns)
    assert known[row, column].all()
    y, x = np.indices(known.shape)
    np.testing.assert_allclose(np.hypot(row - y, column - x), exact, rtol=0.05, atol=1e-6)
    np.testing.assert_array_equal(nearest.spread(values)[known > 0], values[known > 0])


@given(seed=SEEDS, count=st.integers(150, 700))
def test_pull_push_is_better_than_the_nearest_point_on_smooth_values(seed, count):
    known, _ = sites(seed, 32, 40, count)
    y, x = np.indices(known.shape)
    smooth = (1 + 0.5 * np.sin(x / 9 + seed) + 0.5 * np.cos(y / 7)).astype(np.float32)
    nearest = nearest_points(known).spread(smooth)
    error, of_nearest = (np.abs(f - smooth).mean() for f in (pull_push(smooth, known), nearest))
    assert error < of_nearest


@given(seed=SEEDS, count=st.integers(1, 100))
def test_the_range_of_depth_is_that_of_a_window_that_grows_with_distance(seed, count):
    known, values = sites(seed, 24, 32, count)
    nearest = nearest_points(known)
    low, high = depth_range(values, nearest)
    spread = nearest.spread(values)
    assert (low <= spread).all()
    assert (spread <= high).all()
    # Windows grow in steps; each reaches at least two thirds as far as wanted.
    wanted = 1.5 * nearest.distance + 2.0
    for y, x in np.ndindex(known.shape):
        for extreme, found in ((np.min, -low[y, x]), (np.max, high[y, x])):
            sign = -1 if extreme is np.min else 1
            narrow, wide = (
                sign * extreme(window(spread, y, x, int(reach)))
                for reach in (0.6 * wanted[y, x], wanted[y, x])
            )
            assert narrow <= found <= wide


def window(values, y, x, reach):
    return values[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]


@pytest.mark.parametrize('turned', [False, True])
def test_points_of_all_rows_and_columns_of_a_grid_are_met(turned):
    # Each pixel is a cell, so that points lie on the rows of cells exactly, the last one too.
    sides = [*range(0, 29, 4), 31], range(0, 46, 3)
    v, u = (part.ravel() for part in np.meshgrid(*sides)[:: -1 if turned else 1])
    disparity = np.random.default_rng(0).uniform(0.1, 1, len(u))
    shape = (48, 32) if turned else (32, 48)
    linear, inside = interpolate(u, v, disparity, WorkGrid(shape, *shape))
    np.testing.assert_allclose(linear[v, u], disparity, rtol=1e-6)
    inside = inside.T if turned else inside
    assert inside[:, :46].all()
    assert not inside[:, 46:].any()
