# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The terms of DiffusionDepth's loss, computed a second time in NumPy as published."""

from types import SimpleNamespace

from marigold_training.data.mixture import Batch
from marigold_training.objectives.diffusion_depth import (
    add_noise,
    diffusion_depth_loss,
    known_cells,
    l1,
    l2,
    latent_error,
    silog,
    TermWeights,
)
from marigold_training.objectives.noise import Draws
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


def test_the_log_term_is_the_mean_of_each_images_known_pixels():
    truth = sparse_truth((2, 1, 20, 30), far=120.0)
    depth = np.random.default_rng(1).uniform(-0.1, 80.0, truth.shape)
    expected = []
    for one, known in zip(depth, truth, strict=True):
        ratio = np.log(np.maximum(one, 1e-3) / np.where(known > 0, known, np.nan))[known > 0]
        expected.append(ratio.var() + 0.15 * ratio.mean() ** 2)
    unknown = np.where(truth > 0, truth, np.inf)
    found = silog(*map(torch.from_numpy, (depth, unknown, truth > 0)))
    np.testing.assert_allclose(found.item(), np.mean(expected), rtol=1e-6)


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
    assert l1(depth, nothing, 88.0) == l2(depth, nothing, 88.0) == 0.0
    assert silog(depth, nothing, nothing > 0) == 0.0
    assert latent_error(torch.rand(1, 4, 4, 4), torch.rand(1, 4, 4, 4), nothing[..., :4, :4]) == 0


def test_the_published_weights_are_the_defaults():
    own = TermWeights()
    assert (own.ddim, own.l1, own.l2) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize('term', ['ddim', 'l1', 'l2', 'silog', 'latent'])
def test_each_weight_is_that_of_its_term(term):
    truth = torch.from_numpy(sparse_truth((2, 1, 20, 30), far=80.0)).float()
    valid, depth, shape = truth > 0, truth + 1.5, (4, 10, 15)
    refined, encoded = torch.randn(2, 2, *shape)
    network = SimpleNamespace(
        architecture=SimpleNamespace(noise_shape=lambda height, width: shape),
        features=lambda rgb: None,
        refine=lambda features, noise: refined,
        denoiser=lambda noisy, timestep, features: torch.zeros_like(noisy),
        latent=SimpleNamespace(decode=lambda latent: depth, encode=lambda known: encoded),
    )
    weights = TermWeights(**{**dict.fromkeys(vars(TermWeights()), 0.0), term: 3.0})
    chain = SimpleNamespace(network=network, weights=weights, max_depth=88.0)
    batch = Batch(torch.zeros(2, 3, 20, 30), truth, valid, ~valid, truth, 'planted', (0, 1))
    cells = torch.nn.functional.max_pool2d(valid.float(), 3, 2, 1)
    draws = Draws(0, 0, (0, 1))
    draws.normal(shape)  # the noise that is refined
    expected = {
        'ddim': draws.normal(shape).square().mean(),  # predicted is no noise at all
        'latent': latent_error(refined, encoded, cells),
        'silog': silog(depth, truth, valid),
        **{name: f(depth, truth, 88.0) for name, f in (('l1', l1), ('l2', l2))},
    }
    found = diffusion_depth_loss(chain, batch, Draws(0, 0, (0, 1)))
    assert found.item() == pytest.approx(3.0 * expected[term].item(), rel=1e-5)
    assert expected[term] > 0


def test_noise_is_mixed_in_as_the_schedule_has_it():
    latent, noise = np.random.default_rng(0).standard_normal((2, 3, 16, 4, 5))
    timesteps = np.array([0, 500, 999])
    # The share of the signal's variance.
    kept = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))[timesteps, None, None, None]
    expected = np.sqrt(kept) * latent + np.sqrt(1.0 - kept) * noise
    found = add_noise(*map(torch.from_numpy, (latent, noise, timesteps)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_cell_with_a_known_pixel_is_known():
    known = np.random.default_rng(0).random((2, 1, 16, 20)) < 0.05
    around = np.pad(known, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (2, 3))[:, :, ::2, ::2]
    found = known_cells(torch.from_numpy(known)).numpy()
    np.testing.assert_array_equal(found, windows.any((-2, -1)))
