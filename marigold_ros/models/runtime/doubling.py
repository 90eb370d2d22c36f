# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Enlarge and convolve in one step, by four ninths of the multiplications.

A map doubled by its nearest neighbour has four equal pixels for each, so that a 3x3 convolution
multiplies them one by one by weights that could be summed first. The sums are the weights of a
transposed convolution of 4x4 with stride 2: the same answer, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny
    from diffusers.models.upsampling import Upsample2D


class Doubling(nn.Module):
    """In place of ``layer``; while ``exact`` is set, ``layer`` itself answers."""

    weight: torch.Tensor

    def __init__(self, layer: Upsample2D) -> None:
        super().__init__()
        self.layer, self.exact = layer, False
        self.register_buffer('weight', doubling_weight(layer.conv.weight.detach()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, D, 2 h, 2 w)."""
        if self.exact:
            return self.layer(x)
        bias = self.layer.conv.bias
        return functional.conv_transpose2d(x, self.weight, bias, stride=2, padding=1)


def doubling_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return what enlarges and convolves at once (C, D, 4, 4), from the 3x3 one's (D, C, 3, 3)."""
    # Sums over 2x2 neighbours, those beyond the borders zero.
    sums = functional.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1, divisor_override=1)
    return sums.transpose(0, 1).contiguous()


def merge_doublings(autoencoder: AutoencoderKL | AutoencoderTiny) -> None:
    """Replace the layers of a decoder that double and convolve, in place."""
    # Weights made in inference mode would never carry gradients again.
    with torch.inference_mode(False):
        for block in getattr(autoencoder.decoder, 'up_blocks', ()):  # AutoencoderTiny has none
            if block.upsamplers is not None:
                block.upsamplers = nn.ModuleList(map(Doubling, block.upsamplers))


@contextmanager
def exact_doublings(autoencoder: nn.Module) -> Iterator[None]:
    """Inside, the layers that were replaced answer, to the last bit."""
    replaced = [part for part in autoencoder.modules() if isinstance(part, Doubling)]
    for part in replaced:
        part.exact = True
    try:
        yield
    finally:
        for part in replaced:
            part.exact = False
