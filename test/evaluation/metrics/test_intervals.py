# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Intervals hold a known mean as often as promised, on frames that resemble their neighbours."""

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marigold_ros.evaluation.metrics.intervals import error_of_mean, mean_interval
import numpy as np
import pytest
from scipy import stats

TRUE_MEAN = 0.2
# Of this many recordings at least so many must hold the mean: 95 %, less three deviations.
RECORDINGS, LEAST = 150, 0.90


def series(correlation, frames, count=RECORDINGS, seed=0):
    """Series (count, frames) of variance 1 around 0 whose neighbours correlate, AR(1)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(frames, count)) * math.sqrt(1 - correlation**2)
    values = np.empty_like(noise)
    values[0] = rng.normal(size=count)
    for frame in range(1, frames):
        values[frame] = correlation * values[frame - 1] + noise[frame]
    return values.T


def scenes(frames, count=RECORDINGS):
    """Series (count, frames) that stay at a value for 5 to 10 frames, then jump."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        lengths = rng.integers(5, 11, frames // 5 + 2)
        values = np.repeat(rng.normal(size=len(lengths)), lengths)
        rows.append(values[rng.integers(0, 5) :][:frames])
    return np.array(rows)


def measured(recordings, mean=0.0, length=None):
    """Return the share of recordings with an interval, and of these those that hold the mean."""
    low, high = np.array([mean_interval(values, length) for values in recordings]).T
    known = np.isfinite(low)
    held = (low <= mean) & (mean <= high)
    return known.mean(), held.sum() / max(known.sum(), 1)


@pytest.mark.parametrize(
    ('correlation', 'frames', 'share'),
    [(0.0, 20, 0.9), (0.5, 40, 0.95), (0.8, 40, 0.9), (0.95, 40, 0.9), (0.9, 150, 1.0)],
)
def test_intervals_of_correlated_frames_cover_the_mean(correlation, frames, share):
    with_interval, covered = measured(series(correlation, frames))
    assert with_interval >= share
    assert covered > LEAST


@pytest.mark.parametrize(('correlation', 'frames'), [(0.5, 40), (0.8, 80), (0.95, 80)])
def test_intervals_of_skewed_errors_cover_the_mean(correlation, frames):
    errors = TRUE_MEAN * np.exp(0.5 * series(correlation, frames) - 0.125)
    assert measured(errors, TRUE_MEAN)[1] > LEAST


@pytest.mark.parametrize('noise', [0.0, 1.0])
def test_intervals_of_changing_scenes_cover_the_mean(noise):
    drives = scenes(80)
    drives += noise * np.random.default_rng(1).normal(size=drives.shape)
    assert measured(drives)[1] > LEAST


def test_few_frames_have_an_interval_if_they_do_not_look_correlated():
    independent, covered = measured(series(0.0, 20))
    correlated, _ = measured(series(0.95, 20))
    assert (independent > 0.9, covered > LEAST, correlated < 0.6) == (True, True, True)
    assert measured(series(0.0, 8))[0] < 0.02
    assert measured(scenes(20))[0] < 0.6


def test_intervals_of_independent_frames_are_little_wider_than_students():
    widths = []
    for values in series(0.0, 40):
        low, high = mean_interval(values)
        exact = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
        widths.append((high - low) / np.ptp(exact))
    assert 1.0 <= np.median(widths) < 1.5


def test_frames_that_are_said_to_be_independent_have_students_interval():
    values = np.random.default_rng(0).normal(size=8)
    exact = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert mean_interval(values, length=1) == pytest.approx(exact)


@pytest.mark.parametrize(('correlation', 'frames'), [(0.0, 40), (0.5, 80), (0.8, 200)])
def test_the_standard_error_counts_correlated_frames_less(correlation, frames):
    drives = series(correlation, frames)
    errors = [error_of_mean(values) for values in drives]
    assert np.median(errors) == pytest.approx(drives.mean(axis=1).std(), rel=0.3)
    assert math.isnan(error_of_mean(np.arange(7.0)))
    assert error_of_mean(np.full(20, 3.0)) == 0.0


@pytest.mark.parametrize('length', [5, 20, 40])
def test_blocks_widen_an_interval_to_students_of_their_means_at_least(length):
    for values in series(0.5, 80, 20):
        means = values.reshape(-1, length).mean(axis=1)
        of_means = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
        low, high = zip(mean_interval(values), of_means, strict=True)
        assert mean_interval(values, length) == pytest.approx((min(low), max(high)))
    assert np.isnan(mean_interval(values, 60)).all()  # a single block


@given(
    arrays(np.float64, 40, elements=st.floats(-9, 9)), st.floats(0.01, 100), st.floats(-100, 100)
)
def test_units_and_order_of_time_do_not_matter(values, scale, shift):
    low, high = mean_interval(values)
    expected = pytest.approx((scale * low + shift, scale * high + shift), abs=1e-6, nan_ok=True)
    if np.ptp(values) > 1e-3:
        assert mean_interval(scale * values[::-1] + shift) == expected


@pytest.mark.parametrize('figure', [mean_interval, error_of_mean])
def test_frames_without_a_figure_are_left_out_and_neighbours_of_long_recordings_pooled(figure):
    (values,) = series(0.5, 2000, 1)
    expected = pytest.approx(figure(values))
    assert figure(np.append(values, [np.nan, np.inf])) == expected
    assert figure(np.repeat(values, 3)) == expected


def test_few_frames_have_no_interval_equal_frames_zero_width():
    assert all(math.isnan(end) for end in mean_interval(np.arange(7.0)))
    assert all(math.isnan(end) for end in mean_interval(np.full(20, np.nan)))
    assert mean_interval(np.full(20, 3.0)) == pytest.approx((3.0, 3.0))
