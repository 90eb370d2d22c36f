# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Depth of a network's answer, and of depth with the map and without it by a weight."""

from hypothesis import example, given
from hypothesis import strategies as st
from marigold_ros.fusion_channels import CHANNELS, level_of
from marigold_ros.geometry.fusion.mixing import average, led_by_map, mix, MixedDepth
import numpy as np
import pytest

SHAPE = (8, 16)
LOG_DEPTHS = st.floats(-1.5, 1.5)
ERRORS = st.floats(0.01, 0.5)


def stated(log_depth, error, share=0.0):
    return MixedDepth(
        *(np.full(SHAPE, value, 'f4') for value in (log_depth, np.log(error), share))
    )


def averaged(with_map, without, weight):
    """Return log depth, expected error and share of the map of two mixtures."""
    mixture = average(with_map, without, np.full(SHAPE, weight, np.float32))
    parts = mixture.log_depth, np.exp(mixture.log_error), mixture.map_share
    assert all(part.dtype == np.float32 for part in parts)
    return [float(part[0, 0]) for part in parts]


def test_depth_is_that_of_the_linear_candidate_and_the_change_of_the_network():
    channels = np.random.default_rng(0).normal(size=(len(CHANNELS), *SHAPE)).astype(np.float32)
    answer = np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)
    mixture = mix(channels, lambda _: answer)
    linear = channels[CHANNELS.index('linear')] + level_of(channels)
    np.testing.assert_allclose(mixture.log_depth, linear + answer[0], atol=1e-6)
    np.testing.assert_array_equal(mixture.log_error, answer[1])
    np.testing.assert_array_equal(mixture.map_share, answer[2])


def test_in_closed_form_depth_of_points_is_the_mean_of_the_linear_and_the_smooth_candidate():
    channels = np.zeros((len(CHANNELS), *SHAPE), np.float32)
    channels[CHANNELS.index('smooth')] = 0.4
    mixture = mix(channels, None)
    np.testing.assert_allclose(mixture.log_depth, level_of(channels) + 0.2, atol=1e-6)
    assert not mixture.map_share.any()


@example(0.4, -0.3, 0, 0.1, 0.2)
@example(0.4, -0.3, 100, 0.1, 0.2)
@given(LOG_DEPTHS, LOG_DEPTHS, st.integers(0, 100), ERRORS, ERRORS)
def test_the_error_is_that_of_a_mixture_of_both_answers(change, other, of_map, error, wide):
    # A hundred draws of either answer, each with its stated error around it.
    parts = stated(change, error, 0.8), stated(other, wide, 0.2)
    log_depth, expected, share = averaged(*parts, of_map / 100)
    assert share == pytest.approx(0.2 + 0.6 * of_map / 100, abs=1e-6)
    of_map = (np.arange(100) < of_map)[:, None]
    draws = np.where(of_map, change, other) + np.where(of_map, error, wide) * [-1.0, 1.0]
    assert log_depth == pytest.approx(draws.mean(), abs=1e-5)
    assert expected == pytest.approx(draws.std(), rel=1e-4)


@pytest.mark.parametrize(('part', 'share'), [(0.0, 1.0), (0.1, 0.6), (1.0, 0.2)])
def test_a_map_leads_where_its_error_is_far_below_that_of_the_mixture(part, share):
    # Of a tenth it has half, beside the part that the mixture gave it.
    mixture, log_depth = stated(0.0, 0.3, 0.2), np.full(SHAPE, 0.4, np.float32)
    led = led_by_map(mixture, log_depth, 0.3 * part, np.arange(SHAPE[1]) < 5)
    lead = (share - 0.2) / 0.8
    assert led.map_share[0, 0] == pytest.approx(share, abs=2e-3)
    assert led.log_depth[0, 0] == pytest.approx(0.4 * lead, abs=1e-3)
    np.testing.assert_allclose(led.log_error[:, 5:], mixture.log_error[:, 5:], atol=1e-6)
    assert (led.log_depth[:, 5:] == mixture.log_depth[:, 5:]).all()
    assert np.isfinite(led.log_error).all()
    assert all(part.dtype == np.float32 for part in (led.log_depth, led.log_error, led.map_share))
