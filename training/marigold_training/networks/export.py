# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Exporting trained networks as a checkpoint folder in diffusers layout, atomically."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import inspect
import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_ros.errors import CheckpointError
from marigold_ros.models.facts import CONFIG, OWN, WEIGHTS
from marigold_ros.models.image_sizes import size_by_area
from marigold_ros.models.locate import PROMPT, write_sums
from marigold_ros.models.marigold.checkpoint import EMPTY_TEXT
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


@contextmanager
def new_checkpoint(folder: Path, card: str) -> Iterator[Path]:
    """
    Yield a draft that replaces a folder, with card and sums, once the block has written it.

    Raises CheckpointError if it cannot be written. An existing checkpoint stays, and no partial
    one is left.
    """
    with whole_folder(folder) as draft:
        yield draft
        (draft / 'README.md').write_text(card, encoding='utf-8')
        write_sums(draft)


def write_checkpoint(
    folder: Path,
    autoencoder: AutoencoderKL,
    unet: UNet2DConditionModel,
    facts: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
    scheduler: DDIMScheduler | None = None,
    text: torch.Tensor | None = None,
    prompt: PointPrompt | None = None,
) -> None:
    """
    Write a Marigold in diffusers layout; raises CheckpointError as :func:`check_finite`.

    Parameters
    ----------
    folder : Path
        A draft, see :func:`new_checkpoint`.
    autoencoder, unet
        The networks, unchanged.
    facts : mapping
        Content of ``marigold_ros.json``: space, and optionally noise, default_denoising_steps,
        default_ensemble_size, default_processing_pixels or default_processing_resolution.
    dtype : torch.dtype
        Of the stored weights.
    scheduler : DDIMScheduler or None
        The training schedule; None is that of Marigold v1-1.
    text : (1, L, D) or None
        Embedding of the empty prompt; None is that of the small networks, zeros.
    prompt : PointPrompt or None
        What lets the decoder see points.

    """
    scheduler = marigold_scheduler() if scheduler is None else scheduler
    text = torch.zeros(TEXT_SHAPE) if text is None else text
    for name, network in (('vae', autoencoder), ('unet', unet)):
        save_network(network, folder / name, dtype)
    scheduler.save_pretrained(folder / 'scheduler')
    save_file(
        {EMPTY_TEXT: text.detach().cpu().to(dtype).contiguous()},
        folder / f'{EMPTY_TEXT}.safetensors',
    )
    write_json(folder / 'model_index.json', _index(facts, scheduler))
    write_json(folder / OWN, facts)
    if prompt is not None:
        (folder / PROMPT).mkdir()
        write_json(folder / PROMPT / CONFIG, prompt.config)
        save_weights(prompt, folder / PROMPT / WEIGHTS, dtype)


def write_network(
    folder: Path,
    network: torch.nn.Module,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a family of one network into a draft: configuration, weights and facts."""
    write_json(folder / CONFIG, config)
    save_weights(network, folder / WEIGHTS, dtype)
    write_json(folder / OWN, facts)


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
