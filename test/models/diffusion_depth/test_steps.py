# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""DiffusionDepth's noise, gradients and known cells; the oracle of the rest is the original."""

from marigold_ros.models.diffusion_depth.denoiser import add_noise, DenoisingBlock, refine
from marigold_ros.models.diffusion_depth.latent import known_cells
import numpy as np
import torch

LATENT = 16


def windows(x, size, stride, pad, value=0.0):
    """Windows (C, h, w, size, size) of an image (C, H, W)."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=value)
    seen = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return seen[:, ::stride, ::stride]


def remaining():
    """Share of the signal's variance at each of 1000 timesteps."""
    return np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def sparse_truth(shape, seed=0, far=80.0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.05, rng.uniform(1.0, far, shape), 0.0)


def test_the_refined_latent_carries_gradients_to_every_step():
    block = DenoisingBlock(16, 8, 8, fuse=False)
    features = torch.rand(1, 16, 4, 5, requires_grad=True)
    refine(block, torch.randn(1, 8, 4, 5), features, 20).square().mean().backward()
    reached = block.time.weight.grad.abs().sum(1).nonzero().ravel().tolist()
    assert reached == list(range(0, 1000, 50))
    assert features.grad.abs().sum() > 0


def test_noise_is_mixed_in_as_the_schedule_has_it():
    latent, noise = draw(3, LATENT, 4, 5), draw(3, LATENT, 4, 5, seed=1)
    timesteps = torch.tensor([0, 500, 999])
    kept = remaining()[timesteps.numpy()][:, None, None, None]
    expected = np.sqrt(kept) * latent.numpy() + np.sqrt(1.0 - kept) * noise.numpy()
    np.testing.assert_allclose(add_noise(latent, noise, timesteps).numpy(), expected, atol=1e-5)


def test_a_cell_with_a_known_pixel_is_known():
    known = sparse_truth((2, 1, 16, 20)) > 0
    cells = known_cells(torch.from_numpy(known)).numpy()
    expected = np.stack([windows(one.astype(float), 3, 2, 1).max((-2, -1)) for one in known])
    np.testing.assert_array_equal(cells, expected)
