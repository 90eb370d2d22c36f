# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Gradients through DiffusionDepth's steps; the oracle of the rest is the original."""

from marigold_ros.models.diffusion_depth.denoiser import DenoisingBlock, refine
import torch


def test_the_refined_latent_carries_gradients_to_every_step():
    block = DenoisingBlock(16, 8, 8, fuse=False)
    features = torch.rand(1, 16, 4, 5, requires_grad=True)
    refine(block, torch.randn(1, 8, 4, 5), features, 20).square().mean().backward()
    reached = block.time.weight.grad.abs().sum(1).nonzero().ravel().tolist()
    assert reached == list(range(0, 1000, 50))
    assert features.grad.abs().sum() > 0
