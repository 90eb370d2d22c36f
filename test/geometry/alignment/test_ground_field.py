# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The correction on the ground: a planted error of the map is taken back there, and only there."""

from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.ground_field import ground_field, ground_spacing
import numpy as np
import pytest

SHAPE = (240, 320)


def field_of(residual, sigma=None):
    """Return the field of ground points all over the lower half, each 5 m away."""
    step = ground_spacing(SHAPE)
    v, u = (part.ravel() for part in np.mgrid[120:240:step, 0:320:step])
    residual = residual(u, v) if callable(residual) else np.full(len(u), residual)
    stated = None if sigma is None else np.full(len(u), sigma)
    sparse = SparseDepth(u, v, np.full(len(u), 5.0), sigma=stated)
    return ground_field(sparse, residual, SHAPE)


def test_an_error_of_the_map_is_taken_back_on_the_ground_alone():
    field = field_of(0.1)
    height, width = field.shape
    np.testing.assert_allclose(field[height // 2 + 3 :], np.exp(0.1), rtol=1e-3)
    np.testing.assert_array_equal(field[: height // 2 - 8], 1.0)
    assert field[:, width // 2].max() < np.exp(0.1) + 1e-3


def test_it_follows_the_error_from_place_to_place():
    field = field_of(lambda u, v: 0.2 * (u / 320 - 0.5))
    columns = (np.arange(field.shape[1]) + 0.5) / field.shape[1]
    middle = np.log(field[-30])[10:-10]
    np.testing.assert_allclose(middle, 0.2 * (columns - 0.5)[10:-10], atol=0.003)


def test_a_plane_as_uncertain_as_the_map_takes_half_of_it():
    of_map = 1.4826 * 0.1  # the deviation of a normal distribution with this median size
    field = field_of(0.1, sigma=5.0 * of_map)
    np.testing.assert_allclose(field[-20:], np.exp(0.05), rtol=1e-3)


@pytest.mark.parametrize('known', [0, 1])
def test_without_any_known_error_there_is_no_field(known):
    residual = np.full(3, np.nan)
    residual[:known] = 0.1
    sparse = SparseDepth(np.array([3, 9, 80]), np.array([200, 210, 220]), np.full(3, 5.0))
    assert (ground_field(sparse, residual, SHAPE) is None) == (known == 0)


@pytest.mark.parametrize('shape', [(240, 320), (1080, 1920), (100, 3000)])
def test_an_image_of_any_size_has_about_as_many_points(shape):
    count = shape[0] * shape[1] / ground_spacing(shape) ** 2
    assert 0.7 * 12_000 < count < 1.5 * 12_000
    assert ground_spacing((20, 20)) == 1
