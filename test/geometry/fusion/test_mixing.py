# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Depth with the map and depth without it, by a weight."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.fusion_channels import CHANNELS, level_of
from marigold_ros.geometry.fusion.mixing import mix
import numpy as np
import pytest

SHAPE = (8, 16)
CHANNELS_OF_NOTHING = np.zeros((len(CHANNELS), *SHAPE), np.float32)
LOG_DEPTHS = st.floats(-1.5, 1.5)


def stating(*values):
    """Return a network that states change, log error, the share of the map and no map."""
    return lambda channels: np.array(values, np.float32)[:, None, None] * np.ones(SHAPE, 'f4')


def mixed(network, weight=None):
    """Return log depth beside the linear candidate, expected error and share of the map."""
    weight = None if weight is None else np.full(SHAPE, weight, np.float32)
    mixture = mix(CHANNELS_OF_NOTHING, network, weight)
    change = mixture.log_depth - level_of(CHANNELS_OF_NOTHING)
    parts = change, np.exp(mixture.log_error), mixture.map_share
    assert all(part.dtype == np.float32 for part in parts)
    return [float(part[0, 0]) for part in parts]


@given(LOG_DEPTHS, LOG_DEPTHS, st.floats(0.0, 1.0))
def test_at_a_weight_of_one_or_none_depth_is_what_the_network_states(change, without, share):
    network = stating(change, -3.0, share, without)
    assert mixed(network, 1.0) == pytest.approx(mixed(network), abs=1e-6)
    assert mixed(network, 0.0) == pytest.approx([without, np.exp(-3.0), 0.0], abs=1e-6)


@given(LOG_DEPTHS, LOG_DEPTHS, st.integers(0, 100), st.floats(0.01, 0.5))
def test_the_error_is_that_of_a_mixture_of_both_answers(change, without, of_map, error):
    # A hundred draws of either answer, each with the stated error around it.
    network = stating(change, np.log(error), 0.5, without)
    log_depth, expected, _ = mixed(network, of_map / 100)
    of_map = np.arange(100) < of_map
    draws = np.where(of_map, change, without)[:, None] + error * np.array([-1.0, 1.0])
    assert log_depth == pytest.approx(draws.mean(), abs=1e-5)
    assert expected == pytest.approx(draws.std(), rel=1e-4)


def test_in_closed_form_depth_without_the_map_is_that_of_the_points():
    channels = np.random.default_rng(0).normal(size=(len(CHANNELS), *SHAPE)).astype(np.float32)
    channels[CHANNELS.index('high')] = channels[CHANNELS.index('low')] + 0.1
    channels[CHANNELS.index('has_map')] = 1.0
    nothing = np.zeros(SHAPE, np.float32)
    without = mix(channels, None, nothing).log_depth
    channels[CHANNELS.index('has_map')] = 0.0
    np.testing.assert_allclose(without, mix(channels, None).log_depth, atol=1e-6)
