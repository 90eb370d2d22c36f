# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Differences from the baselines are those of the frames that both were scored on."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation import depth_metrics
from marigold_ros.evaluation.baselines import BASELINES, interpolate_nearest
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.scoring.baseline_scores import BaselineScores
from marigold_ros.frame import SparseDepth
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
        scores.add(fit, score, depth_metrics(predicted, score.z), None, SIZE)
    return scores


@pytest.mark.parametrize('metric', METRICS)
def test_a_difference_is_the_mean_of_the_differences_of_frames(metric):
    parts = list(planted(12))
    differences = [
        depth_metrics(predicted, score.z)[metric]
        - depth_metrics(interpolate_nearest(fit, score.u, score.v), score.z)[metric]
        for fit, score, predicted in parts
    ]
    found = scored(parts).paired()['nearest'][metric]
    assert found['difference'] == pytest.approx(np.mean(differences), abs=1e-12)
    assert found['interval'] == pytest.approx(mean_interval(np.array(differences)), abs=1e-12)
    assert found['n_frames'] == 12


def test_the_difference_is_that_of_the_means_where_all_frames_are_scored():
    scores = scored(planted(9))
    own = [depth_metrics(predicted, score.z) for _, score, predicted in planted(9)]
    means = scores.summary()
    assert set(scores.paired()) == {*BASELINES, 'mean_map'}
    for name, by_metric in scores.paired().items():
        for metric, found in by_metric.items():
            mean = np.mean([values[metric] for values in own])
            assert found['difference'] == pytest.approx(mean - means[name][metric], abs=1e-9)


def test_frames_without_baselines_do_not_count():
    parts = list(planted(9))
    without = [*parts[:4], *planted(3, fit=19), *parts[4:]]
    found, expected = scored(without).paired(), scored(parts).paired()
    assert found['linear'] == expected['linear']
    assert scored(planted(3, fit=19)).paired() == {}


def test_a_prediction_that_is_a_baseline_does_not_differ_from_it():
    parts = [
        (fit, score, interpolate_nearest(fit, score.u, score.v)) for fit, score, _ in planted(8)
    ]
    nothing = {'difference': 0.0, 'interval': [0.0, 0.0], 'n_frames': 8}
    assert scored(parts).paired()['nearest'] == dict.fromkeys(METRICS, nothing)


def test_few_frames_have_a_difference_without_interval():
    found = scored(planted(7)).paired()['linear']['abs_rel']
    assert np.isfinite(found['difference'])
    assert np.isnan(found['interval']).all()
