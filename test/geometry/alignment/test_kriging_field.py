# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The kriging field: exact without residuals, bounded, cut at edges, robust to outliers."""

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.kriging_field import fit_correction_field, grid_shape, krige
from marigold_ros.geometry.alignment.local_field import checkerboard_fold
from marigold_ros.kernels.bilinear import sample_grid
from marigold_ros.kernels.cells import representatives
import numpy as np
import pytest

CONFIG = AlignmentConfig(method='local')
SHAPE = (240, 320)
GRID = grid_shape(SHAPE)


def points(seed=0, n=300):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 320, n), rng.integers(0, 240, n), rng


def field_of(u, v, residual, log_depth=0.0, config=CONFIG):
    """Return the field of a map of some log depth."""
    relative = np.broadcast_to(np.float32(log_depth), SHAPE)
    sparse = SparseDepth(u, v, np.ones(len(u), np.float32))
    prediction = Prediction(relative, None, 'log')
    return fit_correction_field(prediction, sparse, residual, (1.0, 0.0), config)


@given(seed=st.integers(0, 1000), n=st.integers(1, 3000))
def test_without_residuals_the_field_is_exactly_one(seed, n):
    u, v, rng = points(seed, n)
    local = field_of(u, v, np.zeros(n), rng.normal(size=SHAPE))
    assert (local.field == 1).all()
    assert (local.held_out == 0).all()


@given(seed=st.integers(0, 1000), limit=st.floats(1.0, 2.0), size=st.floats(0.05, 1.0))
def test_the_field_stays_within_its_limit(seed, limit, size):
    u, v, rng = points(seed, 200)
    config = AlignmentConfig(method='local', field_limit=limit)
    residual = size * rng.normal(size=200)
    local = field_of(u, v, residual, config=config)
    assert local.field.shape == GRID
    assert np.isfinite(local.field).all()
    assert 1 / limit - 1e-6 <= local.field.min() <= local.field.max() <= limit + 1e-6


def test_a_step_in_the_map_keeps_an_error_on_its_side():
    u, v, _ = points(1)
    near = u < 160
    residual = np.where(near, 0.1, -0.1)
    local = field_of(u, v, residual, np.where(np.arange(320) < 160, 0.0, 1.5))
    middle = np.log(local.field[:, GRID[1] // 2 - 1 : GRID[1] // 2 + 1])
    assert np.median(middle[:, 0]) == pytest.approx(0.1, abs=0.02)
    assert np.median(middle[:, 1]) == pytest.approx(-0.1, abs=0.02)


def test_outliers_are_left_out_and_reported():
    u, v, rng = points(2)
    residual = 0.1 + 0.01 * rng.normal(size=300)
    wrong = rng.random(300) < 0.15
    residual[wrong] = rng.choice([-1.0, 1.0], wrong.sum())
    local = field_of(u, v, residual)
    assert not local.used[wrong].any()
    inner = local.field[20:-20, 20:-20]
    np.testing.assert_allclose(np.log(inner), 0.1, atol=0.04)


def test_points_that_are_not_finite_give_no_field():
    u, v, _ = points(3, 50)
    nothing = field_of(u, v, np.full(50, np.nan))
    assert nothing.field is None
    assert not nothing.used.any()


@given(seed=st.integers(0, 1000), n=st.integers(1, 5000), most=st.integers(10, 300))
def test_representatives_are_few_different_and_spread(seed, n, most):
    u, v, rng = points(seed, n)
    chosen = representatives(u, v, rng.normal(size=n), most)
    assert 1 <= len(chosen) <= most
    assert len(np.unique(chosen)) == len(chosen)
    if n > 10 * most and most > 50:
        assert len(chosen) > most / 2
        assert np.ptp(u[chosen]) > 200


@given(seed=st.integers(0, 1000), offset=st.floats(-5, 5))
def test_each_representative_has_the_median_value_of_its_cell(seed, offset):
    rng = np.random.default_rng(seed)
    corner = np.append(np.arange(5), rng.integers(0, 5, 200))
    u, v = np.array([0, 399, 0, 399, 200])[corner], np.array([0, 0, 399, 399, 200])[corner]
    values = offset + rng.choice(rng.normal(size=150), len(corner))  # some are equal
    chosen = representatives(u, v, values, 5)
    assert sorted(corner[chosen]) == [0, 1, 2, 3, 4]
    for index in chosen:
        inside = np.sort(values[corner == corner[index]])
        assert values[index] == inside[(len(inside) - 1) // 2]


def covariance(x, y, guide, reach, trust):
    """Kernel and noise, written down anew in double precision."""
    apart = [np.abs(a[:, None] - a) for a in (x, y, guide)]
    place = 1.0
    for side in apart[:2]:
        place = place * (1 + 3**0.5 * side / reach) * np.exp(-(3**0.5) * side / reach)
    local = place * np.exp(-((apart[2] / 0.5) ** 2) / 2)
    kernel = local + np.exp(-((apart[2] / 0.7) ** 2) / 2)
    return kernel, kernel + np.diag(0.2**2 / trust.astype(np.float64))


@given(seed=st.integers(0, 1000), share=st.floats(0.0, 1.0))
def test_leaving_out_is_as_if_the_points_had_never_been_there(seed, share):
    rng = np.random.default_rng(seed)
    x, y, guide = rng.random((3, 60))
    values = 0.1 * np.sin(6 * x) + 0.01 * rng.normal(size=60)
    process = krige(x, y, guide, values, 0.15)
    group = rng.random(60) < share
    kernel, every = covariance(x, y, guide, 0.15, np.maximum(process.trust, 1e-3))
    weights = process.without(group)
    assert (weights[group] == 0).all()
    # A real fit of the others.
    anew = np.linalg.solve(every[np.ix_(~group, ~group)], values[~group])
    predicted = kernel[:, ~group] @ anew
    np.testing.assert_allclose(kernel @ weights, predicted, atol=1e-3)


def test_each_points_own_residual_is_that_of_a_group_of_one():
    rng = np.random.default_rng(4)
    x, y, guide = rng.random((3, 40))
    values = 0.1 * np.sin(6 * x)
    process = krige(x, y, guide, values, 0.15)
    kernel, _ = covariance(x, y, guide, 0.15, process.trust)
    for one in (0, 7, 39):
        residual = values[one] - kernel[one] @ process.without(np.arange(40) == one)
        assert residual == pytest.approx(process.each_left_out()[one], abs=1e-4)


@pytest.mark.parametrize('n', [150, 2000])
@pytest.mark.parametrize('size', [0.1, 0.6])
def test_held_out_residuals_are_those_of_a_second_fit(n, size):
    # Of 150 points all are in the process, of 2000 some stand for all; 0.6 is for the levels.
    rng = np.random.default_rng(5)
    pixel = rng.choice(240 * 320, n, replace=False)
    u, v = pixel % 320, pixel // 320
    residual = size * np.sin(u / 50) * np.cos(v / 40) + 0.01 * rng.normal(size=n)
    local = field_of(u, v, residual)
    fold = checkerboard_fold(u, v, SHAPE)
    for scored in (fold, ~fold):
        known = ~scored
        part = field_of(u[known], v[known], residual[known])
        anew = residual[scored] - sample_grid(np.log(part.field), u[scored], v[scored], SHAPE)
        assert np.median(np.abs(local.held_out[scored] - anew)) < 0.1 * size
        ratio = np.median(np.abs(local.held_out[scored])) / np.median(np.abs(anew))
        assert 0.7 < ratio < 1.4


def test_points_in_one_tile_are_scored_by_the_fit_alone():
    u, v = np.full(12, 20), np.arange(12) + 30
    residual = np.full(12, 0.1)
    local = field_of(u, v, residual)
    np.testing.assert_allclose(local.held_out, residual, atol=1e-6)


@pytest.mark.parametrize('side', [False, True])
def test_points_that_are_all_in_one_fold_are_predicted_by_none(side):
    u, v, rng = points(3)
    residual = 0.35 * rng.normal(size=300)
    prediction = Prediction(np.zeros(SHAPE, np.float32), None, 'log')
    sparse, fold = SparseDepth(u, v, np.ones(300, np.float32)), np.full(300, side)
    local = fit_correction_field(prediction, sparse, residual, (1.0, 0.0), CONFIG, fold)
    np.testing.assert_array_equal(local.held_out, residual)


@pytest.mark.parametrize('seed', [1, 3, 4])
def test_few_points_correct_a_smooth_error_that_single_ones_confirm(seed):
    u, v, _ = points(seed, 40)
    columns, rows = np.meshgrid(np.arange(320), np.arange(240))
    error = 0.1 * np.sin(np.pi * columns / 100 + seed) * np.cos(np.pi * rows / 100)
    field = field_of(u, v, error[v, u]).field
    corrected = np.log(cv2.resize(field, SHAPE[::-1]))
    assert np.abs(corrected - error).mean() < 0.65 * np.abs(error).mean()
