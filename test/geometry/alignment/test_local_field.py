# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Levels of the local field: 1 far from points, close to a planted field near them."""

from dataclasses import replace

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry import align
from marigold_ros.geometry.alignment.local_field import (
    add_levels,
    COARSE_LEVELS,
    consistent_points,
    field_trust,
    FINE_LEVELS,
    median_gap,
    upsample_field,
)
import numpy as np
import pytest

CONFIG = AlignmentConfig(method='local')
SHAPE = (240, 320)


def fit_field(u, v, residual, shape, config):
    """Levels alone, grown from nothing, as a factor within the limit."""
    start, known = np.zeros((2, 2), np.float32), np.isfinite(residual)
    levels = COARSE_LEVELS + FINE_LEVELS
    total = add_levels(start, (u[known], v[known]), residual[known], shape, config, levels)
    bound = np.log(config.field_limit)
    return np.exp(np.clip(total, -bound, bound)).astype(np.float32)


def smooth(seed, deviation=0.15, cells=5):
    """Return a smooth log field of a stated deviation."""
    noise = np.random.default_rng(seed).normal(size=(cells, cells)).astype(np.float32)
    field = cv2.resize(noise, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    return deviation * (field - field.mean()) / field.std()


def distorted(seed, n=500, rows=None, noise=0.01, outliers=0.0):
    """Prediction, points and truth of a slanted scene under a planted smooth 15 % field."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:240, 0:320]
    truth = 3.0 + 10.0 * (1 - v / 240) + 3 * np.sin(u / 40)
    predicted = truth * np.exp(-smooth(seed))
    relative = ((predicted - 1) / 24).astype(np.float32)
    candidates = np.arange(240) if rows is None else np.linspace(20, 235, rows).astype(int)
    v, u = rng.choice(candidates, n), rng.integers(0, 320, n)
    z = truth[v, u] * (1 + noise * rng.normal(size=n))
    wrong = rng.random(n) < outliers
    z[wrong] = rng.uniform(0.5, 40, wrong.sum())
    return Prediction(relative), SparseDepth(u, v, z.astype(np.float32)), truth


def error(alignment, truth):
    return float(np.nanmean(np.abs(alignment.metric / truth - 1)))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('rows', [None, 16])
def test_planted_field_is_at_least_halved_by_500_points(seed, rows):
    prediction, sparse, truth = distorted(seed, rows=rows, outliers=0.1)
    plain = align(prediction, sparse, AlignmentConfig(method='global'))
    corrected = align(prediction, sparse, CONFIG)
    assert error(corrected, truth) < 0.5 * error(plain, truth)


@pytest.mark.parametrize('space', ['log', 'disparity'])
def test_the_field_helps_in_every_space(space):
    prediction, sparse, truth = distorted(0)
    predicted = 1 + 24 * prediction.relative
    relative = np.log(predicted) / 3.5 if space == 'log' else 1 / predicted
    prediction = Prediction(relative.astype(np.float32), space=space)
    plain = align(prediction, sparse, AlignmentConfig(method='global'))
    assert error(align(prediction, sparse, CONFIG), truth) < 0.5 * error(plain, truth)


@given(
    limit=st.floats(1.0, 2.0),
    size=st.floats(-0.49, 0.49),
    reach=st.floats(0.005, 0.5),
    seed=st.integers(0, 1000),
)
def test_field_stays_within_limit_and_residuals(limit, size, reach, seed):
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, 320, 100), rng.integers(0, 240, 100)
    config = AlignmentConfig(field_limit=limit, field_reach=reach)
    field = upsample_field(fit_field(u, v, np.full(100, size), SHAPE, config), SHAPE)
    assert field.shape == SHAPE
    assert 1 / limit - 1e-6 <= field.min()
    assert field.max() <= limit + 1e-6
    # Between the points finer levels may overshoot what coarser ones left over, but hardly.
    low, high = sorted((1.0, float(np.exp(size))))
    assert field.min() >= low * (1 - 0.02)
    assert field.max() <= high * (1 + 0.02)


def test_the_field_fades_to_one_far_from_the_points():
    config = AlignmentConfig(field_reach=0.02)
    u, v = np.full(50, 20), np.full(50, 20)
    field = upsample_field(fit_field(u, v, np.full(50, 0.3), SHAPE, config), SHAPE)
    assert field[20, 20] > 1.25
    np.testing.assert_allclose(field[150:, 150:], 1, atol=1e-3)
    assert (field[200:, 200:] == 1).all()


def test_many_points_outvote_a_single_outlier():
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, 320, 500), rng.integers(0, 240, 500)
    ratio = np.zeros(500)
    clean = fit_field(u, v, ratio, SHAPE, CONFIG)
    ratio[7] = 0.49
    ratio[~consistent_points(u, v, ratio)] = np.nan
    np.testing.assert_allclose(fit_field(u, v, ratio, SHAPE, CONFIG), clean, atol=0.01)


def test_held_out_residuals_are_as_large_as_the_error_elsewhere():
    prediction, sparse, truth = distorted(1, n=200)
    alignment = align(prediction, sparse, CONFIG)
    elsewhere = 1.4826 * np.nanmedian(np.abs(np.log(alignment.metric / truth)))
    assert 0.5 * elsewhere < alignment.spread_log < 3 * elsewhere


def test_trust_is_full_in_right_and_zero_in_wrong_corrections():
    rng = np.random.default_rng(0)
    wanted = 0.1 * rng.normal(size=400)
    assert field_trust(np.zeros(64), np.zeros(64)) == 1
    assert field_trust(wanted, 0.6 * wanted) == 1
    assert field_trust(wanted, 0.1 * rng.normal(size=400)) < 0.25
    assert field_trust(wanted, -wanted) == 0


def test_a_held_alignment_keeps_its_field():
    prediction, sparse, truth = distorted(2)
    last = align(prediction, sparse, CONFIG)
    held = align(prediction, None, CONFIG, previous=replace(last, metric=None))
    np.testing.assert_array_equal(held.metric, last.metric)
    # What was known of each point was of other points.
    assert (held.inlier, held.held_out, held.n_points) == (None, None, 0)


def test_wrong_regions_are_corrected_and_stray_points_ignored():
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, 320, 600), rng.integers(0, 240, 600)
    wrong = u < 100
    residual = np.where(wrong, np.log(2.5), 0.0) + 0.02 * rng.normal(size=600)
    stray = ~wrong & (rng.random(600) < 0.05)
    residual[stray] = rng.choice([-1.2, 1.2], stray.sum())
    kept = consistent_points(u, v, residual)
    inside = u < 90  # the border of the region is a matter of taste
    assert kept[inside].mean() > 0.95
    assert not kept[stray].any()
    assert kept[(u > 130) & ~stray].all()
    config = AlignmentConfig(field_limit=3.0)
    field = upsample_field(fit_field(u, v, np.where(kept, residual, np.nan), SHAPE, config), SHAPE)
    assert np.median(field[:, 10:60]) == pytest.approx(2.5, rel=0.05)
    assert np.median(field[:, 160:]) == pytest.approx(1.0, rel=0.02)


def test_few_points_beyond_the_limit_are_never_consistent():
    u = v = np.arange(6)
    assert not consistent_points(u, v, np.full(6, 0.9)).any()
    assert not consistent_points(u, v, np.full(6, np.nan)).any()


def test_gaps_among_points_are_those_of_their_own_region():
    u, v = (part.ravel() for part in np.meshgrid(range(0, 320, 8), range(0, 240, 8)))
    quarter = (u < 160) & (v < 120)
    whole = median_gap(u, v, (240, 320), among=True)
    part = median_gap(u[quarter], v[quarter], (240, 320), among=True)
    assert part == pytest.approx(whole, rel=0.05)
    assert median_gap(u[quarter], v[quarter], (240, 320), among=False)[0] > 10 * part[0]
