# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Corruptions: what all of them have in common, and what each does to a planted image."""

from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.choices import CORRUPTIONS, STRENGTHS
from marigold_ros.evaluation.corruptions import (
    corrupt,
    depth_of_relative,
    depth_of_truth,
    is_dense,
)
import numpy as np
import pytest

kinds = st.sampled_from(CORRUPTIONS)
sizes = st.tuples(st.integers(9, 70), st.integers(9, 70))


def scene(height, width, seed):
    """Draw smooth colours with edges and some grain, as images have them."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(2 * np.pi * (rng.uniform(1, 3) * u + rng.uniform(1, 3) * v)) for _ in 'rgb']
    image = 120 + 70 * np.stack(waves, -1) + 40 * (u > rng.random())[..., None]
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def corrupted(rgb, kind, strength, seed=3):
    depth = np.broadcast_to(np.linspace(40, 4, rgb.shape[0])[:, None], rgb.shape[:2])
    return corrupt(rgb, kind, strength, np.random.default_rng(seed), depth)


def psnr(rgb, other):
    square = np.mean((rgb.astype(np.float64) - other) ** 2)
    return np.inf if square == 0 else 10 * np.log10(255**2 / square)


@given(kinds, st.integers(0, 5), sizes, st.integers(0, 9))
def test_shape_and_type_stay_and_the_image_is_not_touched(kind, strength, size, seed):
    rgb = scene(*size, seed)
    before = rgb.copy()
    found = corrupted(rgb, kind, strength)
    assert found.shape == rgb.shape
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(rgb, before)


@given(kinds, sizes, st.integers(0, 9))
def test_strength_0_is_the_image_itself(kind, size, seed):
    rgb = scene(*size, seed)
    np.testing.assert_array_equal(corrupted(rgb, kind, 0), rgb)


@given(kinds, st.sampled_from(STRENGTHS), sizes, st.integers(0, 9))
def test_the_same_seed_gives_the_same_image(kind, strength, size, seed):
    rgb = scene(*size, seed)
    np.testing.assert_array_equal(
        corrupted(rgb, kind, strength, 5), corrupted(rgb, kind, strength, 5)
    )


@pytest.mark.parametrize('kind', CORRUPTIONS)
@settings(max_examples=min(15, settings().max_examples))
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_each_strength_is_worse_than_the_one_before(kind, seed, draw):
    rgb = scene(96, 128, seed)
    quality = [psnr(rgb, corrupted(rgb, kind, strength, draw)) for strength in (0, *STRENGTHS)]
    assert quality == sorted(quality, reverse=True)
    assert quality[1] < 45 < quality[0]
    assert quality[-1] < quality[1] - 3


@pytest.mark.parametrize('kind', ['night', 'rain', 'noise', 'glare', 'dropout'])
def test_another_seed_gives_another_image(kind):
    rgb = scene(60, 80, 0)
    assert (corrupted(rgb, kind, 3, 1) != corrupted(rgb, kind, 3, 2)).any()


def test_fog_hides_the_far_and_spares_the_near():
    rgb = np.full((10, 20, 3), 20, np.uint8)
    depth = np.r_[np.full(9, 0.0), 1e6][:, None] * np.ones((1, 20))
    found = corrupt(rgb, 'fog', 3, np.random.default_rng(0), depth)
    np.testing.assert_array_equal(found[0], rgb[0])
    assert (found[-1] > 200).all()


def test_fog_at_its_visibility_leaves_one_twentieth():
    rgb = np.zeros((4, 4, 3), np.uint8)
    found = corrupt(rgb, 'fog', 3, np.random.default_rng(0), np.full((4, 4), 100.0))
    np.testing.assert_allclose(found, 217 * (1 - np.exp(-3)), atol=0.6)


def test_unknown_and_infinite_truth_is_far_to_fog():
    truth = np.array([[7.0, np.nan], [np.inf, 7.0]])
    assert depth_of_truth(truth).tolist() == [[7.0, 300.0], [300.0, 7.0]]
    assert is_dense(truth)
    assert not is_dense(np.array([[7.0, np.nan], [np.nan, np.nan]]))
    assert not is_dense(None)


@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_a_prediction_is_laid_between_2_and_100_metres(space):
    relative = np.linspace(0.2, 0.9, 12).reshape(3, 4)
    depth = depth_of_relative(relative, space).ravel()
    ends = [2.0, 100.0] if space != 'disparity' else [100.0, 2.0]
    np.testing.assert_allclose(depth[[0, -1]], ends)
    assert (np.diff(depth) * (ends[1] - ends[0]) > 0).all()
    np.testing.assert_array_equal(depth_of_relative(relative, 'metric'), relative)


def test_dropout_loses_whole_blocks_and_as_many_as_it_says():
    rgb = scene(160, 160, 0)
    lost = (corrupted(rgb, 'dropout', 4) != rgb).any(-1)
    assert lost.mean() == pytest.approx(0.3, abs=0.02)
    blocks = lost.reshape(10, 16, 10, 16).mean((1, 3))
    assert ((blocks == 0) | (blocks > 0.9)).all()


@pytest.mark.parametrize(
    ('kind', 'strength', 'value'),
    [('snow', 1, 'snow'), ('rain', 6, '6'), ('rain', -1, '-1'), ('fog', 1, 'depth')],
)
def test_unknown_kinds_or_strengths_and_fog_without_depth_are_refused(kind, strength, value):
    with pytest.raises(ConfigurationError, match=value):
        corrupt(scene(9, 9, 0), kind, strength, np.random.default_rng(0))
