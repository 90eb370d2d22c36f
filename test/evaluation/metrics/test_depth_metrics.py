# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Metrics against their formulas, planted errors and identities of the accumulation."""

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marigold_ros.errors import InputError
from marigold_ros.evaluation import depth_metrics
from marigold_ros.evaluation.metrics.depth_metrics import MetricAccumulator, PooledQuantiles
from marigold_ros.evaluation.metrics.metric_table import METRICS
import numpy as np
import pytest
from scipy import stats

depths = st.floats(0.25, 90.0, width=32)
images = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=depths)


def as_published(p, g):
    """Each metric of the published sets, written down on its own."""
    p, g = (np.asarray(x, np.longdouble).ravel() for x in (p, g))
    n = len(g)
    d = np.log(p) - np.log(g)
    worst = np.max([p / g, g / p], axis=0)
    marigold = {
        'abs_relative_difference': np.sum(np.abs(p - g) / g) / n,
        'squared_relative_difference': np.sum(np.abs(p - g) ** 2 / g) / n,
        'rmse_linear': np.sqrt(np.sum((p - g) ** 2) / n),
        'rmse_log': np.sqrt(np.sum(d**2) / n),
        'log10': np.mean(np.abs(np.log10(p) - np.log10(g))),
        'delta1_acc': np.sum(worst < 1.25) / n,
        'delta2_acc': np.sum(worst < 1.25**2) / n,
        'delta3_acc': np.sum(worst < 1.25**3) / n,
        'i_rmse': np.sqrt(np.sum((1 / p - 1 / g) ** 2) / n),
        'silog_rmse': 100 * np.sqrt(max(np.sum(d**2) / n - np.sum(d) ** 2 / n**2, 0)),
    }
    # The KITTI benchmark's set, in metres and 1/m here, where it has mm and 1/km.
    kitti = {
        'rmse': np.sqrt(np.mean((p - g) ** 2)),
        'mae': np.mean(np.abs(p - g)),
        'i_rmse': np.sqrt(np.mean((1 / p - 1 / g) ** 2)),
        'i_mae': np.mean(np.abs(1 / p - 1 / g)),
        'abs_rel': np.mean(np.abs(p - g) / g),
        # The scale-invariant logarithmic error as Eigen et al. write it: over all pairs.
        'silog': 100 * np.sqrt(np.sum((d[:, None] - d[None, :]) ** 2) / (2 * n**2)),
    }
    ours = {
        'bias': np.mean(p - g),
        'p50_abs_error': stats.scoreatpercentile(np.abs(p - g).astype(float), 50),
        'p95_abs_error': stats.scoreatpercentile(np.abs(p - g).astype(float), 95),
    }
    return marigold, kitti | ours


NAMES = {
    'abs_relative_difference': 'abs_rel',
    'squared_relative_difference': 'sq_rel',
    'rmse_linear': 'rmse',
    'delta1_acc': 'delta1',
    'delta2_acc': 'delta2',
    'delta3_acc': 'delta3',
    'silog_rmse': 'silog',
}


@given(images, st.integers(0, 2**32 - 1), st.floats(0.2, 5.0))
def test_metrics_equal_their_published_formulas_to_a_millionth(truth, seed, factor):
    spread = np.random.default_rng(seed).uniform(0.5, 2.0, truth.shape)
    predicted = (truth * spread * factor).astype(np.float32)
    scores = depth_metrics(predicted, truth)
    marigold, rest = as_published(predicted, truth)
    expected = {NAMES.get(name, name): value for name, value in marigold.items()}
    assert {*expected, *rest, 'coverage'} == set(METRICS)
    for name, value in (*expected.items(), *rest.items()):
        assert scores[name] == pytest.approx(float(value), rel=1e-6, abs=1e-6), name
    assert scores['n'] == truth.size


@given(images, st.floats(0.2, 5.0))
def test_a_multiple_of_the_truth_has_no_scale_invariant_error(truth, factor):
    accumulator, truth = MetricAccumulator(), truth.astype(float)
    # Sums over points lose half of the digits.
    assert accumulator.add(factor * truth, truth)['silog'] == pytest.approx(0, abs=1e-9)
    assert accumulator.micro()['silog'] == pytest.approx(0, abs=1e-4)


def test_deltas_count_ratios_strictly_below_their_thresholds():
    scores = depth_metrics(np.array([1.25, 1.0]), np.array([1.0, 1.25]))
    assert (scores['delta1'], scores['delta2']) == (0, 1)


def test_missing_truth_is_not_scored_missing_depth_is_coverage():
    truth = np.array([1.0, 2.0, np.nan, np.inf, 0.0, -1.0, 4.0, 8.0])
    predicted = np.array([2.0, np.nan, 9.0, 9.0, 9.0, 9.0, 4.0, 8.0])
    valid = np.array([True] * 7 + [False])
    scores = depth_metrics(predicted, truth, valid)
    assert (scores['n'], scores['coverage']) == (2, pytest.approx(2 / 3))
    assert scores['abs_rel'] == pytest.approx(0.5)


def test_a_substitute_for_missing_depth_is_scored_and_lowers_coverage():
    truth, predicted = np.array([1.0, 2.0, np.nan, 4.0]), np.array([2.0, 2.0, 9.0, 4.0])
    published = np.array([False, True, True, True])
    scores = depth_metrics(predicted, truth, published=published)
    assert (scores['n'], scores['coverage']) == (3, pytest.approx(2 / 3))
    assert scores['abs_rel'] == pytest.approx(1 / 3)
    accumulator = MetricAccumulator()
    assert accumulator.add(predicted, truth, published) == scores
    assert accumulator.add(predicted, truth)['coverage'] == 1
    for pooled in (accumulator.macro(), accumulator.micro()):
        assert pooled['coverage'] == pytest.approx(5 / 6)


def test_without_scored_pixels_everything_is_nan():
    scores = depth_metrics(np.full(3, np.nan), np.ones(3))
    assert scores['n'] == 0
    assert scores['coverage'] == 0
    assert all(math.isnan(scores[name]) for name in METRICS if name != 'coverage')


def test_a_prediction_of_zero_is_wrong_but_finite():
    scores = depth_metrics(np.zeros(2), np.ones(2))
    assert scores['abs_rel'] == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite([scores[name] for name in METRICS]).all()


@pytest.mark.parametrize('name', ['predicted', 'valid', 'published'])
def test_shapes_that_differ_are_an_error_that_names_them(name):
    images = {'predicted': np.ones((3, 2)), 'truth': np.ones((3, 2)), name: np.ones((1, 2))}
    with pytest.raises(InputError, match=rf'{name} has shape \(1, 2\), truth \(3, 2\)'):
        depth_metrics(**images)


def test_masks_are_true_where_they_are_not_zero():
    depth, mask = np.ones(4), np.array([0, 1, 2, 255], np.uint8)
    assert depth_metrics(depth, depth, valid=mask)['n'] == 3
    assert depth_metrics(depth, depth, published=mask)['coverage'] == 0.75
    assert depth_metrics(depth, depth, published=mask.astype(float))['coverage'] == 0.75


def test_micro_pools_points_and_macro_averages_images():
    rng = np.random.default_rng(1)
    accumulator, per_image, pooled = MetricAccumulator(), [], []
    for size in (3, 40, 700):
        truth = rng.uniform(1, 50, size)
        predicted = truth * rng.uniform(0.6, 1.7, size)
        per_image.append(accumulator.add(predicted, truth))
        pooled.append((predicted, truth))
    all_points = depth_metrics(*(np.concatenate(part) for part in zip(*pooled, strict=True)))
    micro, macro = accumulator.micro(), accumulator.macro()
    for name in METRICS:
        # Pooled quantiles come from a histogram.
        exact = 3e-3 if name.endswith('abs_error') else 1e-6
        assert micro[name] == pytest.approx(all_points[name], rel=exact)
        assert macro[name] == pytest.approx(np.mean([scores[name] for scores in per_image]))
    summary = accumulator.summary()
    assert (summary['n_frames'], summary['n_points']) == (3, 743)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99), st.integers(1, 5))
def test_pooled_quantiles_are_within_three_thousandths(seed, share, parts):
    values = np.exp(np.random.default_rng(seed).normal(0, 2, (parts, 400)))
    pooled = PooledQuantiles()
    for part in values:
        pooled.add(part)
    inverted = np.quantile(values, share, method='inverted_cdf')
    assert pooled.at(share) == pytest.approx(inverted, rel=3e-3)


def test_pooled_quantiles_of_nothing_nil_and_too_much():
    pooled = PooledQuantiles()
    assert math.isnan(pooled.at(0.5))
    pooled.add(np.array([0.0, 0.0, 1e9]))
    assert (pooled.at(0.5), pooled.at(0.9)) == (0.0, 1000.0)


def test_an_image_without_points_changes_nothing():
    accumulator = MetricAccumulator()
    accumulator.add(np.full(4, np.nan), np.ones(4))
    assert accumulator.n_frames == 0
    assert math.isnan(accumulator.median_abs_rel())
    assert math.isnan(accumulator.macro()['abs_rel'])
    accumulator.add(np.ones(4), np.ones(4))
    assert accumulator.median_abs_rel() == 0
