# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The terms of DiffusionDepth's loss, computed a second time in NumPy as published."""

from marigold_training.objectives.diffusion_depth import l1, l2, latent_error, sig, TermWeights
import numpy as np
import pytest
import torch


def sparse_truth(shape, far):
    rng = np.random.default_rng(0)
    return np.where(rng.random(shape) < 0.05, rng.uniform(1.0, far, shape), 0.0)


@pytest.mark.parametrize('power', [1, 2])
def test_pixel_terms_are_means_over_each_images_known_pixels(power):
    truth = sparse_truth((3, 1, 20, 30), far=120.0)
    truth[2] = 0.0  # an image without a known pixel costs nothing
    depth = np.random.default_rng(1).uniform(0.0, 120.0, truth.shape)
    expected = []
    for one, known in zip(np.minimum(depth, 88.0), np.minimum(truth, 88.0), strict=True):
        errors = np.abs(one - known)[known > 1e-4] ** power
        expected.append(errors.mean() if len(errors) else 0.0)
    term = {1: l1, 2: l2}[power]
    found = term(torch.from_numpy(depth), torch.from_numpy(truth), 88.0)
    np.testing.assert_allclose(found.item(), np.mean(expected), rtol=1e-6)


def test_the_log_term_is_that_of_all_known_pixels():
    truth = sparse_truth((2, 1, 20, 30), far=120.0)
    depth = np.random.default_rng(1).uniform(0.1, 80.0, truth.shape)
    known = (truth > 0) & (truth <= 88.0)
    ratio = np.log(depth[known] + 1e-3) - np.log(truth[known] + 1e-3)
    expected = 2.0 * np.sqrt(ratio.var(ddof=1) + 0.15 * ratio.mean() ** 2)
    found = sig(torch.from_numpy(depth), torch.from_numpy(truth), 88.0)
    np.testing.assert_allclose(found.item(), expected, rtol=1e-6)


def test_the_latent_term_is_the_mean_over_the_counted_cells():
    rng = np.random.default_rng(0)
    found, wanted = rng.standard_normal((2, 2, 16, 8, 10))
    cells = (rng.random((2, 1, 8, 10)) < 0.5).astype(np.float64)
    chosen = np.broadcast_to(cells > 0, found.shape)
    error = latent_error(*map(torch.from_numpy, (found, wanted, cells)))
    np.testing.assert_allclose(error.item(), np.mean((found - wanted)[chosen] ** 2), rtol=1e-6)


def test_no_known_pixel_costs_nothing_and_moves_nothing():
    depth = torch.rand(1, 1, 8, 8, requires_grad=True)
    nothing = torch.zeros(1, 1, 8, 8)
    for term in (l1, l2, sig):
        assert term(depth, nothing, 88.0) == 0.0
    assert latent_error(torch.rand(1, 4, 4, 4), torch.rand(1, 4, 4, 4), nothing[..., :4, :4]) == 0


def test_the_published_weights_are_the_defaults():
    own = TermWeights()
    assert (own.ddim, own.l1, own.l2, own.sig) == (1.0, 1.0, 1.0, 0.0)
