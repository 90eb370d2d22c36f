# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma's scores: as planted, and its coverage as promised on held-out lines of two drives."""

from itertools import permutations
import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.evaluation.metrics.sigma_scores import SigmaScores, sparsification
from marigold_ros.frame import SparseDepth
from marigold_ros.models import load_model
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.synthetic.drive.drive import write_drive
import numpy as np
import pytest
from scipy import stats


def test_shares_within_sigma_are_averaged_over_images():
    coverage = SigmaScores()
    assert coverage.summary() == {}
    truth = SparseDepth(np.arange(5), np.zeros(5, int), np.full(5, 10.0, np.float32))
    sigma = np.array([[1, 1, 1, 1, np.nan]], np.float32)
    predicted = np.array([11.0, 11.5, 15.0, np.nan, 10.0])
    assert coverage.add(predicted, None, truth) == {}
    row = coverage.add(predicted, sigma, truth)
    assert row == {
        'heldout_within_1_sigma': 1 / 3,
        'heldout_within_2_sigma': 2 / 3,
        'heldout_ause': pytest.approx(11 / 30),
    }
    coverage.add(np.full(5, 10.0), 0 * sigma, truth)  # no error is within no sigma
    empty = coverage.add(np.full(5, np.nan), sigma, truth)
    assert all(math.isnan(share) for share in empty.values())
    mean = coverage.summary()['sigma_coverage']
    assert mean == pytest.approx({'1': 2 / 3, '2': 5 / 6})


def planted(sigma_factor):
    """Errors that are normal with a known deviation each, and a sigma that is off by a factor."""
    rng = np.random.default_rng(0)
    count = 200_000
    deviation = 10.0 ** rng.uniform(-4.0, 0.0, count)
    truth = SparseDepth(np.arange(count), np.zeros(count, int), np.full(count, 50.0))
    predicted = truth.z + deviation * rng.normal(size=count)
    scores = SigmaScores()
    scores.add(predicted, (sigma_factor * deviation)[None], truth)
    return scores.summary()['sigma']


def test_calibrated_sigma_is_diagonal_and_a_wide_one_above():
    calibrated = planted(1.0)
    assert calibrated['ause'] < 0.9 * calibrated['ause_of_random_order']
    for pair in calibrated['reliability']:
        assert pair['observed'] == pytest.approx(pair['expected'], abs=0.005)
    for pair in planted(2.0)['reliability']:
        within = stats.norm.cdf(2 * stats.norm.ppf(0.5 + pair['expected'] / 2)) * 2 - 1
        assert pair['observed'] == pytest.approx(within, abs=0.005)


def by_leaving_out(error, order):
    """Mean error of the remaining points, averaged over the number removed."""
    remaining = [error[order][: n + 1].mean() for n in range(len(error))]
    return np.mean(remaining)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 9)), st.integers(0, 99))
def test_ause_is_the_area_between_the_sparsification_curves(error, seed):
    sigma = np.random.default_rng(seed).random(len(error))
    area, random = sparsification(error, sigma)
    mean = error.mean() or 1.0
    best = by_leaving_out(error, np.argsort(error))
    assert area == pytest.approx((by_leaving_out(error, np.argsort(sigma)) - best) / mean)
    assert random == pytest.approx((error.mean() - best) / mean)
    assert sparsification(error, error)[0] == pytest.approx(0, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=5))
def test_points_of_equal_sigma_are_left_out_in_random_order(points):
    error, sigma = np.array(points, np.float64).T
    areas = [
        by_leaving_out(error, list(order)) - by_leaving_out(error, np.argsort(error))
        for order in permutations(range(len(error)))
        if (np.diff(sigma[list(order)]) >= 0).all()
    ]
    expected = np.mean(areas) / (error.mean() or 1.0)
    assert sparsification(error, sigma)[0] == pytest.approx(expected, abs=1e-9)
    turned = sparsification(error[::-1], sigma[::-1])
    assert turned == pytest.approx(sparsification(error, sigma), abs=1e-9)
    constant, random = sparsification(error, 0 * sigma + 0.3)
    assert constant == pytest.approx(random, abs=1e-9)


LOCAL = PipelineConfig(alignment=AlignmentConfig(method='local'))


@pytest.fixture(scope='module')
def tiny():
    return load_model('tiny', device='cpu')


@pytest.mark.slow  # all frames of the real drive, twice
@pytest.mark.parametrize('held_out', ['rings', 'azimuth'])
def test_held_out_points_of_a_real_drive_are_within_sigma(tiny, shared_data, held_out):
    options = ReplayOptions(LOCAL, held_out=held_out)
    results = evaluate_bag(shared_data / 'kitti_drive', tiny, options)
    assert results['provenance']['scoring']['held_out'] == held_out
    assert 0.60 < results['protocols']['heldout']['sigma_coverage']['1'] < 0.76


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp('drive') / 'bag', frames=8, width=320, height=240)


@pytest.mark.slow  # eight images
@pytest.mark.parametrize('held_out', ['rings', 'azimuth'])
def test_held_out_points_of_a_synthetic_drive_are_within_sigma(tiny, drive, held_out):
    results = evaluate_bag(drive, tiny, ReplayOptions(LOCAL, held_out=held_out))
    assert 0.60 < results['protocols']['heldout']['sigma_coverage']['1'] < 0.76
    assert 'of the errors within two' in results['verdict']['text']['sigma']
