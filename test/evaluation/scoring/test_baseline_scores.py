# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Differences from the baselines are those of the frames that both were scored on."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation import depth_metrics
from marigold_ros.evaluation.baselines import BASELINE_TEXT, interpolate_nearest
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.scoring.baseline_scores import BaselineScores, paired_difference
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.camera.lidar_projection import sparse_from_depth
import numpy as np
import pytest

SIZE = (64, 48)
CONFIG = AlignmentConfig(min_points=20)


def some_points(rng, count):
    v, u = np.divmod(rng.choice(SIZE[0] * SIZE[1], count, replace=False), SIZE[0])
    return SparseDepth(u, v, rng.uniform(2, 40, count).astype(np.float32))


def planted(frames, fit=30):
    """Fit points, scored points and a prediction of each frame."""
    rng = np.random.default_rng(1)
    for _ in range(frames):
        score = some_points(rng, 50)
        yield some_points(rng, fit), score, score.z * rng.uniform(0.8, 1.2, 50)


def scored(parts):
    scores = BaselineScores(CONFIG)
    for fit, score, predicted in parts:
        own = depth_metrics(predicted, score.z)
        scores.add(scores.begin(fit, score, SIZE), own, predicted)
    return scores


def test_a_difference_is_the_mean_of_the_differences_of_frames_and_that_of_the_means():
    parts = list(planted(30))
    scores = scored(parts)
    own = [depth_metrics(predicted, score.z) for _, score, predicted in parts]
    nearest = [
        depth_metrics(interpolate_nearest(fit, score.u, score.v), score.z)
        for fit, score, _ in parts
    ]
    for metric in METRICS:
        differences = [a[metric] - b[metric] for a, b in zip(own, nearest, strict=True)]
        found = scores.paired()['nearest'][metric]
        assert found['difference'] == pytest.approx(np.mean(differences), abs=1e-12), metric
        expected = mean_interval(np.array(differences))
        assert found['interval'] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
        assert found['n_frames'] == 30
    shares = np.where(np.arange(60) % 30, -1.0, -0.9)
    assert paired_difference(shares, 'delta1')['interval'][0] == -1.0
    means = scores.summary()
    assert set(scores.paired()) == set(BASELINE_TEXT)
    for name, by_metric in scores.paired().items():
        for metric, found in by_metric.items():
            mean = np.mean([values[metric] for values in own])
            assert found['difference'] == pytest.approx(mean - means[name][metric], abs=1e-9)


def test_frames_without_baselines_do_not_count():
    parts = list(planted(9))
    without = [*parts[:4], *planted(3, fit=5), *parts[4:]]
    found, expected = scored(without).paired(), scored(parts).paired()
    np.testing.assert_equal(found['linear'], expected['linear'])
    assert scored(planted(3, fit=5)).paired() == {}
    fit, score, predicted = parts[0]
    nothing = SparseDepth(score.u[:0], score.v[:0], score.z[:0])
    assert scored([(fit, nothing, predicted[:0])]).paired() == {}


def test_a_prediction_that_is_a_baseline_does_not_differ_from_it():
    parts = [
        (fit, score, interpolate_nearest(fit, score.u, score.v)) for fit, score, _ in planted(8)
    ]
    nothing = {'difference': 0.0, 'interval': [0.0, 0.0], 'standard_error': 0.0, 'n_frames': 8}
    assert scored(parts).paired()['nearest'] == dict.fromkeys(METRICS, nothing)


def test_the_mean_map_is_of_all_earlier_points_and_the_fit_points_of_its_frame():
    scores, seen = BaselineScores(CONFIG), []
    for fit, score, predicted in planted(3):
        begun = scores.begin(fit, score, SIZE)
        found = scores.add(begun, depth_metrics(predicted, score.z), predicted)
        seen.append(fit)
        known = SparseDepth.joined(seen)
        cell, at = (16 * (part.v // 16) + part.u // 16 for part in (known, score))
        mean = np.array([known.z[cell == one].mean() for one in at])
        expected = np.mean(np.abs(mean - score.z) / score.z)
        assert found['mean_map_abs_rel'] == pytest.approx(expected, rel=1e-5)
        seen.append(score)


def dense(depth, stride=2):
    return sparse_from_depth(depth, CONFIG, stride)


def truth_of(rng):
    """A quadric in disparity with a few bumps, (H, W) metres."""
    v, u = np.mgrid[0 : SIZE[1], 0 : SIZE[0]] / SIZE[0]
    return 1.0 / (0.05 + rng.uniform(0.1, 0.3) * v + 0.1 * (u - 0.5) ** 2)


def test_surfaces_fitted_to_the_truth_are_exact_where_the_truth_is_such_a_surface():
    scores, truth = BaselineScores(CONFIG), dense(truth_of(np.random.default_rng(0)))
    own = depth_metrics(truth.z * 1.1, truth.z)
    found = scores.add_fitted_to_truth(truth, own, SIZE)
    assert found['quadric_abs_rel'] < 1e-4
    assert found['constant_abs_rel'] > found['plane_abs_rel'] > 0.01
    assert 'mean_map_abs_rel' not in found  # there is no earlier image
    assert scores.paired()['quadric']['abs_rel']['difference'] == pytest.approx(0.1, abs=1e-4)


def test_the_mean_of_earlier_images_is_scaled_to_the_truth_by_least_squares():
    rng = np.random.default_rng(1)
    earlier = rng.uniform(2, 40, (3, 4))  # cells of 16 pixels
    first = dense(np.kron(earlier, np.ones((16, 16))))
    for truth in (3.0 + 0.5 * earlier, rng.uniform(2, 40, (3, 4))):
        scores = BaselineScores(CONFIG)
        second = dense(np.kron(truth, np.ones((16, 16))))
        scores.add_fitted_to_truth(first, depth_metrics(first.z, first.z), SIZE)
        found = scores.add_fitted_to_truth(second, depth_metrics(second.z, second.z), SIZE)
        line = np.polyval(np.polyfit(earlier.ravel(), truth.ravel(), 1), earlier)
        expected = np.mean(np.abs(line - truth) / truth)
        assert found['mean_map_abs_rel'] == pytest.approx(expected, abs=1e-5)


def test_further_models_and_few_points_have_no_baselines():
    truth = dense(truth_of(np.random.default_rng(2)))
    own = depth_metrics(truth.z, truth.z)
    assert BaselineScores(CONFIG, of_points=False).add_fitted_to_truth(truth, own, SIZE) == {}
    few = SparseDepth(truth.u[:5], truth.v[:5], truth.z[:5])
    assert BaselineScores(CONFIG).add_fitted_to_truth(few, own, SIZE) == {}
    scores = BaselineScores(AlignmentConfig(min_points=3))
    assert scores.add(scores.begin(few, truth, SIZE), own, truth.z) == {}
