# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Exporting trained networks as a checkpoint folder in diffusers layout, atomically."""

from collections.abc import Mapping
import inspect
import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_ros.errors import CheckpointError
from marigold_ros.models.facts import CONFIG, WEIGHTS
from marigold_ros.models.image_sizes import size_by_area
from marigold_ros.models.locate import PROMPT
from marigold_ros.models.marigold.domain_gap import FILE as FEATURES
from marigold_ros.models.marigold.domain_gap import to_json, TrainingFeatures
from marigold_ros.models.marigold.prompt import PointPrompt
from marigold_ros.models.marigold.schedule import marigold_scheduler
from marigold_ros.models.weights import whole_folder
from marigold_training.networks.small_networks import TEXT_SHAPE
from safetensors.torch import save_file
import torch

SHARD_SIZE = '14MB'
USUAL_RESOLUTION = 768  # px, longest edge, where a recipe states no size


def usual_size(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return the height and width at which a checkpoint of these facts sees a 4:3 image."""
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
    features: TrainingFeatures | None = None,
    prompt: PointPrompt | None = None,
) -> None:
    """
    Write a checkpoint in diffusers layout; an existing folder is replaced once all is written.

    Parameters
    ----------
    folder : Path
        Destination.
    autoencoder, unet
        The networks, unchanged.
    facts : mapping
        Content of ``marigold_ros.json``: space, and optionally noise, default_denoising_steps,
        default_ensemble_size, default_processing_pixels or default_processing_resolution.
    card : str
        The model card, README.md.
    dtype : torch.dtype
        Of the stored weights.
    scheduler : DDIMScheduler or None
        The training schedule; None is that of Marigold v1-1.
    text : (1, L, D) or None
        Embedding of the empty prompt; None is that of the small networks, zeros.
    features : TrainingFeatures or None
        Of the training images, for the domain gap; None leaves it unknown.
    prompt : PointPrompt or None
        What lets the decoder see points.

    Raises
    ------
    CheckpointError
        If a weight is not finite in ``dtype``, or the folder cannot be written. An existing
        checkpoint stays, and no partial one is left.

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
        write_json(draft / 'model_index.json', _index(facts, scheduler))
        write_json(draft / 'marigold_ros.json', facts)
        if prompt is not None:
            (draft / PROMPT).mkdir()
            write_json(draft / PROMPT / CONFIG, prompt.config)
            save_weights(prompt, draft / PROMPT / WEIGHTS, dtype)
        if features is not None:
            (draft / FEATURES).write_text(to_json(features), encoding='utf-8')
        (draft / 'README.md').write_text(card, encoding='utf-8')


def export_network(
    folder: Path,
    network: torch.nn.Module,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    card: str,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the checkpoint of a family of one network: configuration, weights, facts and card."""
    with whole_folder(folder) as draft:
        write_json(draft / 'config.json', config)
        save_weights(network, draft / 'model.safetensors', dtype)
        write_json(draft / 'marigold_ros.json', facts)
        (draft / 'README.md').write_text(card, encoding='utf-8')


def save_network(network: Any, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network; raises CheckpointError if a weight is not finite in this precision."""
    _cast(network, dtype).save_pretrained(folder, max_shard_size=SHARD_SIZE)
    path = folder / 'config.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    own = {key: value for key, value in config.items() if key.startswith('_')}
    write_json(path, {**own, **_arguments(network, config)})


def save_weights(network: torch.nn.Module, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network's weights; raises CheckpointError if one is not finite in this precision."""
    weights = {
        name: value.detach().cpu().to(dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    check_finite(weights)
    save_file(weights, path)


def _arguments(network: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Keep constructor arguments only: no local path, no notes of AutoencoderTiny."""
    known = inspect.signature(type(network).__init__).parameters
    return {key: value for key, value in config.items() if key in known}


def _cast(network: Any, dtype: torch.dtype) -> Any:
    """Copy a network to the CPU in another precision."""
    config = _arguments(network, network.config)
    copy = type(network).from_config(config)
    copy.load_state_dict(network.state_dict())
    torch.nn.Module.to(copy, dtype)  # diffusers' own method warns of an intended cast
    check_finite(copy.state_dict())
    return copy


def check_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError if a weight is not finite in its precision."""
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(
                f'weight {name} is not finite in {str(weight.dtype).removeprefix("torch.")}; '
                'export in float32, or train again at a lower rate if it is not finite there '
                'either'
            )


def _index(facts: Mapping[str, Any], scheduler: DDIMScheduler) -> dict[str, Any]:
    """Return model_index.json, which diffusers' pipeline reads."""
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object for people to read."""
    path.write_text(json.dumps(dict(content), indent=2) + '\n', encoding='utf-8')
