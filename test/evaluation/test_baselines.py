# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Baselines recover planted surfaces, resist outliers and are finite everywhere."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.evaluation.baselines import (
    baseline_depths,
    BASELINES,
    fill_morphologically,
    interpolate_linear,
    interpolate_nearest,
    surface_depth,
    to_limited_metres,
)
from marigold_ros.frame import SparseDepth
from marigold_ros.spaces import from_metres
import numpy as np
import pytest
from scipy import ndimage

SIZE = (64, 48)
PIXELS = np.meshgrid(*map(np.arange, SIZE))  # columns, rows
SURFACES = {
    'depth': lambda x, y: 10 + 3 * x - 2 * y + x * x - x * y + 2 * y * y,
    'log': lambda x, y: np.exp(2 + 0.5 * x - 0.3 * y + 0.2 * x * x - 0.1 * x * y - 0.3 * y * y),
    'disparity': lambda x, y: 1 / (0.1 + 0.02 * x + 0.05 * y + 0.01 * x * y + 0.02 * y * y),
}


def sparse_of(z, rng, count=300):
    pixel = rng.choice(z.size, count, replace=False)
    v, u = np.divmod(pixel, z.shape[1])
    return SparseDepth(u, v, z[v, u])


def image(surface):
    v, u = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    return surface((u - 31.5) / 32, (v - 23.5) / 24)


@pytest.mark.parametrize('space', SURFACES)
def test_quadric_is_recovered_with_a_fifth_outliers(space):
    truth = image(SURFACES[space])
    rng = np.random.default_rng(3)
    sparse = sparse_of(truth, rng)
    wrong = rng.random(len(sparse)) < 0.2
    z = np.where(wrong, sparse.z * rng.uniform(1.5, 3.0, len(sparse)), sparse.z)
    found = surface_depth(SparseDepth(sparse.u, sparse.v, z), *PIXELS, SIZE, 2)
    assert np.abs(found / truth - 1).max() < 0.02


def test_plane_recovers_the_road_in_disparity_exactly():
    truth = image(lambda x, y: 1 / (0.12 + 0.1 * y + 0.01 * x))
    found = surface_depth(sparse_of(truth, np.random.default_rng(0)), *PIXELS, SIZE, 1)
    assert found == pytest.approx(truth, rel=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_a_higher_degree_is_never_worse_at_the_fit_points(seed):
    rng = np.random.default_rng(seed)
    z = rng.uniform(1, 60, 80)
    sparse = SparseDepth(rng.integers(0, 64, 80), rng.integers(0, 48, 80), z)
    errors = [
        np.mean(np.abs(surface_depth(sparse, sparse.u, sparse.v, SIZE, degree) - z) / z)
        for degree in (0, 1, 2)
    ]
    assert errors[1] <= errors[0] * 1.02
    assert errors[2] <= errors[1] * 1.02


def test_constant_is_as_good_as_the_best_of_all_constants():
    z = np.random.default_rng(5).lognormal(2, 0.8, 400)
    sparse = SparseDepth(np.arange(400) % 64, np.arange(400) // 64, z)
    found = surface_depth(sparse, 0, 0, SIZE, 0)
    best = min(np.mean(np.abs(c - z) / z) for c in np.linspace(z.min(), z.max(), 4000))
    assert np.mean(np.abs(found - z) / z) < best * 1.01


@pytest.mark.parametrize(
    ('name', 'exact'),
    [
        ('linear', image(lambda x, y: 10 + 3 * x - 2 * y)),
        ('disparity', image(lambda x, y: 1 / (0.2 + 0.05 * x + 0.03 * y))),
    ],
)
def test_each_interpolation_is_exact_in_the_space_of_its_name_and_nearest_outside(name, exact):
    v, u = (part.ravel() for part in np.mgrid[8:41:8, 8:57:8])
    rows, columns = np.mgrid[8:41, 8:57]
    sparse = SparseDepth(u, v, exact[v, u])
    assert baseline_depths(sparse, np.zeros(1, int), np.zeros(1, int), SIZE)[name] == exact[8, 8]
    found = baseline_depths(sparse, columns, rows, SIZE)
    assert found[name] == pytest.approx(exact[8:41, 8:57], rel=1e-9)
    (other,) = {'linear', 'disparity'} - {name}
    assert np.abs(found[other] / exact[8:41, 8:57] - 1).max() > 1e-3


def test_points_on_one_line_fall_back_to_the_nearest_one():
    at = np.array([1, 30, 63]), np.array([0, 47, 20])
    for count in (1, 2, 3, 10):
        u = np.arange(0, 6 * count, 6)
        sparse = SparseDepth(u, np.full(count, 20), np.linspace(1, 10, count))
        nearest = interpolate_nearest(sparse, *at)
        assert all((found == nearest).all() for found in interpolate_linear(sparse, *at))


def filled(sparse):
    """Morphological filling of the whole image."""
    v, u = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    return fill_morphologically(sparse, u, v, SIZE)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_filled_depth_stays_within_the_points_wherever_they_lie(seed, count, corner):
    rng = np.random.default_rng(seed)
    u, v = (low + rng.integers(0, 18, count) for low in corner)
    z = rng.uniform(0.2, 90, count)
    depth = filled(SparseDepth(u, v, z))
    assert depth.shape == SIZE[::-1]
    assert depth.min() >= z.min() * (1 - 1e-5)
    assert depth.max() <= z.max() * (1 + 1e-5)


def as_published(sparse):
    """IP-Basic in disparity, step by step with SciPy."""

    def dilated(image, footprint):
        return ndimage.grey_dilation(image, footprint=footprint, mode='constant', cval=-np.inf)

    image, (y, x) = np.zeros(SIZE[::-1]), np.mgrid[-2:3, -2:3]
    image[sparse.v, sparse.u] = 1 / sparse.z
    image = dilated(dilated(image, abs(x) + abs(y) <= 2), np.ones((5, 5)))
    image = ndimage.grey_erosion(image, footprint=np.ones((5, 5)), mode='constant', cval=np.inf)
    image = np.where(image > 0, image, dilated(image, np.ones((7, 7))))
    for column in image.T:
        for first in np.flatnonzero(column)[:1]:
            column[:first] = column[first]
    while (image == 0).any():
        image = np.where(image > 0, image, dilated(image, np.ones((31, 31))))
    image = ndimage.median_filter(image, 5, mode='nearest')
    for axis in (0, 1):
        image = ndimage.correlate1d(image, np.array([1, 4, 6, 4, 1]) / 16, axis, mode='mirror')
    return 1 / image


@pytest.mark.parametrize('count', [1, 20, 200])
def test_filling_is_that_of_ip_basic(count):
    rng = np.random.default_rng(count)
    sparse = sparse_of(rng.uniform(1, 50, SIZE[::-1]), rng, count)
    assert filled(sparse) == pytest.approx(as_published(sparse), rel=1e-5)


@pytest.mark.parametrize('space', SURFACES)
def test_depth_is_limited_in_every_space(space):
    value = from_metres(np.array([0.05, 5.0, 500.0]), space)
    assert to_limited_metres(value, space, (0.1, 100.0)) == pytest.approx([0.1, 5.0, 100.0])


def test_filling_without_a_point_is_an_error():
    nothing = SparseDepth(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    with pytest.raises(InputError) as refusal:
        filled(nothing)
    assert refusal.value.cause == 'empty'


def test_baselines_are_finite_and_in_range_at_every_pixel():
    rng = np.random.default_rng(8)
    sparse = SparseDepth(
        rng.integers(20, 40, 30), rng.integers(20, 30, 30), rng.uniform(1, 90, 30)
    )
    v, u = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    depths = baseline_depths(sparse, u, v, SIZE, (0.1, 100.0))
    assert tuple(depths) == BASELINES
    for depth in depths.values():
        assert depth.shape == u.shape
        assert np.isfinite(depth).all()
        assert depth.min() >= 0.1 - 1e-9
        assert depth.max() <= 100 + 1e-9


def test_too_few_points_are_an_error_with_the_number_needed():
    sparse = SparseDepth(np.arange(5), np.arange(5), np.ones(5))
    for fit in (
        lambda: surface_depth(sparse, sparse.u, sparse.v, SIZE, 2),
        lambda: baseline_depths(sparse, sparse.u, sparse.v, SIZE),
    ):
        with pytest.raises(InputError, match='5.*6') as refusal:
            fit()
        assert refusal.value.cause == 'empty'
