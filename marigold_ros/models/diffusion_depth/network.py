# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The network of DiffusionDepth: features of an image guide the denoising of a depth latent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marigold_ros.models.diffusion_depth.backbones import SIDE
from marigold_ros.models.diffusion_depth.denoiser import DenoisingBlock, refine
from marigold_ros.models.diffusion_depth.features import ImageFeatures
from marigold_ros.models.diffusion_depth.latent import CHANNELS, DepthLatent
import torch
from torch import nn


@dataclass(frozen=True)
class Architecture:
    """
    Sizes of a network; the defaults are those of the small one.

    Parameters
    ----------
    backbone, neck : mapping, int
        As of ``build_backbone``, and of ``ImageFeatures``.
    features, hidden, latent : int
        Channels of the features, inside the denoising block, and of the depth latent.
    fuse, rectify : bool
        As of ``DenoisingBlock``.
    steps : int
        DDIM steps, of training and inference alike: other numbers give other depth.

    """

    backbone: Mapping[str, Any] = field(
        default_factory=lambda: {'channels': [16, 32, 64, 128, 192], 'blocks': [1, 1, 1, 1]}
    )
    neck: int = 0
    features: int = 32
    hidden: int = 16
    latent: int = CHANNELS
    fuse: bool = False
    rectify: bool = False
    steps: int = 20

    def noise_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of the latent of an image."""
        return self.latent, -(-height // SIDE), -(-width // SIDE)


class DiffusionDepth(nn.Module):
    """The parts of an architecture; raises ConfigurationError for an unknown backbone."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        own = self.architecture = architecture
        self.features = ImageFeatures(own.backbone, own.neck, own.features)
        self.denoiser = DenoisingBlock(own.features, own.hidden, own.latent, own.fuse, own.rectify)
        self.latent = DepthLatent(own.latent)

    def refine(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Denoise noise (B, C, h, w) to a refined latent, by the features of images."""
        return refine(self.denoiser, noise, features, self.architecture.steps)

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) in [-1, 1] and noise (B, C, h, w) to metres (B, 1, H, W)."""
        latent = self.refine(self.features(image), noise)
        depth = self.latent.decode(latent.to(image.dtype))
        return depth[..., : image.shape[-2], : image.shape[-1]]
