# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The metric fit: planted scale and shift are recovered, and unreliable fits are refused."""

from dataclasses import replace
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import AlignmentError, ConfigurationError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry import align
from marigold_ros.geometry.alignment.affine_fit import fit_robustly
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.point_kinds import PointKind
from marigold_ros.settings import parameters
import numpy as np
import pytest

GLOBAL = AlignmentConfig(method='global')
SHAPE = (60, 80)
# Scale and shift that give 2 to 50 m over [0, 1].
PLANTED = {
    'depth': (48.0, 2.0),
    'log': (float(np.log(25.0)), float(np.log(2.0))),
    'disparity': (0.48, 0.02),
}
INVERSE = {'depth': lambda x: x, 'log': np.exp, 'disparity': lambda x: 1 / x}


def scene(space='depth', n=400, outliers=0.0, noise=0.0, seed=0, factor=1.0):
    """Return a prediction, sparse depth of it under the planted map, and the dense truth."""
    rng = np.random.default_rng(seed)
    relative = rng.uniform(0.02, 0.98, SHAPE).astype(np.float32)
    scale, shift = PLANTED[space]
    truth = factor * INVERSE[space](scale * relative.astype(np.float64) + shift)
    pixel = rng.choice(relative.size, n, replace=False)
    v, u = np.divmod(pixel, SHAPE[1])
    z = truth[v, u] * (1 + noise * rng.normal(size=n))
    wrong = rng.random(n) < outliers
    z[wrong] = rng.uniform(0.5, 95.0, wrong.sum())
    return Prediction(relative, space=space), SparseDepth(u, v, z.astype(np.float32)), truth


@pytest.mark.parametrize('space', PLANTED)
@given(seed=st.integers(0, 10**6), n=st.integers(30, 1000))
def test_fit_recovers_scale_and_shift_exactly_without_noise(space, seed, n):
    prediction, sparse, truth = scene(space, n, seed=seed)
    alignment = align(prediction, sparse, GLOBAL)
    assert alignment.state == 'fitted'
    np.testing.assert_allclose((alignment.scale, alignment.shift), PLANTED[space], rtol=1e-3)
    np.testing.assert_allclose(alignment.metric, truth, rtol=1e-3)
    assert alignment.rms < 0.01
    assert alignment.spread_log < 1e-3


@pytest.mark.parametrize('space', PLANTED)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.3))
def test_fit_recovers_depth_with_a_third_outliers_and_noise(space, seed, share):
    prediction, sparse, truth = scene(space, 500, share, 0.01, seed)
    alignment = align(prediction, sparse, GLOBAL)
    assert alignment.state == 'fitted'
    assert np.median(np.abs(alignment.metric / truth - 1)) < 0.01
    assert np.max(np.abs(alignment.metric / truth - 1)) < 0.06
    assert 0 <= alignment.n_inliers <= len(sparse) == alignment.n_points


@pytest.mark.parametrize('space', PLANTED)
@pytest.mark.parametrize('n', [8001, 40_000, 480 * 640])
def test_of_many_points_for_fusion_some_all_over_are_fitted_and_scored(space, n):
    rng = np.random.default_rng(n)
    v, u = np.divmod(np.sort(rng.choice(480 * 640, n, replace=False)), 640)
    relative = np.clip(np.add.outer(np.arange(480) / 960, np.arange(640) / 1280), 0.02, 0.98)
    scale, shift = PLANTED[space]
    z = INVERSE[space](scale * relative[v, u] + shift) * (1 + 0.01 * rng.normal(size=n))
    prediction = Prediction(relative.astype(np.float32), space=space)
    fit = align_map(prediction, SparseDepth(u, v, z.astype(np.float32)), AlignmentConfig())
    assert (fit.state, fit.n_points, len(fit.inlier)) == ('fitted', n, n)
    np.testing.assert_allclose((fit.scale, fit.shift), PLANTED[space], rtol=0.02)
    scored = np.flatnonzero(np.isfinite(fit.held_out))
    assert 4000 < len(scored) <= 8000
    tiles = np.bincount(v[scored] // 80 * 8 + u[scored] // 80)
    assert tiles.min() > 0.5 * tiles.max()
    assert len(np.unique(u[scored])) == 640
    np.testing.assert_allclose(fit.held_out[scored], 0.0, atol=0.08)


@pytest.mark.parametrize(
    ('method', 'clear', 'state'),
    [
        ('fused', 10, 'fitted'),
        ('fused', 9, 'none'),
        ('local', 19, 'none'),
        ('local', 20, 'fitted'),
    ],
)
def test_where_the_map_is_clipped_fusion_asks_for_half_of_the_points(method, clear, state):
    u, v = np.arange(0, 120, 4), np.full(30, 20)
    relative = np.full((40, 120), 1.0, np.float32)
    relative[:, : 4 * clear] = np.linspace(0.1, 0.9, 4 * clear)
    z = (20.0 * relative[v, u] + 2.0).astype(np.float32)
    config = AlignmentConfig(method=method)
    fit = align_map(Prediction(relative, space='depth'), SparseDepth(u, v, z), config)
    assert fit.state == state


def test_held_out_tiles_of_many_points_are_as_large_as_their_holes():
    v, u = np.mgrid[:240, :320]
    relative = np.clip(0.1 + v / 300 + 0.08 * np.sin(u / 8) * np.sin(v / 8), 0.02, 0.98)
    prediction = Prediction(relative.astype(np.float32), space='depth')
    depth = (2.0 + 48.0 * (0.1 + v / 300)).astype(np.float32)
    errors = []
    for seen in (np.ones(v.shape, bool), np.hypot((u % 160) - 80, (v % 120) - 60) > 45):
        sparse = SparseDepth(u[seen], v[seen], depth[seen])
        held_out = align_map(prediction, sparse, AlignmentConfig()).held_out
        errors.append(np.nanmedian(np.abs(held_out)))
    assert errors[1] > 2 * errors[0]


@given(seed=st.integers(0, 10**6))
def test_40_per_cent_one_sided_outliers_do_not_pull_the_fit(seed):
    prediction, sparse, truth = scene(n=400, noise=0.01, seed=seed)
    z = sparse.z.copy()
    z[:160] = np.random.default_rng(seed).uniform(60, 95, 160)
    alignment = align(prediction, replace(sparse, z=z), GLOBAL)
    assert np.median(np.abs(alignment.metric / truth - 1)) < 0.015
    assert not alignment.inlier[:160][z[:160] > 1.3 * truth[sparse.v, sparse.u][:160]].any()


@pytest.mark.parametrize('space', PLANTED)
@pytest.mark.parametrize('method', ['global', 'local'])
@given(factor=st.floats(0.3, 1.9))
def test_scaling_all_points_scales_the_metric(space, method, factor):
    # Without a noise floor nothing but the depth limits knows the unit.
    config = AlignmentConfig(method=method, noise_floor=0.0, min_depth=0.01)
    prediction, sparse, _ = scene(space, 300, 0.2, 0.02)
    z = np.minimum(sparse.z, np.float32(45))
    one = align(prediction, replace(sparse, z=z), config)
    other = align(prediction, replace(sparse, z=(factor * z).astype(np.float32)), config)
    both = np.isfinite(one.metric) & (one.metric < 45) & np.isfinite(other.metric)
    np.testing.assert_allclose(other.metric[both], factor * one.metric[both], rtol=2e-3)


def test_clipped_predictions_do_not_take_part():
    prediction, sparse, truth = scene()
    relative = np.clip((prediction.relative - 0.3) / 0.4, 0, 1)
    alignment = align(Prediction(relative), sparse, GLOBAL)
    inside = (relative > 0.01) & (relative < 0.99)
    np.testing.assert_allclose(alignment.metric[inside], truth[inside], rtol=1e-3)
    assert not alignment.inlier[~inside[sparse.v, sparse.u]].any()


def test_results_nearer_than_min_depth_and_not_finite_are_nan():
    prediction, sparse, _ = scene()
    prediction.relative[0, 0] = np.nan
    config = AlignmentConfig(method='fixed', scale=10.0, shift=-1.0, min_depth=0.5)
    metric = align(prediction, sparse, config).metric
    expected = 10 * prediction.relative - 1
    np.testing.assert_array_equal(np.isnan(metric), ~(expected >= 0.5))
    assert metric.dtype == np.float32


REFUSALS = {
    'too few points': (lambda p, s: (p, SparseDepth(s.u[:9], s.v[:9], s.z[:9])), 'few_points'),
    'one wall': (lambda p, s: (p, replace(s, z=np.full_like(s.z, 5.0))), 'one_depth'),
    'constant': (lambda p, s: (replace(p, relative=np.full(SHAPE, 0.5)), s), 'constant_map'),
    'nearly constant': (
        lambda p, s: (replace(p, relative=0.5 + 1e-4 * p.relative), s),
        'constant_map',
    ),
    'all clipped': (lambda p, s: (replace(p, relative=np.ones(SHAPE)), s), 'few_points'),
    'all NaN': (lambda p, s: (replace(p, relative=np.full(SHAPE, np.nan)), s), 'few_points'),
    'anti-correlated': (
        lambda p, s: (replace(p, relative=1 - p.relative), s),
        'scale_not_positive',
    ),
    'no points': (lambda p, s: (p, None), 'no_sparse_depth'),
}


@pytest.mark.parametrize('case', REFUSALS)
def test_a_fit_that_cannot_be_trusted_is_refused_with_a_reason(case):
    change, code = REFUSALS[case]
    alignment = align(*change(*scene()[:2]), GLOBAL)
    assert alignment.state == 'none'
    assert alignment.metric is None
    assert (alignment.refusal.code, alignment.hold_refusal) == (code, None)


@pytest.mark.parametrize('space', PLANTED)
@given(seed=st.integers(0, 10**6))
def test_anti_correlated_points_are_refused_in_every_space(space, seed):
    prediction, sparse, _ = scene(space, 300, 0.1, 0.02, seed)
    opposite = replace(prediction, relative=1 - prediction.relative)
    assert align(opposite, sparse, GLOBAL).state == 'none'


@pytest.mark.parametrize('case', REFUSALS)
def test_a_refused_fit_holds_the_previous_one_while_it_is_young(case):
    prediction, sparse, truth = scene()
    last = replace(align(prediction, sparse, GLOBAL), age_ns=400_000_000)
    changed, points = REFUSALS[case][0](prediction, sparse)
    held = align(changed, points, GLOBAL, previous=last)
    assert (held.state, held.age_ns) == ('held', 400_000_000)
    assert (held.scale, held.shift) == (last.scale, last.shift)
    assert held.refusal.code == REFUSALS[case][1]
    if changed is prediction:
        np.testing.assert_allclose(held.metric, truth, rtol=1e-3)
    old = align(changed, points, GLOBAL, previous=replace(last, age_ns=1_100_000_000))
    assert old.state == 'none'
    assert old.refusal == held.refusal
    assert old.hold_refusal.values['age_s'] == 1.1


def test_a_fit_of_another_space_is_not_held():
    last = align(*scene('log')[:2], GLOBAL)
    assert align(scene('depth')[0], None, GLOBAL, previous=last).state == 'none'


def test_method_none_gives_no_metres():
    alignment = align(*scene()[:2], AlignmentConfig(method='none'))
    assert (alignment.state, alignment.metric) == ('none', None)


def test_method_fixed_needs_no_points_and_reports_residuals():
    prediction, sparse, truth = scene()
    config = AlignmentConfig(method='fixed', scale=48.0, shift=2.0)
    blind = align(prediction, None, config)
    assert blind.state == 'fitted'
    np.testing.assert_allclose(blind.metric, truth, rtol=1e-5)
    assert np.isnan(blind.spread_log)
    biased = align(prediction, replace(sparse, z=sparse.z * np.float32(1.2)), config)
    assert biased.spread_log == pytest.approx(1.4826 * np.log(1.2), rel=1e-3)


@pytest.mark.parametrize('space', PLANTED)
def test_method_fixed_takes_the_ends_of_its_numbers(space):
    prediction, sparse, _ = scene(space)
    ends = {p.name: (p.low, p.high) for p in parameters(AlignmentConfig)}
    for scale, shift in product(ends['scale'], ends['shift']):
        config = AlignmentConfig(method='fixed', scale=scale, shift=shift)
        metric = align(prediction, sparse, config).metric  # warnings are errors
        assert not np.isinf(metric).any()
    with pytest.raises(ConfigurationError, match='scale is 0'):
        AlignmentConfig(method='fixed', scale=0.0)


@pytest.mark.parametrize('method', ['global', 'local'])
def test_a_metric_prediction_is_left_as_it_is(method):
    _, sparse, truth = scene()
    prediction = Prediction(truth.astype(np.float32), space='metric')
    alignment = align(prediction, sparse, AlignmentConfig(method=method))
    np.testing.assert_array_equal(alignment.metric, prediction.relative)
    assert (alignment.state, alignment.scale, alignment.shift) == ('fitted', 1.0, 0.0)
    assert align(prediction, None, AlignmentConfig(method=method)).state == 'fitted'


@pytest.mark.parametrize('method', ['global', 'fused'])
def test_a_few_points_that_agree_do_not_change_the_error_that_a_metric_model_states(method):
    _, sparse, truth = scene()
    config, relative = AlignmentConfig(method=method), truth.astype(np.float32)
    few = sparse.chosen(np.arange(2))
    stated = align(Prediction(relative, space='metric', relative_error=0.1), few, config)
    assert stated.state == 'fitted'
    assert stated.spread_log == 0.1
    if method == 'fused':
        np.testing.assert_allclose(stated.sigma, 0.1 * stated.metric, rtol=1e-6)
    unknown = align(Prediction(relative, space='metric'), few, config)
    assert np.isnan(unknown.spread_log)
    assert unknown.sigma is None


@pytest.mark.parametrize('method', ['global', 'local', 'fused'])
def test_a_metric_prediction_that_a_few_points_contradict_is_refused(method):
    _, sparse, truth = scene()
    config = AlignmentConfig(method=method)
    few = sparse.chosen(np.arange(0, len(sparse), len(sparse) // 8)[:8])
    far = Prediction(3.0 * truth.astype(np.float32), space='metric', relative_error=0.1)
    refused = align(far, few, config)
    assert refused.state == 'none'
    assert '0 of 8 points agree with the metric prediction, 40% are' in str(refused.refusal)
    assert refused.metric is None
    radar = replace(few, kind=PointKind.RADAR)  # whose pixels are not known
    assert align(far, radar, config).state == 'fitted'
    assert align(far, few.chosen(np.arange(4)), config).state == 'fitted'
    right = replace(far, relative=truth.astype(np.float32))
    assert align(right, few, config).state == 'fitted'


def test_points_outside_the_prediction_are_an_error():
    prediction, sparse, _ = scene()
    with pytest.raises(AlignmentError, match='80x60'):
        align(prediction, replace(sparse, u=sparse.u + 1000), GLOBAL)


def test_arguments_are_not_changed():
    prediction, sparse, _ = scene()
    before = prediction.relative.copy(), sparse.z.copy()
    align(prediction, sparse, AlignmentConfig())
    np.testing.assert_array_equal(prediction.relative, before[0])
    np.testing.assert_array_equal(sparse.z, before[1])


@given(seed=st.integers(0, 10**6), n=st.integers(3, 300))
def test_no_rounds_give_weighted_least_squares(seed, n):
    rng = np.random.default_rng(seed)
    x, y, sigma = rng.random(n), rng.normal(size=n), rng.uniform(0.5, 2, n)
    fit = fit_robustly(x, y, sigma, rounds=0)
    A = np.stack([x, np.ones(n)], axis=1) / sigma[:, None]
    expected = np.linalg.lstsq(A, y / sigma, rcond=None)[0]
    np.testing.assert_allclose((fit.scale, fit.shift), expected, rtol=1e-5, atol=1e-6)
    assert fit.condition == pytest.approx(np.linalg.cond(A.T @ A), rel=1e-4)
