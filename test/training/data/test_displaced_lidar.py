# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A simulated LiDAR beside the camera: a box before a wall, of which the answer is known."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from marigold_training.data.displaced_lidar import displaced, seen_from_beside, through_windows
import numpy as np
import pytest

HEIGHT, WIDTH, NEAR, FAR = 100, 120, 4.0, 40.0
TOP, BOTTOM, LEFT, RIGHT = 40, 80, 30, 90


@pytest.fixture(scope='module')
def scene():
    """Return depth of a box before a wall, metres."""
    depth = np.full((HEIGHT, WIDTH), FAR, np.float32)
    depth[TOP:BOTTOM, LEFT:RIGHT] = NEAR
    return depth


def rays():
    """Return pixels of rays everywhere but near the upper and lower border."""
    v, u = np.mgrid[10 : HEIGHT - 10, 0:WIDTH]
    return u.ravel(), v.ravel()


def test_a_lidar_in_place_of_the_camera_measures_what_the_camera_sees(scene):
    u, v = rays()
    columns, rows, z = displaced(scene, u, v, np.array((0.0, 1e-6)))
    np.testing.assert_allclose(z, scene[rows, columns], rtol=1e-5)
    # The occlusion test takes away the wall close to the box alone.
    assert set(zip(columns, rows, strict=True)) <= set(zip(u, v, strict=True))
    assert len(z) > 0.95 * len(u)


@given(displaced_by=st.floats(3.0, 9.0))
@example(displaced_by=3.5)
def test_a_lidar_above_sees_the_wall_behind_the_upper_edge_of_a_box(scene, displaced_by):
    u, v = np.full(HEIGHT, 60), np.arange(HEIGHT)
    columns, rows, z = displaced(scene, u, v, np.array((0.0, displaced_by * NEAR)))
    of_box = z < 10
    assert np.all(columns == 60)
    np.testing.assert_allclose(z, np.where(of_box, NEAR, FAR), rtol=1e-5)
    # Rays that hit the box: those of its own rows, displaced.
    assert of_box.sum() == pytest.approx(BOTTOM - TOP, abs=3)
    assert rows[of_box].min() == pytest.approx(TOP, abs=1)
    assert rows[of_box].max() == pytest.approx(BOTTOM - 1, abs=1)
    # The wall appears up to the difference of displacements below the edge, and nowhere else.
    behind = rows[~of_box & (rows > TOP + 1) & (rows < BOTTOM - 1)]
    reach = displaced_by * (1 - NEAR / FAR)
    assert np.all(behind <= TOP + reach + 1)


def test_dense_rays_lose_to_the_occlusion_test_what_few_lines_keep(scene):
    baseline = np.array((0.0, 12 * NEAR))

    def behind(step):
        v, u = np.mgrid[10 : HEIGHT - 10 : step, 40:80]
        columns, rows, z = displaced(scene, u.ravel(), v.ravel(), baseline)
        return np.mean(z > 1.5 * scene[rows, columns])

    assert behind(8) > 3 * behind(1)


@given(seed=st.integers(0, 10**6))
def test_points_are_in_the_image_at_depths_of_the_scene(scene, seed):
    u, v = rays()
    columns, rows, z = seen_from_beside(np.random.default_rng(seed), scene, u, v)
    assert len(np.unique(rows * WIDTH + columns)) == len(z)
    assert np.all((np.abs(z / NEAR - 1) < 1e-5) | (np.abs(z / FAR - 1) < 1e-5))
    assert np.isclose(z, scene[rows, columns]).mean() > 0.5


@given(seed=st.integers(0, 10**6))
def test_through_a_window_nothing_is_nearer(seed):
    u, v = rays()
    z = np.full(len(u), NEAR)
    seen = through_windows(np.random.default_rng(seed), z, u, v, (HEIGHT, WIDTH))
    assert np.all(z == NEAR)
    assert np.all(np.isnan(seen) | (seen >= NEAR))
