# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The network of DiffusionDepth: features of an image guide the denoising of a depth latent.

Letters: B images, C latent channels, H, W image, h, w latent, half of these, rounded up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marigold_ros.models.diffusion_depth.backbones import SIDE
from marigold_ros.models.diffusion_depth.denoiser import DenoisingBlock, refine
from marigold_ros.models.diffusion_depth.features import ImageFeatures
import torch
from torch import nn

CHANNELS = 16
SLOPE = 0.2  # of the encoder, for what is negative
SMALLEST = 1e-6  # of the decoder's sigmoid: nothing is farther than a million metres


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


class DepthLatent(nn.Module):
    """Encodes metres of sparse truth, for training alone, and decodes latents, as published."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Tanh(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 4, 2, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 3, 1, 1),
        )

    def encode(self, depth: torch.Tensor) -> torch.Tensor:
        """Encode depth (B, 1, H, W) in metres, 0 unknown, to latents (B, C, h, w) in [-1, 1]."""
        return self.encoder(depth)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode latents (B, C, h, w) to metres (B, 1, 2h, 2w), at least 0."""
        # Half precision would round distant depth to steps of metres.
        share = self.decoder(latent).float().sigmoid().clamp(min=SMALLEST)
        return 1.0 / share - 1.0


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
