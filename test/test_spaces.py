# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Conversions between metres and the spaces of predictions, for arrays and tensors."""

import math

from marigold_ros.spaces import from_metres, SPACES, to_metres
import numpy as np
import pytest
import torch

Z = np.array([0.1, 1.0, 7.5, 80.0])


@pytest.mark.parametrize('space', SPACES)
def test_conversion_to_a_space_and_back_returns_metres(space):
    np.testing.assert_allclose(to_metres(from_metres(Z, space), space, 100.0), Z)


@pytest.mark.parametrize('space', SPACES)
def test_arrays_and_tensors_follow_one_rule(space):
    tensor = from_metres(torch.from_numpy(Z), space, torch.log)
    array = from_metres(Z, space)
    np.testing.assert_allclose(tensor.numpy(), array)
    metres = to_metres(tensor, space, 50.0, torch.exp)
    np.testing.assert_allclose(metres.numpy(), to_metres(array, space, 50.0))


@pytest.mark.parametrize('make', [np.asarray, torch.tensor])
def test_disparity_at_or_below_0_is_max_depth(make):
    disparity = make([-3.0, 0.0, 0.001, 0.5, float('nan')])
    np.testing.assert_allclose(
        to_metres(disparity, 'disparity', 100.0), [100, 100, 100, 2, np.nan]
    )


def test_disparity_0_is_infinite_without_a_limit():
    disparity = torch.tensor([-1.0, 0.0, 0.5])
    assert to_metres(disparity, 'disparity', math.inf).tolist() == [math.inf, math.inf, 2.0]


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('space', SPACES)
def test_conversion_keeps_the_dtype(space, dtype):
    assert from_metres(Z.astype(dtype), space).dtype == dtype
    assert to_metres(Z.astype(dtype), space, 100.0).dtype == dtype
