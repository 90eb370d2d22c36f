# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""DiffusionDepth's noise, gradients and known cells; the oracle of the rest is the original."""

from marigold_ros.models.diffusion_depth.denoiser import add_noise, DenoisingBlock, refine
from marigold_ros.models.diffusion_depth.latent import known_cells
import numpy as np
import torch


def test_the_refined_latent_carries_gradients_to_every_step():
    block = DenoisingBlock(16, 8, 8, fuse=False)
    features = torch.rand(1, 16, 4, 5, requires_grad=True)
    refine(block, torch.randn(1, 8, 4, 5), features, 20).square().mean().backward()
    reached = block.time.weight.grad.abs().sum(1).nonzero().ravel().tolist()
    assert reached == list(range(0, 1000, 50))
    assert features.grad.abs().sum() > 0


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
