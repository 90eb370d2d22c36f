# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Triangles of the cells to which points are nearest are Delaunay's, nearly all of them."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.kernels.triangles import between_points
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

ROWS, COLUMNS = 72, 96
CELLS = np.indices((ROWS, COLUMNS)).reshape(2, -1).T
SEEDS = st.integers(0, 10_000)


def scattered(seed, count, share=1.0):
    """Places of points (count, 2) in cells, all or a share of them in the upper rows."""
    rng = np.random.default_rng(seed)
    return rng.uniform((-0.4, -0.4), (share * ROWS - 0.6, COLUMNS - 0.6), (count, 2)), rng


def interpolated(places, values):
    nearest = cKDTree(places).query(CELLS)[1].reshape(ROWS, COLUMNS)
    return between_points(nearest, places, values)


def scipys(places, values):
    return LinearNDInterpolator(places, values)(CELLS).reshape(ROWS, COLUMNS)


@given(seed=SEEDS, count=st.integers(3, 4000))
def test_what_is_linear_is_exact(seed, count):
    places, rng = scattered(seed, count)
    slope = rng.normal(size=2)
    found, known = interpolated(places, 3.0 + places @ slope)
    truth = (3.0 + CELLS @ slope).reshape(ROWS, COLUMNS)
    np.testing.assert_allclose(found[known], truth[known], atol=1e-3)


@given(seed=SEEDS, count=st.integers(50, 400))
def test_it_is_scipys_interpolation_nearly_everywhere_between_the_points(seed, count):
    places, rng = scattered(seed, count, 0.7)
    values = rng.uniform(0.1, 1.0, count)
    found, known = interpolated(places, values)
    expected = scipys(places, values)
    inside = np.isfinite(expected)
    # Beside the hull corners are outside of the grid, and in thin triangles within a cell.
    assert known[inside].mean() > 0.7
    assert known[~inside].mean() < 0.001
    both = inside & known
    assert np.isclose(found[both], expected[both], atol=1e-5).mean() > 0.75


@given(seed=SEEDS, count=st.integers(50, 4000))
def test_it_is_as_good_as_scipys_however_close_the_points_are(seed, count):
    def surface(places):
        return np.sin(places[:, 0] / 9) + np.cos(places[:, 1] / 7)

    places, _ = scattered(seed, count)
    found, known = interpolated(places, surface(places))
    expected, truth = scipys(places, surface(places)), surface(CELLS).reshape(ROWS, COLUMNS)
    both = known & np.isfinite(expected)
    missed, of_scipy = (np.abs(one - truth)[both].mean() for one in (found, expected))
    assert missed < 1.15 * of_scipy


@given(seed=SEEDS, count=st.integers(1, 500), spread=st.floats(0, 3))
def test_it_stays_within_the_range_of_the_points(seed, count, spread):
    places, rng = scattered(seed, count)
    values = np.exp(rng.normal(0, spread, count))
    found, known = interpolated(places, values)
    assert (found[known] >= values.min() * (1 - 1e-5)).all()
    assert (found[known] <= values.max() * (1 + 1e-5)).all()


def test_points_on_one_line_span_no_triangle():
    places = np.stack([np.full(20, 30.0), np.linspace(2.0, 90.0, 20)], axis=1)
    assert not interpolated(places, np.ones(20))[1].any()
