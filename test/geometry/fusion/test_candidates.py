# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The candidates of fusion: exact on planes, free of scale, finite for any points and image."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.local_field import checkerboard_fold
from marigold_ros.geometry.fusion.candidates import point_candidates, points_on_grid
from marigold_ros.geometry.fusion.work_grid import CELLS, work_grid
import numpy as np
import pytest

SHAPE = (120, 160)
SEEDS = st.integers(0, 10_000)
NAMES = ('linear', 'smooth', 'nearest', 'low', 'high')


def scattered(seed, count, shape=SHAPE):
    """Draw distinct pixels."""
    rng = np.random.default_rng(seed)
    v, u = np.divmod(rng.choice(shape[0] * shape[1], count, replace=False), shape[1])
    return u, v, rng


def candidates_of(u, v, z, rgb=None, shape=SHAPE, fold=None):
    sparse = SparseDepth(u, v, np.asarray(z, np.float32))
    fold = checkerboard_fold(u, v, shape) if fold is None else fold
    return point_candidates(points_on_grid(sparse, fold, work_grid(shape)), rgb)


def noise_image(rng, shape=SHAPE):
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def box_scene():
    """Return an image and depth of a near bright box in front of a far dark wall."""
    depth = np.full(SHAPE, 8.0)
    rgb = np.full((*SHAPE, 3), 50, np.uint8)
    depth[20:80, 30:110] = 3.0
    rgb[20:80, 30:110] = 210
    return rgb, depth


def truth_on_grid(depth, grid):
    v = ((np.arange(grid.rows) + 0.5) * grid.shape[0] / grid.rows).astype(int)
    u = ((np.arange(grid.columns) + 0.5) * grid.shape[1] / grid.columns).astype(int)
    return np.log(depth[np.ix_(v, u)])


def assert_valid(found):
    shape = (found.grid.rows, found.grid.columns)
    for name in NAMES:
        candidate = getattr(found, name)
        assert candidate.shape == shape
        assert candidate.dtype == np.float32
        assert np.isfinite(candidate).all()
    assert (found.low <= found.linear).all()
    assert (found.linear <= found.high).all()
    assert (found.low <= found.nearest).all()
    assert (found.nearest <= found.high).all()


@given(seed=SEEDS, count=st.integers(1, 3000), image=st.booleans(), noise=st.floats(0, 2))
def test_candidates_are_finite_and_in_order_for_any_points_and_image(seed, count, image, noise):
    u, v, rng = scattered(seed, count)
    rgb = noise_image(rng) if image else None
    assert_valid(candidates_of(u, v, np.exp(rng.normal(1, noise, count)), rgb))


@given(seed=SEEDS, count=st.integers(1, 2000), z=st.floats(0.1, 100))
@example(seed=0, count=1, z=49.87175433918508)  # a single point, all over the image
@example(seed=1, count=1, z=45.1015625)
def test_points_at_one_depth_give_that_depth_everywhere(seed, count, z):
    u, v, rng = scattered(seed, count)
    found = candidates_of(u, v, np.full(count, z), noise_image(rng))
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), np.log(z), atol=1e-5)
    held_out = found.held_out[np.isfinite(found.held_out)]
    np.testing.assert_allclose(held_out, 0, atol=1e-5)


@given(seed=SEEDS, count=st.integers(50, 1500))
def test_on_a_plane_linear_is_exact_and_smooth_close_inside(seed, count):
    u, v, rng = scattered(seed, count)
    a, b = rng.uniform(-1, 1, 2) / 200
    found = candidates_of(u, v, 10 / (2.5 + a * u + b * v), noise_image(rng))
    rows, columns = np.mgrid[0 : found.grid.rows, 0 : found.grid.columns] + 0.5
    x, y = columns * 160 / found.grid.columns - 0.5, rows * 120 / found.grid.rows - 0.5
    truth = np.log(10 / (2.5 + a * x + b * y))[found.inside]
    np.testing.assert_allclose(found.linear[found.inside], truth, atol=1e-5)
    assert np.abs(found.smooth[found.inside] - truth).mean() < 0.02


@settings(max_examples=min(20, settings().max_examples))
@given(seed=SEEDS, count=st.integers(100, 600))
def test_the_smooth_candidate_follows_the_edges_of_the_image(seed, count):
    rgb, depth = box_scene()
    u, v, _ = scattered(seed, count)
    found = candidates_of(u, v, depth[v, u], rgb)
    without = candidates_of(u, v, depth[v, u])
    truth = truth_on_grid(depth, found.grid)
    error = {
        'smooth': np.abs(found.smooth - truth).mean(),
        'linear': np.abs(found.linear - truth).mean(),
        'no image': np.abs(without.smooth - truth).mean(),
    }
    assert error['smooth'] < 0.7 * error['linear']
    assert error['smooth'] < 0.7 * error['no image']


@settings(max_examples=min(20, settings().max_examples))
@given(seed=SEEDS)
def test_held_out_points_err_little_on_a_plane_and_outliers_by_their_factor(seed):
    u, v, rng = scattered(seed, 1000)
    z = 10 / (2.5 + u / 200)
    z[0] *= 3.0
    held_out = candidates_of(u, v, z).held_out
    assert np.median(np.abs(held_out)) < 0.02
    assert held_out[0] == pytest.approx(np.log(3), abs=0.1)


def test_nothing_is_held_out_where_one_fold_has_all_points():
    u, v, rng = scattered(0, 50)
    for fold in (np.ones(50, bool), np.zeros(50, bool)):
        assert np.isnan(candidates_of(u, v, rng.uniform(1, 9, 50), fold=fold).held_out).all()


def test_held_out_points_do_not_depend_on_their_own_fold():
    u, v, rng = scattered(1, 400)
    z, fold = rng.uniform(1, 9, 400), rng.random(400) < 0.5
    changed = np.where(fold, 2 * z, z)
    plain, other = (candidates_of(u, v, depth, fold=fold).held_out for depth in (z, changed))
    np.testing.assert_allclose(other[fold], plain[fold] + np.log(2), atol=1e-6)


def test_the_border_is_held_out_on_the_sides_where_something_is_beyond():
    v, u = (part.ravel() for part in np.mgrid[40:120:4, 0:160:4])
    found = candidates_of(u, v, 10 / (2.5 + v / 200))
    assert 0.1 < found.border.mean() < 0.7
    assert v[found.border].max() < v[~found.border].max()
    assert found.border[v == 40].all()
    np.testing.assert_array_equal(np.isfinite(found.held_border), found.border)
    assert 1.0 <= found.farther <= 1.6


def test_the_closer_the_rows_the_farther_are_the_cells_beyond_than_the_border_is():
    farther = []
    for step in (40, 16, 8, 2):
        v, u = (part.ravel() for part in np.mgrid[39:120:step, 0:160:4])
        farther.append(candidates_of(u, v, np.full(len(u), 4.0)).farther)
    assert farther == sorted(farther)
    assert farther[0] < 1.3
    assert farther[-1] == 1.6


def test_points_at_the_border_are_compared_to_the_nearest_others():
    v, u = (part.ravel() for part in np.mgrid[40:120:4, 0:160:4])
    z = np.where(v < 50, 8.0, 4.0)
    found = candidates_of(u, v, z)
    top = found.border & (v == 40)
    np.testing.assert_allclose(np.abs(found.held_border[top]), np.log(2), atol=1e-5)


@given(seed=SEEDS, count=st.integers(3, 500))
def test_some_points_are_not_of_the_border(seed, count):
    u, v, rng = scattered(seed, count)
    found = candidates_of(u, v, rng.uniform(1, 9, count))
    assert found.border.mean() < 0.8


def test_points_all_over_the_image_have_no_border():
    v, u = (part.ravel() for part in np.indices(SHAPE))
    assert not candidates_of(u, v, np.full(len(u), 3.0)).border.any()


def test_the_smooth_candidate_reaches_as_far_on_a_finer_grid():
    shape, rng = (480, 640), np.random.default_rng(0)
    u, v = np.tile(np.arange(0, 640, 3), 40), np.repeat(np.arange(400, 480, 2), 214)
    z = np.where(u // 80 % 2 == 0, 3.0, 6.0).astype(np.float32)
    rgb = (120 + 10 * rng.standard_normal((*shape, 3))).astype(np.uint8)
    blended = []
    for cells in CELLS:
        grid = work_grid(shape, cells)
        points = points_on_grid(SparseDepth(u, v, z), checkerboard_fold(u, v, shape), grid)
        found = point_candidates(points, rgb)
        change = np.abs(found.smooth - found.linear)
        blended.append([change[int(part * grid.rows)].mean() for part in (0.1, 0.3, 0.5, 0.7)])
    np.testing.assert_allclose(blended[1], blended[0], rtol=0.05)
    assert min(blended[0]) > 0.2
