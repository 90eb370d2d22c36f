# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bad input of a sensor rig: a state and a reason, never wrong depth."""

from dataclasses import replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry import align
import numpy as np
import pytest

SHAPE = (120, 160)
METHODS = ('median', 'least_squares', 'global', 'local')
CONTRADICTED = {'scale_not_positive', 'few_agree'}


def street(n=400, seed=0):
    """Return a road that recedes upwards, its prediction and points on it."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    truth = 4.0 + 36.0 * (1 - v / SHAPE[0]) ** 2 + 2 * np.sin(u / 20)
    pixel = rng.choice(truth.size, n, replace=False)
    v, u = np.divmod(pixel, SHAPE[1])
    prediction = Prediction(((truth - 1) / 45).astype(np.float32))
    return prediction, SparseDepth(u, v, truth[v, u].astype(np.float32)), truth


def few(sparse, n):
    return SparseDepth(sparse.u[:n], sparse.v[:n], sparse.z[:n])


def all_wrong(sparse):
    rng = np.random.default_rng(1)
    return replace(sparse, z=np.exp(rng.uniform(-1, 4.5, len(sparse))).astype(np.float32))


# What is done to the points, and the codes of the reasons that may follow.
BAD = {
    'no point': (lambda s: few(s, 0), {'few_points'}),
    'one point': (lambda s: few(s, 1), {'few_points'}),
    'all on one depth': (lambda s: replace(s, z=np.full_like(s.z, 7)), {'one_depth'}),
    'all outliers': (all_wrong, CONTRADICTED),
    'all NaN': (lambda s: replace(s, z=np.full_like(s.z, np.nan)), {'few_points'}),
    'all infinite': (lambda s: replace(s, z=np.full_like(s.z, np.inf)), {'few_points'}),
    'behind the camera': (lambda s: replace(s, z=-s.z), {'few_points'}),
    'upside down': (
        lambda s: replace(s, u=SHAPE[1] - 1 - s.u, v=SHAPE[0] - 1 - s.v),
        CONTRADICTED,
    ),
    'all in one pixel': (lambda s: replace(s, u=s.u * 0 + 5, v=s.v * 0 + 5), {'constant_map'}),
}


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('case', BAD)
def test_bad_points_are_refused_with_the_reason_and_its_values(case, method):
    prediction, sparse, _ = street()
    change, codes = BAD[case]
    alignment = align(prediction, change(sparse), AlignmentConfig(method=method))
    assert alignment.state == 'none'
    assert alignment.metric is None
    assert alignment.refusal.code in codes
    if codes == {'few_points'}:
        values = {'usable': 0 if len(change(sparse)) != 1 else 1, 'needed': 20}
        assert alignment.refusal.values == {**values, 'offered': len(change(sparse))}
        assert 'frame_id of the images is optical' in alignment.reason


@pytest.mark.parametrize('method', METHODS[2:])
def test_some_bad_points_among_good_ones_do_no_harm(method):
    prediction, sparse, truth = street()
    z = sparse.z.copy()
    z[:20], z[20:40], z[40:60] = np.nan, np.inf, -1
    # The same pixels again, with other depths.
    twice = SparseDepth(
        np.concatenate([sparse.u, sparse.u[60:100]]),
        np.concatenate([sparse.v, sparse.v[60:100]]),
        np.concatenate([z, np.float32(1.7) * z[60:100]]),
    )
    alignment = align(prediction, twice, AlignmentConfig(method=method))
    assert alignment.state == 'fitted'
    assert np.median(np.abs(alignment.metric / truth - 1)) < 0.01
    assert np.max(np.abs(alignment.metric / truth - 1)) < 0.1
    assert not alignment.inlier[:60].any()


@pytest.mark.parametrize('share', [0.75, 0.85, 0.95])
def test_outliers_beyond_the_breakdown_are_reported_not_fitted(share):
    prediction, sparse, _ = street(600)
    rng = np.random.default_rng(2)
    wrong = rng.random(600) < share
    z = np.where(wrong, np.exp(rng.uniform(-1, 4.5, 600)), sparse.z).astype(np.float32)
    for method in METHODS[2:]:
        alignment = align(prediction, replace(sparse, z=z), AlignmentConfig(method=method))
        assert alignment.state == 'none'
        assert alignment.refusal.code in CONTRADICTED


def test_median_fit_is_exact_and_withstands_outliers():
    prediction, sparse, truth = street()
    scaled = Prediction((truth / 50).astype(np.float32))
    z = sparse.z.copy()
    z[:120] *= 3
    alignment = align(scaled, replace(sparse, z=z), AlignmentConfig(method='median'))
    assert (alignment.scale, alignment.shift) == (pytest.approx(50, rel=1e-4), 0.0)
    np.testing.assert_allclose(alignment.metric, truth, rtol=1e-3)


def test_least_squares_is_exact_without_outliers():
    prediction, sparse, truth = street()
    alignment = align(prediction, sparse, AlignmentConfig(method='least_squares'))
    np.testing.assert_allclose(alignment.metric, truth, rtol=1e-3)
