# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The small Marigold: the same architecture with few channels, built from nothing and exported.

The autoencoder has sixteen channels at full size, because on a CPU its decoder is what a frame
costs; the U-Net attends only at its coarsest level. Both are plain diffusers classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import inspect
import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_ros.errors import CheckpointError
from marigold_ros.models.marigold.resizing import size_by_area
from marigold_ros.models.marigold.schedule import marigold_scheduler
from safetensors import SafetensorError
from safetensors.torch import save_file
import torch

TEXT_SHAPE = (1, 2, 32)
SHARD_SIZE = '14MB'
USUAL_RESOLUTION = 768  # px, longest edge, where a recipe states no size


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


def usual_size(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width at which a checkpoint of these facts sees a 4:3 image."""
    pixels = facts.get('default_processing_pixels', 0)
    if pixels:
        return size_by_area(480, 640, pixels)
    width = facts.get('default_processing_resolution') or USUAL_RESOLUTION
    return round(width * 3 / 4), width


def export_checkpoint(
    folder: Path,
    autoencoder: AutoencoderKL,
    unet: UNet2DConditionModel,
    facts: Mapping[str, Any],
    card: str,
    dtype: torch.dtype = torch.float16,
    scheduler: DDIMScheduler | None = None,
    text: torch.Tensor | None = None,
) -> None:
    """
    Write a checkpoint in diffusers layout; an existing folder is replaced once all is written.

    Parameters
    ----------
    folder : Path
        Where the checkpoint goes.
    autoencoder, unet
        The networks; they are left as they are.
    facts : mapping
        Content of ``marigold_ros.json``: space, and optionally noise, default_denoising_steps,
        default_ensemble_size, default_processing_pixels or default_processing_resolution.
    card : str
        The model card, README.md.
    dtype : torch.dtype
        Of the stored weights.
    scheduler : DDIMScheduler or None
        The schedule it was trained with; None is that of Marigold v1-1.
    text : (1, L, D) or None
        Embedding of the empty prompt; None is that of the small networks, zeros.

    Raises
    ------
    CheckpointError
        If a weight is not finite in ``dtype``, or the folder cannot be written. Nothing is left
        half-written then, and a checkpoint that was there stays.

    """
    scheduler = marigold_scheduler() if scheduler is None else scheduler
    text = torch.zeros(TEXT_SHAPE) if text is None else text
    with whole_folder(folder) as draft:
        for name, network in (('vae', autoencoder), ('unet', unet)):
            save_network(network, draft / name, dtype)
        scheduler.save_pretrained(draft / 'scheduler')
        save_file(
            {'empty_text_embedding': text.detach().cpu().to(dtype).contiguous()},
            draft / 'empty_text_embedding.safetensors',
        )
        _write_json(draft / 'model_index.json', _index(facts, scheduler))
        _write_json(draft / 'marigold_ros.json', facts)
        (draft / 'README.md').write_text(card, encoding='utf-8')


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """
    Give a folder to write in that takes the place of another once all is written.

    Raises
    ------
    CheckpointError
        If it cannot be written; what was there stays.

    """
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
        yield draft
        _replace(folder, draft)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'{folder} could not be written ({error}); free some space or give another place, and '
            'export again'
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def save_network(network: Any, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network; raises CheckpointError where a weight is not finite in the precision."""
    _cast(network, dtype).save_pretrained(folder, max_shard_size=SHARD_SIZE)
    path = folder / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    own = {key: value for key, value in config.items() if key.startswith('_')}
    _write_json(path, {**own, **_arguments(network, config)})


def _arguments(network: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a network cannot be made from: a path of here, notes of AutoencoderTiny."""
    known = inspect.signature(type(network).__init__).parameters
    return {key: value for key, value in config.items() if key in known}


def _cast(network: Any, dtype: torch.dtype) -> Any:
    """Copy a network to the CPU in another precision."""
    config = _arguments(network, network.config)
    copy = type(network).from_config(config)
    copy.load_state_dict(network.state_dict())
    torch.nn.Module.to(copy, dtype)  # diffusers' own warns of a cast that is meant
    for name, weight in copy.state_dict().items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(
                f'weight {name} is not finite in {str(dtype).removeprefix("torch.")}; export in '
                'float32, or train again at a lower rate if it is not finite there either'
            )
    return copy


def _index(facts: Mapping[str, Any], scheduler: DDIMScheduler) -> dict[str, Any]:
    """What diffusers' pipeline reads."""
    return {
        '_class_name': 'MarigoldDepthPipeline',
        'default_denoising_steps': facts.get('default_denoising_steps', 1),
        'default_processing_resolution': facts.get(
            'default_processing_resolution', max(usual_size(facts))
        ),
        'prediction_type': 'disparity' if facts['space'] == 'disparity' else 'depth',
        'scale_invariant': True,
        'shift_invariant': True,
        'scheduler': ['diffusers', type(scheduler).__name__],
        'text_encoder': [None, None],
        'tokenizer': [None, None],
        'unet': ['diffusers', 'UNet2DConditionModel'],
        'vae': ['diffusers', 'AutoencoderKL'],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2) + '\n', encoding='utf-8')


def _replace(folder: Path, draft: Path) -> None:
    """Put a finished folder into its place."""
    # mkdtemp and safetensors write for the owner alone.
    os.chmod(draft, 0o755)
    for path in draft.rglob('*'):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    old = folder.with_name(f'.{folder.name}-old')
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)
