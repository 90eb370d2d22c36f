# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Black, white and frozen images are named, and no others."""

from marigold_ros.geometry.blind_image import ImageHealth
import numpy as np
import pytest


@pytest.fixture
def rng():
    """Return a seeded random generator."""
    return np.random.default_rng(0)


def test_a_live_image_is_healthy(rng):
    watch = ImageHealth()
    image = rng.integers(20, 230, (48, 64, 3), dtype=np.uint8)
    for k in range(30):
        image[k, k] ^= 1  # one bit of noise is life
        assert watch.check(image) == ''


@pytest.mark.parametrize(('value', 'word'), [(0, 'black'), (4, 'black'), (255, 'white')])
@pytest.mark.parametrize('size', [(480, 640), (7, 5), (1, 1)])
def test_a_blind_camera_is_named(value, word, size):
    assert word in ImageHealth().check(np.full((*size, 3), value, np.uint8))


@pytest.mark.parametrize(('value', 'other', 'word'), [(0, 99, 'black'), (255, 99, 'white')])
def test_an_image_is_blind_up_to_a_tenth_of_other_pixels(value, other, word):
    for share, named in ((0.06, True), (0.2, False)):
        image = np.full((640, 640, 3), value, np.uint8)
        image[: round(share * 640)] = other
        assert (word in ImageHealth().check(image)) == named


@pytest.mark.parametrize('colour', [(12, 12, 12), (240, 240, 240), (255, 0, 0)])
def test_dusk_snow_and_a_strong_colour_are_not_blind(colour):
    assert ImageHealth().check(np.full((480, 640, 3), colour, np.uint8)) == ''


def test_a_frozen_camera_is_named_until_it_goes_on(rng):
    watch = ImageHealth()
    image = rng.integers(20, 230, (480, 640, 3), dtype=np.uint8)
    said = [watch.check(image) for _ in range(12)]
    assert said[:10] == [''] * 10
    assert 'last 11 images are equal' in said[10]
    assert watch.check(rng.integers(20, 230, (480, 640, 3), dtype=np.uint8)) == ''
