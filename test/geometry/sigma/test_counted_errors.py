# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma: planted errors are covered, near and far, and sigma follows when they change."""

from dataclasses import replace

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry import align
from marigold_ros.geometry.alignment.affine_fit import fitted_depth
from marigold_ros.geometry.sigma.counted_errors import affine_variance, count_errors, sigma_map
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest

CONFIG = AlignmentConfig(method='local')
SHAPE = (240, 320)


def truth_of(seed):
    v, u = np.mgrid[0:240, 0:320]
    return 5.0 + 10.0 * (1 - v / 240) + 3 * np.sin(u / 40 + seed)


def frame(seed, noise=0.05, n=1500, columns=320, field=0.1):
    """Prediction wrong by a smooth field and by noise of every pixel; points; truth."""
    rng = np.random.default_rng(seed)
    truth = truth_of(seed)
    smooth = cv2.resize(rng.normal(size=(6, 8)), SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    wrong = np.exp(field * smooth + noise * rng.normal(size=SHAPE))
    relative = ((truth * wrong - 1) / 34).astype(np.float32)
    u, v = rng.integers(0, columns, n), rng.integers(0, 240, n)
    return Prediction(relative), SparseDepth(u, v, truth[v, u].astype(np.float32)), truth


def after(frames, config=CONFIG):
    """Errors, and last prediction, points, alignment and sigma, of some frames in turn."""
    errors = None
    for prediction, sparse, _ in frames:
        alignment = align(prediction, sparse, config)
        errors = count_errors(errors, prediction, sparse, alignment, config)
    return errors, alignment, sigma_map(errors, prediction, alignment, config, sparse)


@pytest.mark.parametrize('noise', [0.02, 0.1])
@pytest.mark.parametrize('method', ['local', 'global'])
def test_one_sigma_covers_two_thirds_of_all_pixels(method, noise):
    config = replace(CONFIG, method=method)
    frames = [frame(seed, noise) for seed in range(4)]
    _, alignment, sigma = after(frames, config)
    truth = frames[-1][2]
    wrong = np.abs(alignment.metric - truth)
    assert 0.60 < np.mean(wrong <= sigma) < 0.76
    assert np.mean(wrong <= 2 * sigma) > 0.85
    # Not on average only: the near and the far half are covered alike.
    for half in (truth < np.nanmedian(truth), truth >= np.nanmedian(truth)):
        assert 0.55 < np.mean((wrong <= sigma)[half]) < 0.82


def test_sigma_grows_away_from_the_points():
    _, _, sigma = after([frame(seed, 0.02, columns=160, field=0.2) for seed in range(3)])
    metric = after([frame(2, 0.02, columns=160, field=0.2)])[1].metric
    relative = sigma / metric
    assert np.nanmedian(relative[:, 260:]) > 1.5 * np.nanmedian(relative[:, :140])


def test_beside_points_of_the_ground_sigma_is_four_times_that_of_the_map_on_it():
    frames = [frame(seed, 0.02, columns=160, field=0.0) for seed in range(3)]
    kind = PointKind.GROUND
    _, alignment, sigma = after([(one[0], replace(one[1], kind=kind), None) for one in frames])
    relative = sigma / alignment.metric
    on_ground, beside = (np.nanmedian(part) for part in (relative[:, :140], relative[:, 260:]))
    assert beside == pytest.approx(4 * on_ground, rel=0.1)


def test_sigma_is_large_where_a_blurred_edge_makes_errors():
    def blurred(seed):
        prediction, sparse, truth = frame(seed, 0.01, n=6000, field=0.0)
        truth = np.where(np.arange(320) < 160, truth, 3.0 * truth)
        predicted = cv2.GaussianBlur(truth, (0, 0), 4.0)
        z = truth[sparse.v, sparse.u].astype(np.float32)
        return Prediction((predicted / 60).astype(np.float32)), replace(sparse, z=z), truth

    _, alignment, sigma = after([blurred(seed) for seed in range(3)])
    relative = sigma / alignment.metric
    assert np.nanmedian(relative[:, 155:165]) > 2.0 * np.nanmedian(relative[:, 40:100])


def test_sigma_follows_errors_that_get_worse_and_better():
    good = [frame(seed, 0.02) for seed in range(8)]
    rng, poor = np.random.default_rng(0), []
    for prediction, sparse, truth in good:  # errors of points, as those of maps have other cells
        z = sparse.z * np.exp(0.15 * rng.normal(size=len(sparse))).astype(np.float32)
        poor.append((prediction, replace(sparse, z=z), truth))
    level = {
        name: np.nanmedian(after(frames)[2])
        for name, frames in {
            'good': good,
            'worse': good + poor,
            'poor': poor,
            'better': poor + 2 * good,
        }.items()
    }
    assert level['worse'] > 0.7 * level['poor'] > 2 * level['good']
    assert level['better'] < 1.3 * level['good']


@settings(max_examples=10)
@given(factor=st.floats(0.5, 4.0), seed=st.integers(0, 5))
def test_sigma_scales_with_the_unit_of_the_points(factor, seed):
    prediction, sparse, _ = frame(seed)
    # No noise floor and no limits in metres, or the unit would matter.
    config = replace(CONFIG, noise_floor=0.0, min_depth=0.001, max_depth=10000.0)
    scaled = replace(sparse, z=(sparse.z * factor).astype(np.float32))
    one = after([(prediction, sparse, None)], config)[2]
    other = after([(prediction, scaled, None)], config)[2]
    ratio = other / (factor * one)
    assert np.nanmedian(np.abs(ratio - 1)) < 1e-3
    assert np.nanpercentile(np.abs(ratio - 1), 99) < 0.2  # a point on a cell's edge may change it


def test_sigma_is_reproducible_and_nan_with_its_depth():
    frames = [frame(seed) for seed in range(3)]
    (errors, alignment, sigma), (_, _, again) = after(frames), after(frames)
    np.testing.assert_array_equal(sigma, again)
    first, second, third = (after(frames[:n])[0].counts.sum() for n in (1, 2, 3))
    assert errors.counts.sum() == third > second > first
    metric = alignment.metric.copy()
    metric[50:60, 70:90] = np.nan
    holed = sigma_map(errors, frames[-1][0], replace(alignment, metric=metric), CONFIG)
    np.testing.assert_array_equal(np.isnan(holed), np.isnan(metric))
    assert (holed[np.isfinite(holed)] >= 0).all()


def test_ensemble_spread_moves_sigma_and_keeps_coverage():
    def spread(seed):
        """Errors of 2 % on the left and 12 % on the right, as the spread says."""
        rng = np.random.default_rng(seed)
        truth, level = truth_of(seed), np.where(np.arange(320) < 160, 0.02, 0.12)
        relative = truth * (1 + level * rng.normal(size=SHAPE)) / 34
        _, sparse, _ = frame(seed)
        z = truth[sparse.v, sparse.u].astype(np.float32)
        spread = (level * truth / 34).astype(np.float32)
        prediction = Prediction(relative.astype(np.float32), spread)
        return prediction, replace(sparse, z=z), truth

    frames = [spread(seed) for seed in range(3)]
    _, alignment, sigma = after(frames)
    relative = sigma / alignment.metric
    assert np.nanmedian(relative[:, 170:]) > 3 * np.nanmedian(relative[:, :150])
    wrong = np.abs(alignment.metric - frames[-1][2])
    assert 0.60 < np.mean(wrong <= sigma) < 0.78


def test_no_points_or_spread_give_no_sigma():
    prediction, sparse, _ = frame(0)
    fixed = align(prediction, None, replace(CONFIG, method='fixed', scale=24.0, shift=1.0))
    assert count_errors(None, prediction, None, fixed, CONFIG) is None
    assert sigma_map(None, prediction, fixed, CONFIG) is None
    errors, *_ = after([frame(0)])
    none = Alignment()
    assert count_errors(errors, prediction, sparse, none, CONFIG) is errors
    assert sigma_map(errors, prediction, none, CONFIG) is None


def test_without_points_sigma_of_a_metric_map_is_that_of_a_map_without_correction():
    _, sparse, truth = frame(0)
    prediction = Prediction(1.2 * truth.astype(np.float32), space='metric')
    errors, corrected, sigma = after([(prediction, sparse, truth)])
    assert np.median(sigma / corrected.metric) < 0.02
    alone = align(prediction, None, CONFIG)
    ratio = sigma_map(errors, prediction, alone, CONFIG) / alone.metric
    assert np.median(ratio) == pytest.approx(1 - 1 / 1.2, rel=0.1)


def test_a_few_points_that_agree_with_a_metric_map_prove_nothing_until_there_were_enough():
    metric = truth_of(0).astype(np.float32)
    prediction = Prediction(metric, space='metric')
    fit = Alignment('fitted', scale=1.0, shift=0.0, metric=metric, space='metric')
    few, errors, known = frame(0, n=8)[1], None, []
    for _ in range(3):
        errors = count_errors(errors, prediction, few, fit, CONFIG)
        known.append(sigma_map(errors, prediction, fit, CONFIG, few) is not None)
    assert known == [False, False, True]  # of 8, 15 and 22 points, 20 are needed
    stated = sigma_map(None, replace(prediction, relative_error=0.2), fit, CONFIG, few)
    np.testing.assert_allclose(stated, 0.2 * metric, rtol=1e-6)
    many = sigma_map(errors, replace(prediction, relative_error=0.2), fit, CONFIG, frame(0)[1])
    assert (many < 0.02 * metric).all()


@pytest.mark.parametrize('shape', [(1, 800), (2, 1600), (1600, 2)])
def test_sigma_of_an_image_of_a_few_rows_or_columns_is_that_of_its_errors(shape):
    rng = np.random.default_rng(0)
    truth = np.linspace(5.0, 15.0, np.prod(shape)).reshape(shape)
    wrong = np.exp(0.055 * rng.normal(size=shape))
    v, u = (part.ravel() for part in np.mgrid[: shape[0], : shape[1]])
    prediction = Prediction((truth * wrong / 34).astype(np.float32))
    scene = prediction, SparseDepth(u, v, truth[v, u].astype(np.float32)), truth
    _, alignment, sigma = after([scene], replace(CONFIG, method='global'))
    assert np.median(sigma / alignment.metric) == pytest.approx(0.055, rel=0.1)


def test_a_held_fits_sigma_grows_with_its_age():
    errors, alignment, sigma = after([frame(seed) for seed in range(2)])
    prediction = frame(1)[0]
    held = [
        sigma_map(errors, prediction, replace(alignment, state='held', age_ns=age), CONFIG)
        for age in (0, 2 * 10**9)
    ]
    np.testing.assert_allclose(held[0], sigma, rtol=0.05)
    # In quadrature, by the setting's share of the depth in a second.
    growth = np.sqrt(held[1] ** 2 - held[0] ** 2) / alignment.metric
    np.testing.assert_allclose(growth, 2 * CONFIG.hold_growth, rtol=1e-2)


def test_affine_variance_is_that_of_repeated_fits():
    config = replace(CONFIG, method='global', noise_floor=0.5, noise_slope=0.001)
    rng = np.random.default_rng(0)
    # One place to a tile, so that they are independent, with two points of one error.
    v, u, beside = (part.ravel() for part in np.mgrid[6:240:24, 6:320:24, 0:2])
    u, scales, middles, predicted = u + beside, [], [], []
    truth = truth_of(0)
    relative = ((truth - 1) / 34).astype(np.float32)
    for _ in range(200):
        noise = np.repeat(0.3 * rng.normal(size=len(u) // 2), 2)
        z = (truth[v, u] + noise).astype(np.float32)
        prediction, sparse = Prediction(relative), SparseDepth(u, v, z)
        alignment = align(prediction, sparse, config)
        middle, at_middle, growth = affine_variance(prediction, alignment, sparse, config)
        predicted.append((at_middle * alignment.scale**2, growth * alignment.scale**2))
        scales.append(alignment.scale)
        middles.append(alignment.scale * middle + alignment.shift)
    predicted = np.mean(predicted, axis=0)
    assert predicted[0] == pytest.approx(np.var(middles), rel=0.4)
    assert predicted[1] == pytest.approx(np.var(scales), rel=0.4)


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_what_spread_and_fit_leave_open_is_carried_over_by_the_slope_of_depth(space):
    truth = truth_of(0)
    value = {'depth': truth, 'log': np.log(truth), 'disparity': 1 / truth}[space]
    relative = ((value - value.min()) / np.ptp(value)).astype(np.float32)
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, 320, 200), rng.integers(0, 240, 200)
    z = truth[v, u] * np.exp(0.1 * rng.normal(size=200))
    sparse = SparseDepth(u, v, z.astype(np.float32))
    spread = rng.uniform(0, 0.02, SHAPE).astype(np.float32)
    prediction = Prediction(relative, spread, space)
    fit = align(prediction, sparse, CONFIG)
    middle, at_middle, growth = affine_variance(prediction, fit, sparse, CONFIG)
    low, plain, high = (
        fitted_depth(relative.astype(float) + step, fit.scale, fit.shift, space, CONFIG)
        for step in (-1e-4, 0.0, 1e-4)
    )
    of_fit = np.sqrt(at_middle + growth * (relative - middle) ** 2)
    field = fit.metric / plain
    assert np.ptp(field) > 0.02
    expected = field * np.abs(high - low) / 2e-4 * np.hypot(spread, of_fit)
    found = sigma_map(None, prediction, fit, CONFIG, sparse)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
