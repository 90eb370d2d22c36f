# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Natural textures: repeatable, periodic, with the spectrum they claim, and free of aliases."""

from __future__ import annotations

from marigold_ros.synthetic.appearance.natural_textures import draw_atlas, look_up, SIDE
import numpy as np
import pytest


@pytest.fixture(scope='module')
def atlas():
    return draw_atlas(np.random.default_rng(3))


@pytest.mark.parametrize('name', ['leaves', 'clouds'])
def test_levels_halve_and_keep_the_mean_colour(atlas, name: str):
    levels = getattr(atlas, name)
    assert [len(level) for level in levels] == [SIDE >> i for i in range(len(levels))]
    means = np.array([level.mean(axis=(0, 1)) for level in levels])
    np.testing.assert_allclose(means, means[:1].repeat(len(levels), axis=0), rtol=1e-3)
    assert (levels[0] > 0).all()
    assert 0.4 < means[0].mean() < 1.6


def test_logarithm_of_clouds_falls_as_a_power_of_frequency(atlas):
    grey = np.log(atlas.clouds[0]).mean(axis=2)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIDE) * SIDE] * 2))
    bands = [(2, 4), (8, 16), (32, 64)]
    level = [power[(frequency >= a) & (frequency < b)].mean() for a, b in bands]
    slopes = np.diff(np.log(level)) / np.log(4)
    assert (slopes < -1.5).all()
    assert (slopes > -3.5).all()


def test_reading_is_periodic_and_exact_at_texels(atlas):
    rng = np.random.default_rng(0)
    column, row = rng.integers(0, SIDE, (2, 500))
    u, v, blur = column / SIDE, row / SIDE, np.full(500, 0.5 / SIDE)
    read = look_up(atlas.leaves, u, v, blur)
    np.testing.assert_allclose(read, atlas.leaves[0][row, column], atol=1e-3)
    np.testing.assert_allclose(look_up(atlas.leaves, u + 3, v - 2, blur), read, atol=1e-2)


def test_far_surfaces_show_the_mean_instead_of_aliases(atlas):
    u, v = np.random.default_rng(1).uniform(0, 1, (2, 4000))
    near = look_up(atlas.leaves, u, v, np.full(4000, 0.5 / SIDE))
    far = look_up(atlas.leaves, u, v, np.full(4000, 1.0))
    assert far.std() < 0.5 * near.std()
    assert look_up(atlas.leaves, u[:0], v[:0], u[:0]).shape == (0, 3)
