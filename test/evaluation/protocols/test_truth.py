# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Missing depth becomes that of the nearest fit point, and only where truth is known."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.evaluation.protocols.truth import substitute_missing
from marigold_ros.frame import SparseDepth
import numpy as np

SHAPE = (24, 32)


def planted(seed):
    """Depth and truth, both with holes, and fit points."""
    rng = np.random.default_rng(seed)
    depth, truth = rng.uniform(1, 50, (2, *SHAPE)).astype(np.float32)
    depth[rng.random(SHAPE) < rng.random()] = np.nan
    truth[rng.random(SHAPE) < 0.2] = np.nan
    v, u = np.divmod(rng.choice(depth.size, rng.integers(1, 60), replace=False), SHAPE[1])
    return depth, truth, SparseDepth(u, v, rng.uniform(1, 50, len(u)).astype(np.float32))


def squared_distances(fit):
    """Squared distance of every pixel to every fit point."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (u[..., None] - fit.u) ** 2 + (v[..., None] - fit.v) ** 2


@given(st.integers(0, 2**32 - 1))
def test_every_hole_with_truth_takes_a_nearest_fit_point(seed):
    depth, truth, fit = planted(seed)
    before = depth.copy()
    complete = substitute_missing(depth, truth, fit)
    assert np.array_equal(depth, before, equal_nan=True)
    hole = np.isnan(depth) & np.isfinite(truth)
    assert np.array_equal(complete[~hole], depth[~hole], equal_nan=True)
    distance = squared_distances(fit)[hole]
    # Of points equally near any may count.
    nearest = distance == distance.min(axis=1, keepdims=True)
    assert (nearest & (fit.z == complete[hole][:, None])).any(axis=1).all()


@given(st.integers(0, 2**32 - 1))
def test_pixels_and_whole_images_are_completed_alike(seed):
    depth, truth, fit = planted(seed)
    v, u = np.nonzero(np.isfinite(truth))
    at = SparseDepth(u, v, truth[v, u])
    assert (
        substitute_missing(depth, truth, fit)[v, u]
        == (substitute_missing(depth[v, u], at.z, fit, at))
    ).all()


def test_without_a_fit_point_depth_stays_missing():
    depth, truth, _ = planted(0)
    nothing = SparseDepth(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32))
    assert np.array_equal(substitute_missing(depth, truth, nothing), depth, equal_nan=True)
