# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The fusion network, a small U-Net on the work grid of ``geometry.fusion``.

It states a share for each candidate, a bounded residual that starts at zero, and the logarithm of
the relative error that it expects. Fully convolutional: any multiple of 16 cells.
"""

from collections.abc import Sequence
import math

from marigold_ros.fusion_channels import CANDIDATES, CHANNELS, TYPICAL_LOG
import torch
from torch import nn
from torch.nn import functional

# Error that is expected before training.
_START_ERROR = -3.0
_UNLIKELY = -3.0
_LEVEL = CHANNELS.index('level')
# Median depth of 99.8 % of the training scenes is 0.3 to 30 m. Far beyond, on a bench or from the
# air, the network extrapolates badly: there it sees the nearer bound.
_LEVELS = math.log(0.3) - TYPICAL_LOG, math.log(30.0) - TYPICAL_LOG


class ResidualBlock(nn.Module):
    """Two convolutions of 3x3, to fewer channels and back, around which the input is carried."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, inner, 3, padding=1)
        self.second = nn.Conv2d(inner, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, channels, h, w)."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class FusionNetwork(nn.Module):
    """
    A U-Net over ``fusion_channels.CHANNELS``.

    Parameters
    ----------
    channels, blocks, inner : sequence of int
        Width and number of residual blocks of each level, and the width within them; the first
        level works at half the resolution.

    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 112, 160),
        blocks: Sequence[int] = (1, 1, 2, 3),
        inner: Sequence[int] = (24, 32, 24, 24),
    ) -> None:
        super().__init__()
        self.channels, self.blocks, self.inner = tuple(channels), tuple(blocks), tuple(inner)
        pairs = list(zip(channels, channels[1:], strict=False))
        self.stem = nn.Conv2d(len(CHANNELS), channels[0], 4, stride=2, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, within) for _ in range(count)))
            for width, count, within in zip(channels, blocks, inner, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.widen = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        decoded = zip(channels[:-1], inner[:-1], strict=True)
        self.decoder = nn.ModuleList(ResidualBlock(width, within) for width, within in decoded)
        self.head = nn.Conv2d(channels[0], 4 * (len(CANDIDATES) + 2), 3, padding=1)
        nn.init.zeros_(self.head.weight)
        # Linear and the next candidate begin with equal shares, the others with hardly any.
        start = [0.0, 0.0, *[_UNLIKELY] * (len(CANDIDATES) - 2), 0.0, _START_ERROR]
        self.head.bias = nn.Parameter(torch.tensor(start).repeat_interleave(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Map (B, 18, rows, columns) to (B, 32, rows / 2, columns / 2).

        Logits of the shares, the correction of log depth before it is bounded, the log of the
        expected error; each in the four channels of its two rows and two columns.
        """
        seen = x[:, _LEVEL : _LEVEL + 1].clamp(*_LEVELS)
        x = self.stem(torch.cat([x[:, :_LEVEL], seen, x[:, _LEVEL + 1 :]], 1))
        kept = []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < len(self.shrink):
                kept.append(x)
                x = self.shrink[level](functional.relu(x))
        for level in reversed(range(len(self.widen))):
            wide = self.widen[level](x)
            x = functional.interpolate(wide, scale_factor=2.0, mode='nearest') + kept[level]
            x = self.decoder[level](x)
        return self.head(functional.relu(x))
