# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Averages of weights against their closed forms."""

import math

from marigold_training.run.average import blend, WeightAverage
import pytest
import torch
from torch import nn


def norm(value: float) -> nn.BatchNorm1d:
    """Return a network with weights of a value, and a whole number as its count."""
    network = nn.BatchNorm1d(3)
    nn.init.constant_(network.weight, value)
    network.num_batches_tracked.fill_(int(value))
    return network


@pytest.mark.parametrize('keep', [0.0, 0.5, 0.98])
def test_of_the_start_remain_the_kept_shares_which_are_small_at_first(keep):
    average = WeightAverage(norm(0.0), wanted=True)
    for step in range(40):
        average.update(norm(5.0), keep, step)
    remaining = math.prod(min(keep, (1 + k) / (10 + k)) for k in range(40))
    torch.testing.assert_close(average.weights['weight'], torch.full((3,), 5 * (1 - remaining)))
    assert average.weights['num_batches_tracked'] == 5


def test_an_average_is_a_copy_and_comes_back_from_what_was_saved():
    network = norm(1.0)
    average = WeightAverage(network, wanted=True)
    nn.init.zeros_(network.weight)
    assert average.weights['weight'].tolist() == [1.0] * 3
    average.restore(norm(4.0).state_dict())
    assert average.weights['weight'].tolist() == [4.0] * 3
    assert network.weight.tolist() == [0.0] * 3


def test_without_averaging_the_weights_are_those_of_the_networks():
    network = norm(1.0)
    average = WeightAverage(network, wanted=False)
    average.update(norm(3.0), 0.9, 0)
    assert average.weights['weight'].data_ptr() == network.weight.data_ptr()


@pytest.mark.parametrize('kept', [0.0, 0.25, 1.0])
def test_a_blend_is_linear_and_keeps_the_trained_counts(kept):
    found = blend(norm(8.0).state_dict(), norm(4.0).state_dict(), kept)
    assert found['weight'].tolist() == [8.0 - 4.0 * kept] * 3
    assert found['num_batches_tracked'] == 8
