# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Simulated predictions and LiDARs, and the errors of alignments on them."""

from alignment_cases import five_nearest, least_squares, measure, tukey
from marigold_ros.errors import InputError
from marigold_ros.synthetic.scenes.scene import make_sample
import numpy as np
import pytest
from simulated_predictions import (
    ERROR_KINDS,
    near_edges,
    PATTERNS,
    PointPattern,
    sample_points,
    simulate_map,
    simulate_prediction,
)


@pytest.fixture(scope='module')
def depth():
    return make_sample(0, 160, 120, kind='room').depth


@pytest.mark.parametrize('kind', ERROR_KINDS)
@pytest.mark.parametrize('pattern', PATTERNS, ids=lambda p: p.name)
def test_a_seed_gives_one_prediction_with_points_in_its_pattern(depth, kind, pattern):
    one, other = (simulate_prediction(depth, pattern, kind, 3) for _ in range(2))
    np.testing.assert_array_equal(one.prediction.relative, other.prediction.relative)
    np.testing.assert_array_equal(one.sparse.z, other.sparse.z)
    relative, sparse = one.prediction.relative, one.sparse
    assert (relative.min(), relative.max()) == (0, 1)
    assert len(sparse) <= pattern.points
    if pattern.rows:
        assert len(np.unique(sparse.v)) <= pattern.rows
        assert sparse.v.min() >= 0.3 * 120 - 1
    wrong = np.abs(sparse.z / depth[sparse.v, sparse.u] - 1) > 0.06
    assert 0 < wrong.mean() < 0.25
    assert one.error(depth) == 0
    assert one.error(1.1 * depth) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize('part', ['near', 'far', 'left'])
def test_parts_of_the_scene_can_be_left_without_points(depth, part):
    sparse = simulate_prediction(depth, PointPattern('', 100, part=part), 'smooth', 0).sparse
    at = depth[sparse.v, sparse.u]
    if part == 'left':
        assert sparse.u.max() < 80
    elif part == 'near':
        assert at.max() <= np.percentile(depth, 30) + 1e-6
    else:
        assert at.min() >= np.percentile(depth, 70) - 1e-6


def test_edges_are_where_depth_steps_and_only_there():
    depth = np.full((60, 80), 2.0, np.float32)
    depth[:, 40:] = 3.0
    near = near_edges(depth)
    assert near[:, 34:46].all()
    assert not near[:, :30].any()
    assert not near[:, 51:].any()
    depth[:, 40:] = 0
    assert not near_edges(depth).any()


def test_an_image_without_truth_is_an_error():
    with pytest.raises(InputError, match='none'):
        simulate_prediction(np.zeros((9, 9)), PATTERNS[0], 'smooth', 0)


def test_reference_alignments_are_exact_on_exact_points():
    rng = np.random.default_rng(0)
    relative = rng.random((60, 80)).astype(np.float32)
    u, v = rng.integers(0, 80, 200), rng.integers(0, 60, 200)
    z = 9 * relative[v, u].astype(np.float64) + 1
    np.testing.assert_allclose(least_squares(relative[v, u], z), (9, 1), rtol=1e-5)
    np.testing.assert_allclose(tukey(relative[v, u], z), (9, 1), rtol=1e-5)
    np.testing.assert_allclose(five_nearest(relative, u, v, z), 9 * relative + 1, rtol=1e-4)


def test_local_beats_the_five_nearest_points_and_the_tukey_fit(depth):
    rows = measure([depth], 2, 0, lambda: None)['patterns']
    assert len(rows) == len(ERROR_KINDS) * len(PATTERNS)
    for row in rows:
        assert row['ratio'] < 1.1, row['pattern']
        assert row['ratio_to_tukey'] < 0.9, row['pattern']
        assert row['abs_rel']['local'] < row['abs_rel']['disparity']
    assert np.mean([row['ratio'] for row in rows]) < 0.85


def test_useless_maps_say_nothing_about_the_scene(depth):
    foreign = make_sample(1, 80, 60, kind='room').depth
    kinds = ('smooth', 'inverted', 'constant', 'foreign')
    found = {kind: simulate_map(depth, kind, 0, foreign).relative for kind in kinds}
    np.testing.assert_allclose(found['inverted'], 1 - found['smooth'])
    assert np.ptp(found['constant']) == 0
    assert all(relative.shape == depth.shape for relative in found.values())
    agree = {k: np.corrcoef(found[k].ravel(), depth.ravel())[0, 1] for k in ('smooth', 'foreign')}
    assert agree['foreign'] < 0.5 < agree['smooth']


def test_exact_points_lie_on_the_truth_and_wrong_ones_in_a_band_around_it(depth):
    rng = np.random.default_rng(0)
    exact = sample_points(rng, depth, PointPattern('', 300, outliers=0.0, noise=0.0))
    np.testing.assert_array_equal(exact.z, depth[exact.v, exact.u].astype(np.float32))
    pattern = PointPattern('', 300, outliers=0.5, factors=(0.5, 2.0), noise=0.0)
    ratio = (found := sample_points(rng, depth, pattern)).z / depth[found.v, found.u]
    assert 0.5 <= ratio.min() < 0.8
    assert 1.5 < ratio.max() <= 2.0
    assert 0.3 < np.mean(np.abs(ratio - 1) > 1e-5) < 0.7


def test_sectors_see_one_of_eight_blocks_of_columns(depth):
    rng = np.random.default_rng(0)
    u = sample_points(rng, depth, PointPattern('', 2000, part='sectors')).u
    assert set(np.unique(u // 2 % 8)) == {0}  # 80 blocks of 2 of the 160 columns
