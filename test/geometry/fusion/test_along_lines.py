# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Pixels between neighbouring points of a line: exact on planes, none across a step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.fusion.along_lines import between_neighbours
import numpy as np

WIDTH = 1300  # of which 10 pixels may lie between points


def points_of(u, v, z):
    u, v, z = np.broadcast_arrays(u, v, np.asarray(z, np.float32))
    order = np.random.default_rng(0).permutation(len(u))
    return SparseDepth(u[order], v[order], z[order].astype(np.float32))


@given(seed=st.integers(0, 10**6))
def test_a_plane_goes_on_between_its_points(seed):
    rng = np.random.default_rng(seed)
    u = np.unique(rng.integers(0, 400, 120))
    disparity = 0.1 + rng.uniform(-1e-4, 1e-4) * u
    found = between_neighbours(points_of(u, 7, 1 / disparity), WIDTH)
    # All pixels of gaps that are short enough, each once, and no point's.
    gaps = [range(a + 1, b) for a, b in zip(u[:-1], u[1:], strict=True) if b - a <= 10]
    assert sorted(found.u) == [pixel for gap in gaps for pixel in gap]
    np.testing.assert_array_equal(found.v, 7)
    np.testing.assert_allclose(found.z, 1 / np.interp(found.u, u, disparity), rtol=1e-5)


def test_nothing_lies_between_two_surfaces_or_two_rows():
    u = np.array([10, 14, 18, 22])
    step = between_neighbours(points_of(u, 5, [4.0, 4.0, 4.3, 4.3]), WIDTH)
    assert sorted(step.u) == [11, 12, 13, 19, 20, 21]
    assert len(between_neighbours(points_of(u, [5, 6, 5, 6], 4.0), WIDTH)) == 2 * 7
    assert len(between_neighbours(points_of(u, [5, 6, 7, 8], 4.0), WIDTH)) == 0


def test_without_points_there_is_nothing_between():
    empty = np.empty(0, int)
    assert len(between_neighbours(points_of(empty, empty, empty), WIDTH)) == 0
