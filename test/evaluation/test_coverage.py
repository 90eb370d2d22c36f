# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma's coverage: counted rightly, and as promised on held-out lines of two drives."""

import math

from marigold_ros.commands.replay import evaluate_bag
from marigold_ros.evaluation.coverage import SigmaCoverage
from marigold_ros.frame import SparseDepth
from marigold_ros.models import load_model
from marigold_ros.synthetic.drive import write_drive
import numpy as np
import pytest


def test_shares_within_sigma_are_counted_and_averaged_over_images():
    coverage = SigmaCoverage()
    assert coverage.summary() == {}
    truth = SparseDepth(np.arange(4), np.zeros(4, int), np.full(4, 10.0, np.float32))
    sigma = np.ones((1, 4), np.float32)
    predicted = np.array([10.5, 11.5, 15.0, np.nan])
    assert coverage.add(predicted, None, truth) == {}
    row = coverage.add(predicted, sigma, truth)
    assert row == {'heldout_within_1_sigma': 1 / 3, 'heldout_within_2_sigma': 2 / 3}
    coverage.add(np.full(4, 10.0), sigma, truth)
    empty = coverage.add(np.full(4, np.nan), sigma, truth)
    assert all(math.isnan(share) for share in empty.values())
    mean = coverage.summary()['sigma_coverage']
    assert mean == pytest.approx({'1': 2 / 3, '2': 5 / 6})


@pytest.fixture(scope='module')
def tiny():
    return load_model('tiny', device='cpu')


@pytest.mark.parametrize('held_out', ['rings', 'azimuth'])
def test_two_thirds_of_held_out_points_of_a_real_drive_are_within_sigma(
    tiny, shared_data, held_out
):
    results = evaluate_bag(shared_data / 'kitti_drive', tiny, held_out=held_out)
    assert results['provenance']['scoring']['held_out'] == held_out
    assert 0.60 < results['protocols']['heldout']['sigma_coverage']['1'] < 0.76


@pytest.mark.parametrize('held_out', ['rings', 'azimuth'])
def test_two_thirds_of_held_out_points_of_a_synthetic_drive_are_within_sigma(
    tiny, tmp_path, held_out
):
    bag = write_drive(tmp_path / 'drive', frames=8, width=320, height=240)
    results = evaluate_bag(bag, tiny, held_out=held_out)
    assert 0.60 < results['protocols']['heldout']['sigma_coverage']['1'] < 0.76
