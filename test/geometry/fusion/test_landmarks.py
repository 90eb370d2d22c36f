# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Few and noisy points, of which many are wrong, as visual-inertial odometry gives them."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Camera, Frame, SparseDepth, SparseInput
from marigold_ros.geometry.fusion.fuse import align
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
import pytest
from simulated_predictions import ERROR_KINDS, PATTERNS, simulate_prediction

COUNT, WRONG = 100, 0.3


@pytest.fixture(scope='module')
def depths():
    found = []
    for kind in ('street', 'room'):
        for frame in simulate_drive(2, seed=3, kind=kind, width=320, height=240).frames:
            found.append(np.where(frame.depth < 100.0, frame.depth, 0.0))
    return found


def landmarks(depth, seed):
    """Landmarks of 3 % noise, three in ten of them wrong by 20 to 300 %."""
    rng = np.random.default_rng(seed)
    place = rng.choice(np.flatnonzero(depth > 0), COUNT, replace=False)
    v, u = np.divmod(place, depth.shape[1])
    z = depth[v, u] * rng.normal(1.0, 0.03, COUNT)
    factor = 1.0 + rng.uniform(0.2, 3.0, COUNT)
    factor = np.where(rng.random(COUNT) < 0.5, factor, 1.0 / factor)
    return SparseDepth(u, v, np.where(rng.random(COUNT) < WRONG, z * factor, z))


@pytest.mark.parametrize('method', ['local', 'fused'])
@pytest.mark.parametrize('kind', ERROR_KINDS)
def test_scale_is_within_three_per_cent(depths, kind, method):
    config, errors = AlignmentConfig(method=method), []
    for seed, depth in enumerate(depths * 2):
        prediction = simulate_prediction(depth, PATTERNS[0], kind, seed).prediction
        found = align(prediction, landmarks(depth, seed), config)
        assert found.state == 'fitted'
        known = depth > 0
        errors.append(abs(np.nanmedian(found.metric[known] / depth[known]) - 1.0))
    assert np.median(errors) < 0.03


def test_the_deviation_of_each_point_follows_it_through_the_projection():
    K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
    points = np.array([[0.0, 0, 5], [9, 9, 1], [1, 0, 5], [np.nan, 0, 3], [-1, 0.5, 8]])
    sigma = np.array([0.1, 9.0, 0.2, 9.0, np.nan])
    given = SparseInput('landmarks', points, np.eye(4), points_sigma=sigma)
    frame = Frame(np.zeros((48, 64, 3), np.uint8), Camera(K, 64, 48), inputs=[given])
    sparse, _ = sparse_of_frame(frame, AlignmentConfig())
    by_depth = dict(zip(sparse.index.tolist(), sparse.sigma.tolist(), strict=True))
    assert by_depth == pytest.approx({0: 0.1, 2: 0.2, 4: 0.0})
