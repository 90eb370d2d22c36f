# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The small Marigold: the same architecture with few channels, built from nothing and exported.

The autoencoder has sixteen channels at full size, because on a CPU its decoder is what a frame
costs; the U-Net attends only at its coarsest level. Both are plain diffusers classes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from marigold_ros.models.marigold.resizing import size_by_area
from marigold_ros.models.marigold.schedule import marigold_scheduler
from safetensors.torch import save_file
import torch

TEXT_SHAPE = (1, 2, 32)
SHARD_SIZE = '14MB'


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
    channels: tuple[int, ...] = (64, 128, 192), latent_channels: int = 8
) -> UNet2DConditionModel:
    """Build a U-Net that takes the picture's latent first and the noisy depth latent second."""
    levels = len(channels)
    return UNet2DConditionModel(
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        down_block_types=('DownBlock2D',) * (levels - 1) + ('CrossAttnDownBlock2D',),
        up_block_types=('CrossAttnUpBlock2D',) + ('UpBlock2D',) * (levels - 1),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=TEXT_SHAPE[2],
        attention_head_dim=8,
        norm_num_groups=16,
    )


def usual_size(pixels: int) -> tuple[int, int]:
    """Height and width at which a checkpoint for so many pixels sees a 4:3 picture."""
    return size_by_area(480, 640, pixels)


def export_checkpoint(
    folder: Path,
    autoencoder: AutoencoderKL,
    unet: UNet2DConditionModel,
    facts: dict[str, Any],
    card: str,
    dtype: torch.dtype = torch.float16,
) -> None:
    """
    Write a checkpoint in diffusers layout; an existing folder is replaced once all is written.

    Parameters
    ----------
    folder : Path
        Where the checkpoint goes.
    autoencoder, unet
        The networks; they are left as they are.
    facts : dict
        Content of ``marigold_ros.json``: space, noise, default_denoising_steps,
        default_ensemble_size, default_processing_pixels.
    card : str
        The model card, README.md.
    dtype : torch.dtype
        Of the stored weights.

    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    for name, network in (('vae', autoencoder), ('unet', unet)):
        copy = type(network).from_config(network.config)
        copy.load_state_dict(network.state_dict())
        torch.nn.Module.to(copy, dtype)  # diffusers' own warns of a cast that is meant
        copy.save_pretrained(draft / name, max_shard_size=SHARD_SIZE)
    marigold_scheduler().save_pretrained(draft / 'scheduler')
    save_file(
        {'empty_text_embedding': torch.zeros(TEXT_SHAPE, dtype=dtype)},
        draft / 'empty_text_embedding.safetensors',
    )
    index = {
        '_class_name': 'MarigoldDepthPipeline',
        'default_denoising_steps': facts['default_denoising_steps'],
        'default_processing_resolution': max(usual_size(facts['default_processing_pixels'])),
        'prediction_type': 'disparity' if facts['space'] == 'disparity' else 'depth',
        'scale_invariant': True,
        'shift_invariant': True,
        'scheduler': ['diffusers', 'DDIMScheduler'],
        'text_encoder': [None, None],
        'tokenizer': [None, None],
        'unet': ['diffusers', 'UNet2DConditionModel'],
        'vae': ['diffusers', 'AutoencoderKL'],
    }
    (draft / 'model_index.json').write_text(json.dumps(index, indent=2) + '\n')
    (draft / 'marigold_ros.json').write_text(json.dumps(facts, indent=2) + '\n')
    (draft / 'README.md').write_text(card)
    # mkdtemp and safetensors write for the owner alone.
    os.chmod(draft, 0o755)
    for path in draft.rglob('*'):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    old = folder.with_name(f'.{folder.name}-old')
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)
