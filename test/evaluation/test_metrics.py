# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Metrics against their formulas, planted errors and identities of the accumulation."""

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marigold_ros.evaluation import depth_metrics
from marigold_ros.evaluation.metrics import MetricAccumulator, METRICS
import numpy as np
import pytest

depths = st.floats(0.25, 90.0, width=32)
images = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=depths)


def by_formula(p, g):
    """Each metric written down on its own, in loops."""
    pairs = [(float(a), float(b)) for a, b in zip(p.ravel(), g.ravel(), strict=True)]
    n = len(pairs)
    d = [math.log(a) - math.log(b) for a, b in pairs]
    mean_d = sum(d) / n
    worst = [max(a / b, b / a) for a, b in pairs]
    return {
        'abs_rel': sum(abs(a - b) / b for a, b in pairs) / n,
        'sq_rel': sum((a - b) ** 2 / b for a, b in pairs) / n,
        'rmse': math.sqrt(sum((a - b) ** 2 for a, b in pairs) / n),
        'rmse_log': math.sqrt(sum(x * x for x in d) / n),
        'mae': sum(abs(a - b) for a, b in pairs) / n,
        'log10': sum(abs(math.log10(a) - math.log10(b)) for a, b in pairs) / n,
        # Written as the variance of d about its mean: another form of the same number.
        'silog': 100.0 * math.sqrt(sum((x - mean_d) ** 2 for x in d) / n),
        'delta1': sum(w < 1.25 for w in worst) / n,
        'delta2': sum(w < 1.25**2 for w in worst) / n,
        'delta3': sum(w < 1.25**3 for w in worst) / n,
        'i_rmse': math.sqrt(sum((1 / a - 1 / b) ** 2 for a, b in pairs) / n),
    }


@given(images, st.integers(0, 2**32 - 1))
def test_metrics_equal_their_formulas(truth, seed):
    predicted = truth * np.random.default_rng(seed).uniform(0.5, 2.0, truth.shape)
    scores = depth_metrics(predicted, truth)
    for name, value in by_formula(predicted, truth).items():
        assert scores[name] == pytest.approx(value, rel=1e-6, abs=1e-5), name
    assert scores['n'] == truth.size


@given(images)
def test_a_perfect_prediction_has_no_error(truth):
    scores = depth_metrics(truth, truth)
    assert all(scores[name] == 0 for name in METRICS if not name.startswith('delta'))
    assert scores['delta1'] == scores['delta3'] == scores['coverage'] == 1


@given(images)
def test_ten_per_cent_too_far_is_an_abs_rel_of_a_tenth_and_no_silog(truth):
    scores = depth_metrics(1.1 * truth.astype(np.float64), truth)
    assert scores['abs_rel'] == pytest.approx(0.1, abs=1e-12)
    assert scores['silog'] == pytest.approx(0.0, abs=1e-4)
    assert scores['rmse_log'] == pytest.approx(math.log(1.1), abs=1e-9)


def test_pixels_without_truth_are_not_scored_and_missing_predictions_lower_coverage():
    truth = np.array([1.0, 2.0, np.nan, np.inf, 0.0, -1.0, 4.0, 8.0])
    predicted = np.array([2.0, np.nan, 9.0, 9.0, 9.0, 9.0, 4.0, 8.0])
    valid = np.array([True] * 7 + [False])
    scores = depth_metrics(predicted, truth, valid)
    assert (scores['n'], scores['coverage']) == (2, pytest.approx(2 / 3))
    assert scores['abs_rel'] == pytest.approx(0.5)


def test_without_scored_pixels_everything_is_nan():
    scores = depth_metrics(np.full(3, np.nan), np.ones(3))
    assert scores['n'] == 0
    assert scores['coverage'] == 0
    assert all(math.isnan(scores[name]) for name in METRICS)


def test_a_prediction_of_zero_is_wrong_but_finite():
    scores = depth_metrics(np.zeros(2), np.ones(2))
    assert scores['abs_rel'] == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite([scores[name] for name in METRICS]).all()


def test_shapes_that_differ_are_an_error_that_names_them():
    with pytest.raises(ValueError, match=r'\(2,\).*\(3,\)'):
        depth_metrics(np.ones(2), np.ones(3))


def test_micro_is_the_metric_of_all_points_at_once_and_macro_the_mean_of_images():
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
        assert micro[name] == pytest.approx(all_points[name])
        assert macro[name] == pytest.approx(np.mean([scores[name] for scores in per_image]))
    assert (accumulator.n_frames, accumulator.n_points) == (3, 743)


def test_pooled_median_is_the_median_of_all_points():
    rng = np.random.default_rng(2)
    accumulator, errors = MetricAccumulator(), []
    for _ in range(5):
        truth = rng.uniform(1, 50, 999)
        predicted = truth * np.exp(rng.normal(0, 0.2, 999))
        accumulator.add(predicted, truth)
        errors.append(np.abs(predicted - truth) / truth)
    assert accumulator.median_abs_rel() == pytest.approx(
        np.median(np.concatenate(errors)), rel=0.004
    )


def test_an_image_without_points_changes_nothing():
    accumulator = MetricAccumulator()
    accumulator.add(np.full(4, np.nan), np.ones(4))
    assert accumulator.n_frames == 0
    assert math.isnan(accumulator.median_abs_rel())
    assert math.isnan(accumulator.macro()['abs_rel'])
    accumulator.add(np.ones(4), np.ones(4))
    assert accumulator.median_abs_rel() == 0
