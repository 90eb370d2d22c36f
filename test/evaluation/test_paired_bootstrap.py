# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The block bootstrap against series whose mean and whose scatter of the mean are known."""

import math

from marigold_ros.evaluation.paired_bootstrap import block_length, mean_interval
import numpy as np
import pytest


def correlated(rng, n, rho, mean=0.0):
    """AR(1) of unit variance."""
    noise = rng.standard_normal(n) * math.sqrt(1 - rho**2)
    noise[0] /= math.sqrt(1 - rho**2)
    values = np.empty(n)
    values[0] = noise[0]
    for i in range(1, n):
        values[i] = rho * values[i - 1] + noise[i]
    return values + mean


@pytest.mark.parametrize(('rho', 'least'), [(0.0, 0.91), (0.5, 0.89), (0.8, 0.84)])
def test_the_planted_mean_is_inside_about_as_often_as_promised(rho, least):
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        low, high = mean_interval(correlated(rng, 200, rho, mean=0.3), rng)
        hits += low <= 0.3 <= high
    assert hits / 200 >= least


def test_independent_values_get_the_interval_of_the_normal_distribution():
    rng = np.random.default_rng(1)
    values = rng.standard_normal(2000)
    low, high = mean_interval(values, rng)
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert values.mean() - low == pytest.approx(half, rel=0.12)
    assert high - values.mean() == pytest.approx(half, rel=0.12)


def test_correlation_makes_longer_blocks_and_wider_intervals():
    rng = np.random.default_rng(2)
    calm, wild = correlated(rng, 400, 0.0), correlated(rng, 400, 0.9)
    assert block_length(calm) < 6 < block_length(wild) <= 100
    widths = [np.diff(mean_interval(x / x.std(), rng))[0] for x in (calm, wild)]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize('n', [2, 3, 5, 17, 600])
def test_a_constant_is_certain_and_the_interval_moves_and_grows_with_the_values(n):
    rng = np.random.default_rng
    assert mean_interval(np.full(n, 0.25), rng(0)) == pytest.approx((0.25, 0.25))
    values = rng(3).standard_normal(n)
    low, high = mean_interval(values, rng(0))
    assert mean_interval(3 * values + 7, rng(0)) == pytest.approx((3 * low + 7, 3 * high + 7))
    assert low < values.mean() < high


def test_one_value_says_nothing():
    assert all(math.isnan(end) for end in mean_interval(np.array([1.0]), np.random.default_rng(0)))
