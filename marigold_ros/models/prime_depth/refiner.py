# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The refiner: the decoder of the frozen U-Net once more, at half its width, then a label decoder.

Each step of it takes the features and attention maps of the same step of the frozen decoder, mixed
by 1x1 convolutions, where the U-Net has its skip connections. The label decoder is that of an
autoencoder. Letters as in preimage.py; H, W image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from marigold_ros.models.prime_depth.preimage import CELLS, decoder_steps, Preimage, Step
import torch
from torch import nn
from torch.nn import functional

MOST_GROUPS, NORM_EPS = 32, 1e-5  # of the norms
LABELS = 3  # outputs of the label decoder, averaged


class Join(nn.Module):
    """Mix features and attention maps of one step, to half as many channels."""

    def __init__(self, step: Step, features: int, tokens: int) -> None:
        super().__init__()
        each = CELLS * CELLS + tokens
        kept = max(step.heads, default=0) * each // 2
        # Its inputs are those of the block before, and of the skip connection.
        self.features = nn.Conv2d(step.block.in_channels, features, 1)
        self.maps = nn.Conv2d(sum(step.heads) * each, kept, 1) if kept else None
        self.merge = nn.Conv2d(features + kept, features + kept, 1)

    def forward(self, features: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
        """Map (B, C, h, w) and (B, P, h, w) or None to (B, outputs, h, w)."""
        x = self.features(features)
        return self.merge(x if self.maps is None else torch.cat([x, self.maps(maps)], 1))


class Refiner(nn.Module):
    """
    The trained network, from a preimage to a map.

    ``config`` is that of the frozen U-Net, ``tokens`` the length of the prompt. ``decoder`` are
    the channels of the label decoder, from fine to coarse, multiples of 8, of which each but one
    doubles the size; ``layers`` are residual blocks at each of its sizes, less one.
    """

    text: torch.Tensor

    def __init__(
        self, config: Mapping[str, Any], tokens: int, decoder: Sequence[int], layers: int
    ) -> None:
        super().__init__()
        self.decoder, self.layers = tuple(decoder), layers
        with torch.device('meta'):
            frozen = UNet2DConditionModel.from_config(dict(config))
        half = UNet2DConditionModel.from_config(half_width(config))
        self.blocks = half.up_blocks
        self.joins = nn.ModuleList()
        steps, before = iter(decoder_steps(frozen)), 0
        for block in self.blocks:
            for number, own in enumerate(block.resnets):
                join = Join(next(steps), own.in_channels, tokens)
                block.resnets[number] = ResnetBlock2D(
                    # The first step has no block before it.
                    in_channels=before + join.merge.out_channels,
                    out_channels=own.out_channels,
                    temb_channels=frozen.time_embedding.linear_2.out_features,
                    groups=1,
                    eps=NORM_EPS,
                )
                self.joins.append(join)
                before = own.out_channels
        self.norm = nn.GroupNorm(1, before, NORM_EPS)
        self.features = nn.Conv2d(before, decoder[-1], 3, padding=1)
        self.labels = Decoder(
            in_channels=decoder[-1],
            out_channels=LABELS,
            up_block_types=('UpDecoderBlock2D',) * len(decoder),
            block_out_channels=self.decoder,
            layers_per_block=layers,
            norm_num_groups=1,
        )
        for norm in self.modules():
            if isinstance(norm, nn.GroupNorm):
                norm.num_groups = largest_divisor(norm.num_channels, MOST_GROUPS)
        set_norms(self.labels)
        self.register_buffer('text', torch.zeros(1, tokens, half.config.cross_attention_dim))

    def forward(self, preimage: Preimage) -> torch.Tensor:
        """Map a preimage to relative values (B, 1, H, W), not clamped."""
        joined = [
            join(*parts)
            for join, *parts in zip(self.joins, preimage.features, preimage.maps, strict=True)
        ]
        # A block puts its input before the first of these.
        x, joined[0] = joined[0].split([1, joined[0].shape[1] - 1], 1)
        for block in self.blocks:
            skips, joined = joined[: len(block.resnets)], joined[len(block.resnets) :]
            more: dict[str, Any] = {}
            if joined:
                more['upsample_size'] = joined[0].shape[-2:]
            if getattr(block, 'has_cross_attention', False):
                more['encoder_hidden_states'] = self.text.to(x).expand(len(x), -1, -1)
            x = block(x, tuple(reversed(skips)), temb=preimage.moment, **more)
        return self.labels(self.features(functional.silu(self.norm(x)))).mean(1, keepdim=True)


def half_width(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the configuration of a U-Net of half as many channels at each level.

    Its heads are as wide as those of the whole one, as far as they divide the channels.
    """
    channels, heads = config['block_out_channels'], config['attention_head_dim']
    every = [heads] * len(channels) if isinstance(heads, int) else heads
    halves = [one // 2 for one in channels]
    fewer = [
        half // largest_divisor(half, whole // count)
        for whole, half, count in zip(channels, halves, every, strict=True)
    ]
    return {
        **config,
        'block_out_channels': halves,
        'attention_head_dim': fewer,
        'norm_num_groups': 1,
        '_use_default_values': (),  # diffusers would replace own values by its own
    }


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of a number up to ``most``."""
    return next(one for one in range(min(number, most), 0, -1) if number % one == 0)


def set_norms(autoencoder: nn.Module) -> None:
    """Set the norms of an autoencoder as PrimeDepth does, other than Stable Diffusion."""
    for norm in autoencoder.modules():
        if isinstance(norm, nn.GroupNorm):
            norm.eps = NORM_EPS
