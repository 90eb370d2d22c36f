# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A map leads far from the points as far as it has proved, and nowhere else."""

from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.geometry.fusion.mixing import follow_map, MixedDepth
import numpy as np

SHAPE = (16, 32)


def mixture_of(seed):
    rng = np.random.default_rng(seed)
    log_depth, log_error, log_map = rng.normal(1, 0.5, (3, *SHAPE)).astype(np.float32)
    share = rng.random(SHAPE).astype(np.float32)
    distance = rng.exponential(8, SHAPE).astype(np.float32)
    return MixedDepth(log_depth, log_error, share), log_map, distance


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), error=st.floats(0, 2))
def test_depth_lies_between_mixture_and_map_and_shares_stay_shares(seed, error):
    mixture, log_map, distance = mixture_of(seed)
    found = follow_map(mixture, log_map, distance, error)
    low, high = np.minimum(mixture.log_depth, log_map), np.maximum(mixture.log_depth, log_map)
    assert (found.log_depth >= low - 1e-5).all()
    assert (found.log_depth <= high + 1e-5).all()
    assert (found.map_share >= mixture.map_share - 1e-6).all()
    assert (found.map_share <= 1 + 1e-6).all()
    np.testing.assert_array_equal(found.log_error, mixture.log_error)


def test_a_map_that_gains_little_changes_nothing():
    mixture, log_map, distance = mixture_of(0)
    assert follow_map(mixture, log_map, distance, 0.8) is mixture


def test_at_the_points_the_mixture_stays():
    mixture, log_map, _ = mixture_of(1)
    found = follow_map(mixture, log_map, np.zeros(SHAPE, np.float32), 0.1)
    np.testing.assert_array_equal(found.log_depth, mixture.log_depth)


def test_far_away_a_good_map_is_followed_wholly():
    mixture, log_map, _ = mixture_of(2)
    found = follow_map(mixture, log_map, np.full(SHAPE, 1e4, np.float32), 0.1)
    np.testing.assert_allclose(found.log_depth, log_map, atol=1e-4)
    np.testing.assert_allclose(found.map_share, 1.0, atol=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), errors=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_share_grows_with_the_distance_and_the_proof(seed, errors):
    mixture, log_map, _ = mixture_of(seed)
    distance = np.broadcast_to(np.linspace(0, 60, SHAPE[1], dtype=np.float32), SHAPE)
    better, worse = (follow_map(mixture, log_map, distance, e).map_share for e in sorted(errors))
    assert (better >= worse - 1e-6).all()
    gained = (better - mixture.map_share) / (1 - mixture.map_share)
    assert (np.diff(gained, axis=1) >= -1e-4).all()
