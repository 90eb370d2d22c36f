# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The masked loss of the fit: closed form and numerical minimiser agree; limits of the shift."""

from hypothesis import example, given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.alignment.affine_fit import (
    fit_by_method,
    fit_robustly,
    minimise_masked_loss,
    weighted_line,
)
import numpy as np
import pytest
from scipy.optimize import minimize


def masked_loss(x, y, weight, affine, share):
    residual = affine[0] * x + affine[1] - y
    total = weight.sum()
    return float(weight @ residual**2 / total + share * (weight @ residual / total) ** 2)


def planted(seed, n=60):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.02, 0.98, n)
    y = rng.uniform(1, 40) * x + rng.uniform(-5, 5) + rng.normal(size=n)
    return x, y, rng.uniform(0.1, 2, n)


@given(seed=st.integers(0, 10**6))
def test_with_a_free_shift_the_share_does_not_move_the_minimum(seed):
    data = planted(seed)
    free = (-np.inf, np.inf)
    affine = minimise_masked_loss(*data, 0.0, free)
    assert minimise_masked_loss(*data, 0.85, free) == affine
    for share in (0.0, 0.85):
        best = masked_loss(*data, affine, share)
        found = minimize(lambda p, s=share: masked_loss(*data, p, s), (1.0, 0.0))
        assert best <= found.fun * (1 + 1e-9)
        np.testing.assert_allclose(affine, found.x, rtol=1e-3, atol=1e-3)
    scale, shift = affine
    assert data[2] @ (scale * data[0] + shift - data[1]) == pytest.approx(0, abs=1e-8)


@pytest.mark.filterwarnings('ignore:Values in x were outside bounds')  # SciPy 1.14
@example(seed=4628, share=0.0, low=-1.0, width=1.0)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 2),
    low=st.floats(-10, 10),
    width=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_a_fixed_or_bounded_shift_is_solved_exactly(seed, share, low, width):
    data = planted(seed)
    affine = minimise_masked_loss(*data, share, (low, low + width))
    assert low <= affine[1] <= low + width
    bounds = [(None, None), (low, low + width)]
    found = minimize(
        lambda p: masked_loss(*data, p, share),
        (1.0, low + width / 2),
        jac='3-point',
        bounds=bounds,
        method='SLSQP',
        options={'ftol': 1e-15, 'maxiter': 1000},
    )
    assert masked_loss(*data, affine, share) <= found.fun * (1 + 1e-9)
    np.testing.assert_allclose(affine, found.x, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize('method', ['global', 'least_squares'])
def test_a_fit_keeps_its_shift_within_the_settings(method):
    x, y, sigma = planted(2)
    y = y + 20
    free = fit_by_method(x, y, sigma, AlignmentConfig(method=method))
    limit = 0.5 * free.shift
    bound = AlignmentConfig(method=method, shift_max=limit)
    fit = fit_by_method(x, y, sigma, bound)
    assert fit.shift == limit
    expected = minimise_masked_loss(x, y, free.weight / sigma**2, 0.85, (-1000.0, limit))
    assert (fit.scale, fit.shift) == expected


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


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_the_median_ratio_is_that_of_a_map_of_either_sign(sign):
    x = sign * np.linspace(0.1, 0.9, 9)
    fit = fit_by_method(x, 3.0 * x, np.full(9, 0.1), AlignmentConfig(method='median'))
    assert (fit.scale, fit.shift) == (pytest.approx(3.0), 0.0)


@pytest.mark.parametrize('seed', [3, 5, 8, 10])
def test_half_of_the_points_on_a_falling_line_do_not_turn_a_growing_fit(seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, 300)
    y = np.where(np.arange(300) < 149, 12 - 9 * x, 10 * x + 2) + rng.normal(0, 0.05, 300)
    assert fit_robustly(x, y, np.full(300, 0.1), 5).scale == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize(
    ('planted', 'found'), [(-5.0, -2.0), (-1.0, -1.0), (1.0, 1.0), (5.0, 2.0)]
)
@pytest.mark.parametrize('method', ['least_squares', 'global'])
def test_a_shift_beyond_its_limits_is_put_at_the_nearest(method, planted, found):
    x = np.linspace(0.1, 0.9, 40)
    config = AlignmentConfig(method=method, shift_min=-2.0, shift_max=2.0)
    fit = fit_by_method(x, 10.0 * x + planted, np.full(40, 0.5), config)
    assert fit.shift == pytest.approx(found)
    # With the shift at a limit, a scale that leaves less is not found beside it.
    left = [np.abs(s * x + fit.shift - 10.0 * x - planted).max() for s in (fit.scale, 10.0)]
    assert left[0] <= left[1] + 1e-9
