# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images are resampled as OpenCV and dense matrices do; `fit_image` is tested against torch."""

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.kernels.resampling import box_weights, resample, triangle_weights
import numpy as np
import pytest

SIDES = st.integers(1, 90)


def dense(weights, length):
    """Return weights as a matrix (cells, length)."""
    first, shares = weights
    matrix = np.zeros((len(first), length))
    for k in range(shares.shape[1]):
        matrix[np.arange(len(first)), first + k] += shares[:, k]
    return matrix


@pytest.mark.parametrize('weights_of', [box_weights, triangle_weights])
@given(length=st.integers(1, 2000), cells=st.integers(1, 300))
def test_weights_of_a_cell_are_those_of_a_mean(weights_of, length, cells):
    first, shares = weights_of(length, min(cells, length))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    assert shares.min() >= 0.0
    assert first.min() >= 0
    assert (first + shares.shape[1]).max() <= length


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 1000))
def test_an_image_is_resampled_as_by_matrices(shape, size, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    rows, columns = (triangle_weights(*side) for side in zip(shape, size, strict=True))
    down, across = dense(rows, shape[0]), dense(columns, shape[1])
    wanted = np.einsum('iv,vuc,ju->ijc', down, rgb.astype(float), across)
    np.testing.assert_allclose(resample(rgb, rows, columns), wanted, atol=1e-3)


@settings(deadline=None)
@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), st.integers(0, 1000))
def test_means_in_cells_are_those_of_opencv(one, other, seed):
    shape, size = (tuple(map(pick, one, other)) for pick in (max, min))
    rgb = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    weights = (box_weights(*side) for side in zip(shape, size, strict=True))
    wanted = cv2.resize(rgb.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(resample(rgb, *weights), wanted, atol=2e-3)
