# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Weights of an average's members: closed forms, bad members, too few points, held-out scenes."""

from dataclasses import replace

from hypothesis import given, strategies
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.member_weights import least_variance_weights, weigh_members
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest

GLOBAL = AlignmentConfig(method='global')
SHAPE = (48, 64)


def uncorrelated(deviations, points=512):
    """Return errors (n, points) of given deviations, exactly uncorrelated and of mean 0."""
    draws = np.random.default_rng(0).normal(size=(points, len(deviations) + 1))
    draws[:, 0] = 1.0  # what the others are orthogonal to
    basis = np.linalg.qr(draws)[0][:, 1:]
    return np.sqrt(points) * basis.T * np.array(deviations)[:, None]


def average(*errors, seed=0):
    """Return members with errors (H, W) in log depth around a truth of 2 to 30 m, and points."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.02, 0.98, SHAPE)
    members = np.array([truth + error for error in errors], np.float32)
    v, u = np.divmod(rng.choice(truth.size, 600, replace=False), SHAPE[1])
    z = 2.0 * np.exp(truth * np.log(15.0))
    points = SparseDepth(u, v, z[v, u].astype(np.float32))
    return Prediction(members.mean(0), space='log', members=members), points


def noise(deviation, seed):
    return deviation * np.random.default_rng(seed).normal(size=SHAPE)


@given(strategies.lists(strategies.floats(0.1, 3.0), min_size=2, max_size=4))
def test_independent_errors_are_weighted_by_their_inverse_variance(deviations):
    found = least_variance_weights(uncorrelated(deviations))
    # The ridge is 1 % of the mean variance, added to each.
    variance = np.square(deviations) + 0.01 * np.mean(np.square(deviations))
    np.testing.assert_allclose(found, 1 / variance / np.sum(1 / variance), atol=1e-9)


@given(strategies.integers(0, 10**6), strategies.integers(2, 5))
def test_the_weights_are_positive_and_no_other_mean_errs_less(seed, count):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(count, count)) @ rng.normal(size=(count, 300))
    found = least_variance_weights(errors)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    variance = np.square(errors).mean()

    def loss(weights):
        return np.square(weights @ errors).mean() + 0.01 * variance * np.square(weights).sum()

    others = rng.dirichlet(np.full(count, 0.5), 200)
    assert loss(found) <= min(map(loss, others)) + 1e-9


def test_errors_of_zero_give_the_mean():
    np.testing.assert_allclose(least_variance_weights(np.zeros((3, 50))), 1 / 3)


def test_equal_members_give_the_member():
    error = noise(0.1, 1)
    prediction, points = average(error, error, error)
    found, weights = weigh_members(prediction, points, GLOBAL)
    np.testing.assert_allclose(weights, 1 / 3, atol=1e-9)
    np.testing.assert_allclose(found.relative, prediction.members[0], atol=1e-6)


def test_a_bad_member_loses_its_weight_and_outliers_do_not_bring_it_back():
    prediction, points = average(noise(0.02, 1), noise(0.4, 2))
    wrong = np.random.default_rng(3).random(len(points)) < 0.1
    z = np.where(wrong, 0.7 * points.z, points.z)
    found, weights = weigh_members(prediction, SparseDepth(points.u, points.v, z), GLOBAL)
    assert weights[0] > 0.9
    expected = np.tensordot(weights, prediction.members, 1)
    np.testing.assert_allclose(found.relative, expected, atol=1e-6)


def test_a_member_that_falls_where_depth_rises_loses_its_weight():
    prediction, points = average(noise(0.05, 1), noise(0.0, 2))
    members = prediction.members * np.array([1, -1], np.float32)[:, None, None]
    _, weights = weigh_members(replace(prediction, members=members), points, GLOBAL)
    assert weights[0] > 0.9


def test_a_scale_and_shift_of_a_member_change_no_weight():
    prediction, points = average(noise(0.05, 1), noise(0.1, 2))
    members = prediction.members.copy()
    members[1] = 0.5 * members[1] + 0.2
    pairs = prediction, replace(prediction, members=members)
    one, other = (weigh_members(each, points, GLOBAL)[1] for each in pairs)
    np.testing.assert_allclose(one, other, atol=0.01)


def test_without_points_held_weights_serve_if_there_are_any():
    prediction, points = average(noise(0.02, 1), noise(0.4, 2))
    few = points.chosen(np.arange(GLOBAL.min_points - 1))
    ground = replace(points, kind=PointKind.GROUND)
    held = np.array([0.25, 0.75])
    for given_points in (None, few, ground):
        found, weights = weigh_members(prediction, given_points, GLOBAL)
        assert found is prediction
        assert weights is None
        found, weights = weigh_members(prediction, given_points, GLOBAL, held)
        np.testing.assert_array_equal(weights, held)
        expected = 0.25 * prediction.members[0] + 0.75 * prediction.members[1]
        np.testing.assert_allclose(found.relative, expected, atol=1e-6)
    # The other member has failed on this image.
    alone = replace(prediction, members=prediction.members[:1])
    assert weigh_members(alone, None, GLOBAL, held)[0] is alone


@pytest.mark.parametrize('method', ['none', 'fixed'])
def test_methods_that_fit_nothing_leave_the_mean(method):
    prediction, points = average(noise(0.02, 1), noise(0.4, 2))
    config = AlignmentConfig(method=method, scale=1.0)
    assert weigh_members(prediction, points, config)[0] is prediction
