# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A U-Net that maps an image to relative depth: encoder, decoder with skip connections.

Convolutions begin at half resolution on 2x2 blocks of pixels, and most weights are at the coarse
levels, because the fine ones dominate the time on a CPU. Group norms make each image's answer its
own, whatever the batch. Letters: B images, H, W image.
"""

from collections.abc import Sequence
from typing import Any

from marigold_ros.models.unet.folder import SIDE
import torch
from torch import nn
from torch.nn import functional

CHANNELS, BLOCKS = (24, 48, 96, 192, 320), (1, 1, 2, 1)
GROUPS = 8  # of the norms; channels are multiples


def are_sizes(channels: Any, blocks: Any) -> bool:
    """Return whether a U-Net of these channels and blocks can be built."""
    if not all(isinstance(value, (list, tuple)) for value in (channels, blocks)):
        return False
    if not all(type(number) is int for number in (*channels, *blocks)):
        return False
    wide = all(number > 0 and number % GROUPS == 0 for number in channels)
    return wide and min(blocks, default=-1) >= 0 and len(channels) == len(blocks) + 1


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Build a 3x3 convolution and its norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(GROUPS, outputs)
    )


class Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to the same."""
        change = self.second(functional.relu(self.first(x)))
        # The sum x + change: OpenVINO 2026.4 crashes on an addition behind a group norm.
        return functional.relu(x - (-change))


class DepthUNet(nn.Module):
    """
    A U-Net from image to relative depth.

    Parameters
    ----------
    channels : sequence of int
        At each level, from half resolution down; multiples of 8.
    blocks : sequence of int
        Residual blocks of each level but the first.

    """

    def __init__(self, channels: Sequence[int] = CHANNELS, blocks: Sequence[int] = BLOCKS) -> None:
        super().__init__()
        self.channels, self.blocks = tuple(channels), tuple(blocks)
        steps = list(zip(self.channels, self.channels[1:], strict=False))
        cells = SIDE * SIDE
        self.first = convolution(3 * cells, self.channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(
                convolution(fine, coarse, 2),
                nn.ReLU(),
                *(Residual(coarse) for _ in range(count)),
            )
            for (fine, coarse), count in zip(steps, self.blocks, strict=True)
        )
        self.whole = nn.Linear(self.channels[-1], self.channels[-1])
        self.up = nn.ModuleList(convolution(a + b, a) for a, b in reversed(steps))
        self.last = nn.Conv2d(self.channels[0], cells, 3, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to relative values (B, 1, H, W), not clamped."""
        x = functional.relu(self.first(functional.pixel_unshuffle(image, SIDE)))
        skipped = []
        for level in self.down:
            skipped.append(x)
            x = level(x)
        # The scene as a whole: what a receptive field may not reach.
        x = x + self.whole(x.mean((2, 3)))[..., None, None]
        for level, fine in zip(self.up, reversed(skipped), strict=True):
            x = functional.interpolate(x, size=fine.shape[-2:], mode='nearest')
            x = functional.relu(level(torch.cat([x, fine], 1)))
        return functional.pixel_shuffle(self.last(x), SIDE)
