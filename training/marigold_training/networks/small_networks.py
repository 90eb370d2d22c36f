# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The small Marigold: the same architecture with few channels and random weights.

The autoencoder has sixteen channels at full size, because its decoder dominates a frame on a CPU;
the U-Net attends only at its coarsest level. Both are plain diffusers classes.
"""

from diffusers import AutoencoderKL, UNet2DConditionModel

TEXT_SHAPE = (1, 2, 32)


def small_autoencoder(
    channels: tuple[int, ...] = (16, 32, 64, 128), latent_channels: int = 8
) -> AutoencoderKL:
    """Build an autoencoder that shrinks each side eightfold, with random weights."""
    levels = len(channels)
    return AutoencoderKL(
        down_block_types=('DownEncoderBlock2D',) * levels,
        up_block_types=('UpDecoderBlock2D',) * levels,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def small_unet(
    channels: tuple[int, ...] = (64, 128, 192),
    latent_channels: int = 8,
    layers: int = 1,
    attention_levels: int = 1,
) -> UNet2DConditionModel:
    """
    Build a U-Net that takes the image's latent first and the noisy depth latent second.

    Parameters
    ----------
    channels : tuple of int
        At each level, from fine to coarse.
    latent_channels : int
        Of the autoencoder.
    layers : int
        Residual blocks a level.
    attention_levels : int
        How many of the coarsest levels attend.

    """
    plain = len(channels) - attention_levels
    return UNet2DConditionModel(
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        down_block_types=('DownBlock2D',) * plain + ('CrossAttnDownBlock2D',) * attention_levels,
        up_block_types=('CrossAttnUpBlock2D',) * attention_levels + ('UpBlock2D',) * plain,
        block_out_channels=channels,
        layers_per_block=layers,
        cross_attention_dim=TEXT_SHAPE[2],
        attention_head_dim=8,
        norm_num_groups=16,
    )
