# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The nearest points are those that SciPy's tree finds."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.kernels.neighbours import nearest_neighbours
import numpy as np
import pytest
from scipy.spatial import cKDTree

PIXELS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=80)


def distances(points, places, near):
    """Return how far the found points (n, count) are from their places."""
    (u, v), (at_u, at_v) = points, places
    return np.hypot(u[near] - at_u[:, None], v[near] - at_v[:, None])


def expected(points, places, count):
    tree = cKDTree(np.stack(points, axis=1))
    return tree.query(np.stack(places, axis=1), np.arange(1, count + 1))[0]


@given(points=PIXELS, places=PIXELS, count=st.integers(1, 9))
def test_they_are_as_near_as_those_of_a_tree(points, places, count):
    points, places = (tuple(np.array(pixels).T) for pixels in (points, places))
    near = nearest_neighbours(points, places, count)
    assert near.shape == (len(places[0]), min(count, len(points[0])))
    assert all(len(set(row)) == len(row) for row in near.tolist())
    found = distances(points, places, near)
    np.testing.assert_allclose(found, expected(points, places, near.shape[1]), atol=1e-9)


@pytest.mark.parametrize('kind', ['lines', 'cluster'])
def test_they_are_found_in_scan_lines_and_around_a_lone_point(kind):
    rng = np.random.default_rng(0)
    if kind == 'lines':
        u, v = rng.integers(0, 1242, 5000), rng.choice(np.arange(130, 375, 4), 5000)
    else:
        u, v = np.append(rng.integers(0, 20, (2, 3000)), [[1200], [300]], axis=1)
    near = nearest_neighbours((u, v), (u, v), 9)
    found = distances((u, v), (u, v), near)
    np.testing.assert_allclose(found, expected((u, v), (u, v), 9), atol=1e-9)


def test_without_points_or_places_there_are_none():
    none, some = (np.zeros(0, int), np.zeros(0, int)), (np.arange(3), np.arange(3))
    assert nearest_neighbours(none, some, 4).shape == (3, 0)
    assert nearest_neighbours(some, none, 4).shape == (0, 3)
