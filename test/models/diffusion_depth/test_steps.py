# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""DiffusionDepth's steps and latent; the oracle of the rest is the original."""

from marigold_ros.models.diffusion_depth.denoiser import DenoisingBlock, refine
from marigold_ros.models.diffusion_depth.network import Architecture, DepthLatent
import pytest
import torch


def test_the_refined_latent_carries_gradients_to_every_step():
    block = DenoisingBlock(16, 8, 8, fuse=False)
    features = torch.rand(1, 16, 4, 5, requires_grad=True)
    refine(block, torch.randn(1, 8, 4, 5), features, 20).square().mean().backward()
    reached = block.time.weight.grad.abs().sum(1).nonzero().ravel().tolist()
    assert reached == list(range(0, 1000, 50))
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize('rectify', [True, False])
def test_noise_has_both_signs_unless_it_is_rectified(rectify):
    block = DenoisingBlock(8, 8, 8, fuse=False, rectify=rectify)
    noise = block(torch.randn(1, 8, 6, 6), torch.tensor([500]), torch.randn(1, 8, 6, 6))
    assert (noise > 0).any()
    assert (noise < 0).any() != rectify


def test_the_latent_has_half_the_size_and_its_metres_an_end():
    latent = DepthLatent(8).eval().requires_grad_(False)
    encoded = latent.encode(torch.ones(1, 1, 5, 7))
    assert tuple(encoded.shape[1:]) == Architecture(latent=8).noise_shape(5, 7)
    latent.decoder[-1].bias.fill_(-200.0)
    torch.testing.assert_close(latent.decode(encoded), torch.full((1, 1, 6, 8), 1e6))
