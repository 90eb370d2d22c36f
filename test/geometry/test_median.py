# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The median is NumPy's."""

from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from marigold_ros.geometry.median import median
import numpy as np


@given(arrays(np.float32, array_shapes(max_dims=2)) | arrays(np.float64, array_shapes(max_dims=1)))
def test_it_is_numpys_to_the_bit(values):
    with np.errstate(invalid='ignore', over='ignore'):
        np.testing.assert_array_equal(median(values), np.median(values))


@given(arrays(np.uint8, array_shapes(max_dims=1)))
def test_whole_numbers_have_one_too(values):
    assert median(values) == np.median(values)
