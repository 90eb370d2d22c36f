# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Upsample by two and convolve in one step, by four ninths of the multiplications.

After nearest-neighbour upsampling four pixels are equal, and a 3x3 convolution multiplies each by
weights of its own. With these weights summed, both steps are one transposed convolution of 4x4 and
stride 2: the same answer, up to rounding.
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


class MergedUpsampling(nn.Module):
    """Both steps of ``layer`` in one; while ``exact`` is set, ``layer`` itself answers."""

    weight: torch.Tensor

    def __init__(self, layer: Upsample2D) -> None:
        super().__init__()
        self.layer, self.exact = layer, False
        self.register_buffer('weight', merged_weight(layer.conv.weight.detach()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to (B, D, 2 h, 2 w)."""
        if self.exact:
            return self.layer(x)
        bias = self.layer.conv.bias
        return functional.conv_transpose2d(x, self.weight, bias, stride=2, padding=1)


def merged_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return the transposed convolution's weight (C, D, 4, 4) for a 3x3 one's (D, C, 3, 3)."""
    # Sums over 2x2 neighbours, those beyond the borders zero.
    sums = functional.avg_pool2d(weight.flip(2, 3), 2, stride=1, padding=1, divisor_override=1)
    return sums.transpose(0, 1).contiguous()


def merge_upsampling(autoencoder: AutoencoderKL | AutoencoderTiny) -> None:
    """Replace the layers of a decoder that upsample and convolve, in place."""
    # Weights made in inference mode would never carry gradients again.
    with torch.inference_mode(False):
        for block in getattr(autoencoder.decoder, 'up_blocks', ()):  # AutoencoderTiny has none
            if block.upsamplers is not None:
                block.upsamplers = nn.ModuleList(map(MergedUpsampling, block.upsamplers))


@contextmanager
def exact_upsampling(autoencoder: nn.Module) -> Iterator[None]:
    """Inside, the layers that were replaced answer, with the same bits as before."""
    replaced = [part for part in autoencoder.modules() if isinstance(part, MergedUpsampling)]
    for part in replaced:
        part.exact = True
    try:
        yield
    finally:
        for part in replaced:
            part.exact = False
