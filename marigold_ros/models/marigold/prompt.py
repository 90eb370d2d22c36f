# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A decoder that sees points: sparse depth enters each step of a Marigold's decoder.

After Marigold-SSD (Gregorek et al., arXiv 2603.10584): convolutions that start at zero, so that an
untrained prompt changes nothing; here each sees the decoder's features beside the points.
Letters: B images; H, W processing size, padded; h, w latent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL
from marigold_ros.errors import CheckpointError
from marigold_ros.frame import SparseDepth
from marigold_ros.models.facts import CONFIG
from marigold_ros.models.locate import PROMPT, read_json, require_file
from marigold_ros.models.marigold.guidance import LEAST_POINTS
from marigold_ros.models.weights import load_built
from marigold_ros.spaces import from_metres
import numpy as np
import torch
from torch import nn
from torch.nn import functional

# Of the points' values: what lies beyond may be outliers. Those of the training targets.
_QUANTILES = (0.02, 0.98)


class PointPrompt(nn.Module):
    """
    Convolutions that let the features of a decoder follow points.

    Parameters
    ----------
    channels : sequence of int
        Of the autoencoder's levels, the finest first: its ``block_out_channels``.
    width : int
        Channels of the blocks.

    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = width
        entering = [channels[-1], *channels[:0:-1]]  # of the up blocks
        self.blocks = nn.ModuleList(_block(count, width) for count in entering)

    @property
    def config(self) -> dict[str, Any]:
        """Content of its ``config.json``."""
        return {'width': self.width}

    def decode(
        self, autoencoder: AutoencoderKL, latent: torch.Tensor, raster: torch.Tensor
    ) -> torch.Tensor:
        """
        Decode a latent (B, C, h, w), not scaled, to (B, 3, H, W) as the autoencoder does.

        ``raster`` (B, 2, H, W) is that of :func:`rasterise`.
        """
        decoder = autoencoder.decoder
        again = decoder.gradient_checkpointing and torch.is_grad_enabled()
        run: Any = decoder._gradient_checkpointing_func if again else lambda layer, x: layer(x)
        quantised = autoencoder.post_quant_conv
        x = decoder.conv_in(latent if quantised is None else quantised(latent))
        x = run(decoder.mid_block, x)
        levels = spread_points(raster, len(self.blocks))
        for block, up, points in zip(self.blocks, decoder.up_blocks, levels, strict=True):
            x = run(up, x + run(block, torch.cat([x, points.to(x)], dim=1)))
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))


def _block(channels: int, width: int) -> nn.Sequential:
    last = nn.Conv2d(width, channels, 1)
    for weight in last.parameters():
        nn.init.zeros_(weight)
    return nn.Sequential(
        nn.Conv2d(channels + 2, width, 3, padding=1),
        nn.GroupNorm(1, width),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.SiLU(),
        last,
    )


def rasterise(
    sparse: SparseDepth, space: str, image: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """
    Return points in an image (H, W) on a grid of ``size``, (1, 2, *size) float32: value, occupied.

    Values are affine in ``space``, -1 and 1 at the 2nd and 98th percentile of the points, so that
    k times the metres give the same. The nearest point of a cell counts. Raises AlignmentError as
    :meth:`SparseDepth.as_input`.
    """
    u, v, z = sparse.as_input(image, LEAST_POINTS, PROMPT)
    order = np.argsort(-z, kind='stable')
    value = from_metres(z[order], space)
    low, high = np.quantile(value, _QUANTILES)
    if not high > low:  # nearly all of one depth
        low, high = value.min(), value.max()
    raster = np.zeros((2, *size), np.float32)
    cells = (x[order] * new // old for x, new, old in zip((v, u), size, image, strict=True))
    where = tuple(cells)
    share = np.clip((value - low) / (high - low), -1.0, 2.0)  # farther out are outliers
    raster[0][where], raster[1][where] = 2.0 * share - 1.0, 1.0  # the last of a cell stays
    return torch.from_numpy(raster)[None]


def spread_points(raster: torch.Tensor, count: int) -> list[torch.Tensor]:
    """
    Return a raster (B, 2, H, W) at ``count`` levels, doubled from one to the next.

    A cell with points has their mean, another one the value of the coarser levels around it: each
    value is known, and the second channel says whether it was measured there.
    """
    sums = [raster.float()]  # both channels are 0 without points
    while len(sums) < count or max(sums[-1].shape[-2:]) > 1:
        sums.append(functional.avg_pool2d(sums[-1], 2, ceil_mode=True))
    levels: list[torch.Tensor] = []
    for both in reversed(sums):
        total, weight = both.split(1, dim=1)
        mean = total / weight.clamp(min=1e-12)
        if levels:
            size = mean.shape[-2:]
            around = functional.interpolate(levels[-1][:, :1], size, mode='bilinear')
            mean = torch.where(weight > 0, mean, around)
        levels.append(torch.cat([mean, (weight > 0).to(mean)], dim=1))
    return levels[-count:]


def load_prompt(folder: Path, autoencoder: Any) -> PointPrompt | None:
    """
    Load the prompt of a checkpoint's folder, for its own autoencoder; None where there is none.

    Raises CheckpointError if a file is missing or damaged, or belongs to another autoencoder.
    """
    part = folder / PROMPT
    if not part.is_dir():
        return None
    width = read_json(require_file(folder, f'{PROMPT}/{CONFIG}')).get('width', 0)
    if not isinstance(autoencoder, AutoencoderKL):
        raise CheckpointError(
            f'{part} belongs to the decoder of an AutoencoderKL, and {folder.name} has an '
            f'{type(autoencoder).__name__}; remove {PROMPT}/ to predict without points'
        )
    channels = autoencoder.config.block_out_channels
    return load_built(part, lambda: PointPrompt(channels, width))
