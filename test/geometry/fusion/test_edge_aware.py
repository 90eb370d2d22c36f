# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Weights of edges: depth steps at edges of the image only."""

import cv2
from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.geometry.fusion.edge_aware import edge_weights
from marigold_ros.kernels.grid_solver import solve_on_grid
import numpy as np
import pytest

SEEDS = st.integers(0, 10_000)


def noise_image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def two_squares(rows=16, columns=24):
    """Return an image that is dark on the left half and bright on the right one."""
    image = np.full((rows, columns, 3), 60, np.uint8)
    image[:, columns // 2 :] = 200
    return image


def test_depth_steps_at_an_edge_of_the_image_and_nowhere_else():
    image = two_squares()
    target, weight = np.zeros((16, 24), 'f'), np.zeros((16, 24), 'f')
    target[:, 12:] = 1.0
    # The points lie far from the edge.
    weight[8, 2] = weight[8, 21] = 33.0
    start = np.full((16, 24), 0.5, 'f')
    with_edge = solve_on_grid(target, weight, edge_weights(image, (16, 24)), start, 200)
    without = solve_on_grid(target, weight, edge_weights(None, (16, 24)), start, 200)
    steps = np.abs(np.diff(with_edge, axis=1)).mean(axis=0)
    assert np.argmax(steps) == 11
    assert steps[11] > 0.7
    assert np.delete(steps, 11).max() < 0.05
    assert np.abs(np.diff(without, axis=1)).mean(axis=0).max() < 0.2


@given(seed=SEEDS, rows=st.integers(2, 20), columns=st.integers(2, 20))
def test_weights_of_edges_are_positive_and_at_most_one(seed, rows, columns):
    across, down = edge_weights(noise_image((rows, columns), seed), (rows, columns))
    assert across.shape == (rows, columns - 1)
    assert down.shape == (rows - 1, columns)
    for weights in (across, down):
        assert weights.dtype == np.float32
        assert weights.min() > 0
        assert weights.max() <= 1


@pytest.mark.parametrize('image', [None, np.full((6, 8, 3), 90, np.uint8)])
def test_without_edges_all_weights_are_one(image):
    for weights in edge_weights(image, (6, 8)):
        np.testing.assert_array_equal(weights, 1)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_lightness_and_both_axes_of_colour_make_edges(axis):
    lab = np.full((2, 5, 3), (60, 5, 5), np.float32)
    lab[1, :, axis] += 6  # of 100
    rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB) * 255
    np.testing.assert_allclose(np.log(edge_weights(rgb, (2, 5))[1]), -2.6, rtol=0.15)


def test_a_texture_is_less_of_an_edge_than_as_large_a_change_along_a_line():
    image = np.full((12, 24, 3), 100, np.uint8)
    image[:, 12:] = 120
    edge = edge_weights(image, (12, 24))[0][:, 11]
    image[:] = 100
    image[::2, ::2] = image[1::2, 1::2] = 120
    texture = edge_weights(image, (12, 24))[0]
    assert texture.min() > 5 * edge.max()


@given(seed=SEEDS)
def test_weights_of_a_mirrored_image_are_mirrored(seed):
    image = noise_image((7, 9), seed)
    across, down = edge_weights(image, (7, 9))
    mirrored = edge_weights(np.ascontiguousarray(image[:, ::-1]), (7, 9))
    np.testing.assert_allclose(mirrored[0], across[:, ::-1], rtol=1e-5)
    np.testing.assert_allclose(mirrored[1], down[:, ::-1], rtol=1e-5)
