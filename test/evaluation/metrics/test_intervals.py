# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Intervals hold a known mean as often as promised, on frames that resemble their neighbours."""

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marigold_ros.evaluation.metrics.intervals import block_length, block_means, mean_interval
import numpy as np
import pytest


def series(correlation, frames, count, seed=0):
    """Series (count, frames) with mean 0 whose neighbours correlate, AR(1)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(frames, count))
    values = np.empty_like(noise)
    values[0] = noise[0] / math.sqrt(1 - correlation**2)
    for frame in range(1, frames):
        values[frame] = correlation * values[frame - 1] + noise[frame]
    return values.T


def covered(drives, length=None):
    ends = np.array([mean_interval(drive, length=length) for drive in drives])
    return np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0))


@pytest.mark.parametrize('correlation', [0.0, 0.5, 0.8])
def test_intervals_of_correlated_frames_cover_the_mean(correlation):
    drives = series(correlation, 300, 250)
    assert covered(drives) == pytest.approx(0.95, abs=0.045)


def test_single_frames_instead_of_blocks_would_promise_too_much():
    drives = series(0.8, 300, 250)
    assert covered(drives, length=1) < 0.6
    assert covered(drives) > 0.9


@pytest.mark.parametrize('correlation', [0.5, 0.9])
def test_blocks_widen_the_interval_of_a_correlated_series(correlation):
    drive = series(correlation, 400, 1)[0]
    blocks, single = mean_interval(drive), mean_interval(drive, length=1)
    assert blocks[1] - blocks[0] > 1.3 * (single[1] - single[0])
    shuffled = np.random.default_rng(0).permutation(drive)
    assert block_length(drive) > 1.5 * block_length(shuffled)


def test_block_means_spread_like_enumerated_blocks():
    values = np.random.default_rng(1).normal(size=12)
    blocks = [np.roll(values, -start)[:4].mean() for start in range(12)]
    drawn = block_means(values, np.random.default_rng(0), 4, 40_000)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(np.std(blocks) / math.sqrt(3), rel=0.02)


@given(arrays(np.float64, st.integers(8, 50), elements=st.floats(-9, 9)), st.integers(1, 7))
def test_every_draw_averages_n_frames_at_any_block_length(values, length):
    drawn = block_means(values, np.random.default_rng(0), length, 50)
    assert values.min() - 1e-9 <= drawn.min() <= drawn.max() <= values.max() + 1e-9


def test_same_seed_repeats_an_interval_another_nearly():
    drive = series(0.7, 200, 1)[0]
    assert mean_interval(drive, seed=3) == mean_interval(drive, seed=3)
    first, second = mean_interval(drive, seed=3), mean_interval(drive, seed=4)
    assert first != second
    assert first == pytest.approx(second, abs=0.2 * (first[1] - first[0]))


def test_few_frames_have_no_interval_equal_frames_zero_width():
    assert all(math.isnan(end) for end in mean_interval(np.arange(7.0)))
    assert all(math.isnan(end) for end in mean_interval(np.full(20, np.nan)))
    assert mean_interval(np.full(20, 3.0)) == pytest.approx((3.0, 3.0))
