# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The refiner: the decoder of the frozen U-Net once more, at half its width, then a label decoder.

Each step of it takes the features and attention maps of the same step of the frozen decoder, mixed
by a 1x1 convolution, where the U-Net has its skip connections. The label decoder is that of an
autoencoder. Letters as in preimage.py; H, W image.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import Decoder
from marigold_ros.models.prime_depth.preimage import decoder_steps, Preimage
import torch
from torch import nn
from torch.nn import functional

MOST_GROUPS = 32  # of the norms, as in Stable Diffusion


class Join(nn.Module):
    """Mix features and attention maps of one step to some channels."""

    def __init__(self, features: int, maps: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(MOST_GROUPS, features), features)
        self.mix = nn.Conv2d(features + maps, outputs, 1)

    def forward(self, features: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
        """Map (B, C, h, w) and (B, P, h, w) or None to (B, outputs, h, w)."""
        x = self.norm(features)
        return self.mix(x if maps is None else torch.cat([x, maps], 1))


class Refiner(nn.Module):
    """
    The trained network, from a preimage to a map.

    Parameters
    ----------
    config : mapping
        Configuration of the frozen U-Net.
    tokens : int
        Of the prompt.
    decoder : sequence of int
        Channels of the label decoder, from fine to coarse; multiples of 8. Each but one doubles
        the size.
    layers : int
        Residual blocks at each of its sizes, less one.

    """

    text: torch.Tensor

    def __init__(
        self, config: Mapping[str, Any], tokens: int, decoder: Sequence[int], layers: int
    ) -> None:
        super().__init__()
        self.decoder, self.layers = tuple(decoder), layers
        with torch.device('meta'):
            steps = decoder_steps(UNet2DConditionModel.from_config(dict(config)))
        half = UNet2DConditionModel.from_config(half_width(config))
        self.blocks = half.up_blocks
        residuals = [one for block in self.blocks for one in block.resnets]
        for one in residuals:
            one.time_emb_proj = None  # the timestep never changes
        # The first step has no block before it: its input is mixed from the preimage alone.
        wanted = [one.in_channels for one in residuals[:1]]
        outputs = [one.out_channels for one in residuals]
        wanted += [b.in_channels - a for a, b in zip(outputs, residuals[1:], strict=False)]
        self.joins = nn.ModuleList(
            Join(step.channels, step.maps(tokens), count)
            for step, count in zip(steps, wanted, strict=True)
        )
        self.norm = nn.GroupNorm(math.gcd(MOST_GROUPS, outputs[-1]), outputs[-1])
        self.labels = Decoder(
            in_channels=outputs[-1],
            out_channels=1,
            up_block_types=('UpDecoderBlock2D',) * len(decoder),
            block_out_channels=self.decoder,
            layers_per_block=layers,
            norm_num_groups=math.gcd(MOST_GROUPS, *decoder),
            mid_block_add_attention=False,
        )
        width = half.config.cross_attention_dim
        self.register_buffer('text', torch.zeros(1, tokens, width))

    def forward(self, preimage: Preimage) -> torch.Tensor:
        """Map a preimage to relative values (B, 1, H, W), not clamped."""
        joined = [
            join(*parts)
            for join, *parts in zip(self.joins, preimage.features, preimage.maps, strict=True)
        ]
        first = self.blocks[0].resnets[0].in_channels - self.blocks[0].resnets[0].out_channels
        x, joined[0] = joined[0].split([joined[0].shape[1] - first, first], 1)
        for block in self.blocks:
            skips, joined = joined[: len(block.resnets)], joined[len(block.resnets) :]
            more: dict[str, Any] = {}
            if joined:
                more['upsample_size'] = joined[0].shape[-2:]
            if getattr(block, 'has_cross_attention', False):
                more['encoder_hidden_states'] = self.text.to(x).expand(len(x), -1, -1)
            x = block(x, tuple(reversed(skips)), **more)
        return self.labels(functional.silu(self.norm(x)))


def half_width(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a U-Net of half as many channels at each level."""
    channels = [width // 2 for width in config['block_out_channels']]
    groups = math.gcd(config.get('norm_num_groups') or MOST_GROUPS, *channels)
    return {**config, 'block_out_channels': channels, 'norm_num_groups': groups}
