# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metres to the depth latent and back, as in the code of DiffusionDepth.

Letters: B images, C latent channels, H, W image, h, w latent, half of these, rounded up.
"""

import torch
from torch import nn

CHANNELS = 16
SLOPE = 0.2  # of the encoder, for what is negative
SMALLEST = 1e-6  # of the decoder's sigmoid: nothing is farther than a million metres


class DepthLatent(nn.Module):
    """The encoder of sparse truth, which training alone needs, and the decoder of latents."""

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
