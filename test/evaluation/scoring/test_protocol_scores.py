# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Errors by distance and region equal the metrics of just these points."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.evaluation import depth_metrics
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import PointErrors
from marigold_ros.evaluation.scoring.protocol_scores import Breakdown, cells_at
import numpy as np
import pytest

SHAPE = (37, 64)
NAMES = ('abs_rel', 'rmse', 'bias', 'mae', 'delta1', 'n')


def planted(seed, frames=2, count=300):
    """Pixels with truth and prediction."""
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        u, v = rng.integers(0, SHAPE[1], count), rng.integers(0, SHAPE[0], count)
        g = rng.uniform(0.5, 70, count)
        yield u, v, g, g * rng.uniform(0.5, 1.6, count)


def chosen(seed, which):
    """Metrics of the points of all frames for which ``which(u, v, g)`` holds."""
    u, v, g, p = (np.concatenate(part) for part in zip(*planted(seed), strict=True))
    scores = depth_metrics(p, g, which(u, v, g))
    return pytest.approx({name: scores[name] for name in NAMES}, nan_ok=True)


def broken_down(seed):
    parts = Breakdown(65.0)
    for u, v, g, p in planted(seed):
        parts.add(PointErrors(p, g), cells_at(u, v, SHAPE))
    return parts.summary()


def figures(part):
    return {name: part[name] for name in NAMES}


@given(st.integers(0, 2**32 - 1))
def test_every_ten_metres_have_the_metrics_of_their_points(seed):
    found = broken_down(seed)
    bins = found['by_range']
    assert [part['from'] for part in bins] == [0, 10, 20, 30, 40, 50, 60]
    for part in bins:
        low, high = part['from'], part['to']
        assert figures(part) == chosen(seed, lambda u, v, g, a=low, b=high: (a <= g) & (g < b))
    assert figures(found['near_field']) == chosen(seed, lambda u, v, g: g < 15)


@pytest.mark.parametrize('every', [1, 13])  # frames of which one has errors
def test_the_interval_of_a_bin_is_that_of_the_ratio_of_the_sums_of_its_frames(every):
    parts, rng, sums = Breakdown(20.0), np.random.default_rng(0), []
    counts = rng.integers(2, 9, 40)
    for count in counts:
        errors = rng.uniform(0, 0.2, count) * (len(sums) % every == 0)
        sums.append(errors.sum())
        for depth in np.full((2, count), [[8.0], [15.0]]):
            parts.add(PointErrors(depth * (1 + errors), depth), np.zeros(count, int))
    ratio, weights = np.sum(sums) / np.sum(counts), 1 + 1e-6 * np.eye(40)
    change = (weights @ sums / (weights @ counts) - ratio) / 1e-6  # with the weight of a frame
    low, high = mean_interval(ratio + 40 * change)
    assert (low < 0) == (every > 1)
    expected = pytest.approx([max(low, 0.0), high], rel=1e-4)
    near, far = parts.summary()['by_range']
    assert (near['to'], near['abs_rel_interval']) == (10, expected)
    assert (far['to'], far['abs_rel_interval']) == (20, expected)


@given(st.integers(0, 2**32 - 1))
def test_thirds_of_the_image_have_the_metrics_of_their_points(seed):
    found = broken_down(seed)['by_region']
    height, width = SHAPE
    for number, name in enumerate(('left', 'centre', 'right')):
        there = chosen(seed, lambda u, v, g, k=number: np.floor(3 * u / width) == k)
        assert figures(found[name]) == there
    for number, name in enumerate(('top', 'middle', 'bottom')):
        there = chosen(seed, lambda u, v, g, k=number: np.floor(3 * v / height) == k)
        assert figures(found[name]) == there


def test_empty_bins_are_omitted_and_far_points_in_the_last():
    parts = Breakdown(30.0)
    errors = PointErrors(np.array([2.0, 90.0]), np.array([1.0, 99.5]))
    parts.add(errors, np.array([0, 8]))
    found = parts.summary()
    bins = [(part['from'], part['to'], part['n']) for part in found['by_range']]
    assert bins == [(0.0, 10.0, 1), (20.0, 100.0, 1)]
    assert found['farthest'] == 99.5
    region = found['by_region']
    assert region['left']['n'] == region['bottom']['n'] == 1
    assert region['centre']['n'] == 0
    assert np.isnan(region['centre']['abs_rel'])
