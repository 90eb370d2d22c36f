# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sigma of fused depth is scaled to what held-out points say, by depth, and forgets slowly."""

from dataclasses import replace

from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.fusion_channels import CHANNELS, level_of
from marigold_ros.geometry.alignment.local_field import median_gap
from marigold_ros.geometry.fusion.fuse import FusionGuide
from marigold_ros.geometry.sigma.fused_sigma import (
    score_sigma,
    tiles_or_lines,
    with_scaled_sigma,
)
import numpy as np
import pytest

SHAPE = (96, 128)
RGB = np.full((*SHAPE, 3), 128, np.uint8)


def stating(error):
    """Return a network that keeps the linear candidate and expects one relative error."""

    def network(channels):
        change = np.zeros_like(channels[0])
        return np.stack([change, np.full_like(change, np.log(error)), change])

    return network


def points(noise, seed=0, near=3.0, far=30.0, n=800):
    """Return points all over a slope from far (above) to near, with a deviation of log depth."""
    rng = np.random.default_rng(seed)
    v, u = np.divmod(rng.choice(SHAPE[0] * SHAPE[1], n, replace=False), SHAPE[1])
    z = 1.0 / (1 / far + (1 / near - 1 / far) * v / (SHAPE[0] - 1))
    return SparseDepth(u, v, (z * np.exp(noise * rng.normal(size=n))).astype(np.float32))


def guide(network):
    return FusionGuide(RGB.shape[:2], RGB, network)


def fused(sparse, sigma=0.1):
    v = np.arange(SHAPE[0])[:, None] / (SHAPE[0] - 1)
    metric = np.repeat(1.0 / (1 / 30 + (1 / 3 - 1 / 30) * v), SHAPE[1], axis=1).astype(np.float32)
    inlier = np.ones(len(sparse), bool)
    return Alignment('fitted', metric=metric, sigma=sigma * metric, inlier=inlier)


@pytest.mark.parametrize('noise', [0.05, 0.2])
@pytest.mark.parametrize('stated', [0.02, 0.1, 0.5])
def test_whatever_sigma_is_stated_the_scaled_one_is_that_of_the_errors(stated, noise):
    sparse = points(noise)
    scale = score_sigma(None, fused(sparse), sparse, guide(stating(stated)))
    scaled = with_scaled_sigma(fused(sparse, stated), scale, sparse)
    relative = np.median((scaled.sigma / scaled.metric)[30:60, 30:90])
    # A point held out, and its neighbours that predict it, are noisy both.
    assert 0.9 * noise < relative < 1.6 * noise


def test_steps_in_which_errors_are_counted_do_not_show():
    sparse, found = points(0.1), []
    for stated in np.geomspace(0.1, 0.12, 9):
        scale = score_sigma(None, fused(sparse), sparse, guide(stating(stated)))
        scaled = with_scaled_sigma(fused(sparse, stated), scale, sparse)
        found.append(np.median((scaled.sigma / scaled.metric)[30:60, 30:90]))
    assert max(found) < 1.04 * min(found)


def test_each_range_of_depth_has_its_own_factor():
    near, far = points(0.02, 1), points(0.3, 2)
    z = np.where(near.z < 9.5, near.z, far.z[np.argsort(far.v)][np.argsort(np.argsort(near.v))])
    sparse = replace(near, z=z.astype(np.float32))
    scale = score_sigma(None, fused(sparse), sparse, guide(stating(0.1)))
    scaled = with_scaled_sigma(fused(sparse), scale, None)
    ratio = scaled.sigma / scaled.metric
    assert np.median(ratio[scaled.metric > 20]) > 3 * np.median(ratio[scaled.metric < 5])


def test_errors_count_at_the_depth_that_was_published():
    # A tenth of the points look through the surface at 4 m: far returns, predicted to be near.
    rng = np.random.default_rng(3)
    v, u = np.divmod(rng.choice(SHAPE[0] * SHAPE[1], 800, replace=False), SHAPE[1])
    through = rng.random(800) < 0.1
    sparse = SparseDepth(u, v, np.where(through, 30.0, 4.0).astype(np.float32))

    def surface(channels):
        linear = channels[CHANNELS.index('linear')]
        change = np.float32(np.log(4.0)) - level_of(channels) - linear
        return np.stack([change, np.full_like(change, np.log(0.1)), 0 * change])

    scale = score_sigma(None, fused(sparse), sparse, guide(surface))
    by_range = scale.counts.sum(axis=2)
    assert by_range[:, 0].sum() == by_range[:, 2:].sum() == 0
    assert by_range[:, 1].sum() > 300


def test_beyond_the_points_sigma_does_not_shrink():
    whole = points(0.01)
    kept = whole.v > 40
    stated = replace(fused(whole, 0.5), inlier=kept)
    scale = score_sigma(None, stated, whole, guide(stating(0.5)))
    scaled = with_scaled_sigma(stated, scale, whole)
    np.testing.assert_array_equal(scaled.sigma[:38], stated.sigma[:38])
    assert (scaled.sigma[60:80, 30:90] < 0.5 * stated.sigma[60:80, 30:90]).all()


def test_the_maps_share_of_sigma_is_widened_and_not_narrowed():
    # Factors are scored without a map, whose errors are its own.
    sparse = points(0.02)
    for stated, shrinks in ((0.5, True), (0.005, False)):
        scale = score_sigma(None, fused(sparse), sparse, guide(stating(stated)))
        plain = with_scaled_sigma(fused(sparse, stated), scale, None).sigma
        assert (plain < 0.5 * fused(sparse, stated).sigma).all() == shrinks
        for share in (0.0, 0.25, 1.0):
            with_map = replace(fused(sparse, stated), map_share=np.full((12, 16), share, 'f4'))
            scaled = with_scaled_sigma(with_map, scale, None).sigma
            kept = share * (with_map.sigma - plain) if shrinks else 0.0
            np.testing.assert_allclose(scaled, plain + kept, rtol=1e-6)


def test_one_frame_in_six_is_scored_and_older_ones_are_forgotten():
    calm, rough = points(0.02), points(0.3)
    scale, network = None, stating(0.1)
    levels = []
    for sparse in [calm] * 36 + [rough] * 36:
        before = scale
        scale = score_sigma(scale, fused(sparse), sparse, guide(network))
        if before is not None:
            assert (scale.counts is before.counts) == (before.frames % 6 > 0)
        levels.append(np.median(with_scaled_sigma(fused(sparse), scale, None).sigma))
    assert levels[-1] > 7 * levels[35]


def test_frames_that_say_nothing_change_nothing():
    sparse = points(0.1)
    scale = score_sigma(None, fused(sparse), sparse, guide(None))
    few = SparseDepth(sparse.u[:25], sparse.v[:25], sparse.z[:25])
    for nothing in (None, few):
        assert score_sigma(None, fused(few), nothing, guide(None)) is None
    unused = replace(fused(sparse), inlier=np.zeros(len(sparse), bool))
    assert score_sigma(None, unused, sparse, guide(None)) is None
    after = score_sigma(replace(scale, frames=6), unused, sparse, guide(None))
    assert (after.frames, after.counts is scale.counts) == (7, True)
    held = replace(fused(sparse), inlier=None)
    assert score_sigma(scale, held, sparse, guide(None)) is scale
    plain, of_map = replace(fused(sparse), sigma=None), replace(fused(sparse), led_by='map')
    for alignment, factors in ((plain, scale), (of_map, scale), (fused(sparse), None)):
        assert with_scaled_sigma(alignment, factors, sparse) is alignment


def test_scan_lines_are_held_out_as_a_whole_and_other_points_in_tiles():
    v, u = (part.ravel() for part in np.mgrid[4:120:10, 0:160:2])
    spacing = median_gap(u, v, (120, 160), among=True)
    held_out = tiles_or_lines(u, v, (120, 160), spacing)
    lines = [held_out[v == row] for row in np.unique(v)]
    assert all(line.all() or not line.any() for line in lines)
    assert 0.3 < held_out.mean() < 0.7
    assert not lines[0].any()
    assert not lines[-1].any()
    rng = np.random.default_rng(0)
    v, u = np.divmod(rng.choice(120 * 160, 400, replace=False), 160)
    spacing = median_gap(u, v, (120, 160), among=True)
    held_out = tiles_or_lines(u, v, (120, 160), spacing)
    assert 0.3 < held_out.mean() < 0.7
    assert any(0 < held_out[v == row].mean() < 1 for row in v)  # tiles, as these form no lines
