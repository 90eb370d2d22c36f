# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Lines through weighted points are those of NumPy's solver."""

from __future__ import annotations

from marigold_ros.geometry.least_squares import weighted_line
import numpy as np
import pytest


@pytest.mark.parametrize('seed', range(5))
def test_a_line_is_that_of_the_normal_equations(seed):
    rng = np.random.default_rng(seed)
    x, y, weight = rng.normal(size=(3, 40))
    weight = np.abs(weight)
    slope, shift = np.polyfit(x, y, 1, w=np.sqrt(weight))
    assert weighted_line(x, y, weight) == pytest.approx((slope, shift))


def test_without_spread_the_line_is_level():
    y = np.array([1.0, 2.0, 6.0])
    assert weighted_line(np.ones(3), y, np.array([1.0, 1.0, 2.0])) == (0.0, 3.75)


def test_without_weight_the_line_is_the_median():
    assert weighted_line(np.arange(3.0), np.array([1.0, 2.0, 6.0]), np.zeros(3)) == (0.0, 2.0)
