# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Reads a checkpoint folder in diffusers layout: networks, schedule, empty prompt, defaults.

Weights come from safetensors only: a pickle can run code when it is opened, so none ever is. What
diffusers' layout has no place for (space, noise, default sizes) stands in ``marigold_ros.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_log
from marigold_ros.errors import CheckpointError
from marigold_ros.models import EMBEDDED, list_checkpoints
from safetensors.torch import load_file
import torch

PICKLES = ('.bin', '.ckpt', '.pth', '.pt', '.pkl')
HUB_PATTERNS = ['*.json', '*.safetensors', '*.txt', '*/merges.txt']


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says of itself; each default may be overridden at a call."""

    name: str
    folder: Path
    space: str
    noise: str  # gaussian | zeros
    denoising_steps: int
    ensemble_size: int
    processing_resolution: int  # longest edge, 0 = native; used when processing_pixels is 0
    processing_pixels: int  # the longest edge is chosen so that height x width is nearest to it


@dataclass
class Networks:
    """A checkpoint in memory."""

    facts: Facts
    autoencoder: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    text: torch.Tensor  # (1, L, D)


def find_folder(name: str) -> Path:
    """Resolve an embedded name, a folder, or a hub id to a folder on this machine."""
    if (EMBEDDED / name / 'model_index.json').is_file():
        return EMBEDDED / name
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix in PICKLES or path.is_file():
        raise CheckpointError(
            f"'{name}' is a single file; give the folder of a checkpoint in diffusers layout "
            '(model_index.json, unet/, vae/, scheduler/) with safetensors weights'
        )
    if name.count('/') == 1 and not name.startswith(('.', '/', '~')):
        return _download(name)
    raise CheckpointError(
        f"no checkpoint '{name}'; embedded are {', '.join(list_checkpoints()) or 'none'}; "
        'otherwise give a folder in diffusers layout or a hub id (prs-eth/marigold-depth-v1-1)'
    )


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_PATTERNS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"'{name}' is neither a folder nor could it be fetched from the hub "
            f'({type(error).__name__}); check the name and the network, or give a local folder'
        ) from error


def load_networks(folder: Path) -> Networks:
    """
    Load all parts of a checkpoint on the CPU, in float32.

    Raises
    ------
    CheckpointError
        Naming the file that is missing, damaged, pickled, or of another shape than configured.

    """
    facts = read_facts(folder)
    unet = _network(UNet2DConditionModel, folder, 'unet')
    autoencoder = _network(AutoencoderKL, folder, 'vae')
    channels = autoencoder.config.latent_channels
    if (unet.config.in_channels, unet.config.out_channels) != (2 * channels, channels):
        raise CheckpointError(
            f'unet takes {unet.config.in_channels} and gives {unet.config.out_channels} channels; '
            f'beside an autoencoder of {channels} latent channels Marigold needs {2 * channels} '
            f'and {channels}: {folder} is another kind of model'
        )
    scheduler = _scheduler(folder)
    text = _empty_text(folder)
    width = unet.config.cross_attention_dim
    if text.ndim != 3 or text.shape[-1] != width:
        raise CheckpointError(
            f'the empty-prompt embedding has shape {tuple(text.shape)}; the unet attends to width '
            f'{width}, so it must be (1, L, {width})'
        )
    return Networks(facts, autoencoder, unet, scheduler, text)


def read_facts(folder: Path) -> Facts:
    """Read ``model_index.json`` and ``marigold_ros.json``."""
    index = _read_json(folder / 'model_index.json')
    own = folder / 'marigold_ros.json'
    extra = _read_json(own) if own.is_file() else {}
    space = extra.get('space', index.get('prediction_type') or 'depth')
    if space not in ('depth', 'log', 'disparity'):
        raise CheckpointError(
            f"{folder.name} answers in '{space}'; known are depth, log, disparity"
        )
    noise = extra.get('noise', 'gaussian')
    if noise not in ('gaussian', 'zeros'):
        raise CheckpointError(f"{folder.name} starts from '{noise}'; known are gaussian, zeros")
    steps = extra.get('default_denoising_steps', index.get('default_denoising_steps') or 4)
    longest = index.get('default_processing_resolution')
    if longest is None:
        longest = 768
    return Facts(
        name=folder.name,
        folder=folder,
        space=space,
        noise=noise,
        denoising_steps=_whole(folder, 'default_denoising_steps', steps, 1),
        ensemble_size=_whole(
            folder, 'default_ensemble_size', extra.get('default_ensemble_size', 1), 1
        ),
        processing_resolution=_whole(folder, 'default_processing_resolution', longest, 0),
        processing_pixels=_whole(
            folder, 'default_processing_pixels', extra.get('default_processing_pixels', 0), 0
        ),
    )


def fingerprint(folder: Path) -> str:
    """SHA-256 over all weight files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.safetensors')):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f'{path.parent} has no {path.name}; give a folder in diffusers layout '
            '(model_index.json, unet/, vae/, scheduler/)'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:  # no JSON, or no text at all
        raise CheckpointError(f'{path} is not JSON ({error}); restore the file') from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, not an object; restore the file'
        )
    return content


def _whole(folder: Path, name: str, value: Any, lowest: int) -> int:
    """Check a default that must be a whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise CheckpointError(
            f'{name} of {folder.name} is {value!r}; it must be a whole number from {lowest} on: '
            'correct marigold_ros.json or model_index.json'
        )
    return value


def _network(kind: Any, folder: Path, name: str) -> Any:
    """Load one network strictly: every weight present, nothing beyond, shapes as configured."""
    part = folder / name
    if not (part / 'config.json').is_file():
        raise CheckpointError(f'{folder} has no {name}/config.json; the checkpoint is incomplete')
    if not any(part.glob('*.safetensors')):
        pickles = sorted(p.name for p in part.iterdir() if p.suffix in PICKLES)
        found = f' (only {pickles[0]}, a pickle, which is never opened)' if pickles else ''
        raise CheckpointError(
            f'{part} has no safetensors weights{found}; convert with '
            'pipeline.save_pretrained(folder, safe_serialization=True) where you trust them'
        )
    # Half-precision copies beside the full ones are a published layout.
    plain = [p for p in part.glob('*.safetensors') if '.fp16' not in p.name]
    variant = None if plain else 'fp16'
    showed_bars = diffusers_log.is_progress_bar_enabled()
    diffusers_log.disable_progress_bar()  # a second of bars would hide the one line that counts
    try:
        network, report = kind.from_pretrained(
            part,
            use_safetensors=True,
            variant=variant,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            local_files_only=True,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # diffusers, safetensors and torch each raise their own kinds
        raise CheckpointError(
            f'{part} cannot be loaded: {" ".join(str(error).split())[:300]}; the files are '
            'damaged or belong to another architecture'
        ) from error
    finally:
        if showed_bars:
            diffusers_log.enable_progress_bar()
    wrong = report['missing_keys'] + report['unexpected_keys'] + report['mismatched_keys']
    if wrong:
        raise CheckpointError(
            f'{part}: {len(report["missing_keys"])} weights missing, '
            f'{len(report["unexpected_keys"])} unknown, {len(report["mismatched_keys"])} of other '
            f'shape (first: {wrong[0]}); weights and config.json must belong together'
        )
    return network.eval().requires_grad_(False)


def _scheduler(folder: Path) -> DDIMScheduler:
    """Read the noise schedule; what the network was trained to answer is never assumed."""
    path = folder / 'scheduler' / 'scheduler_config.json'
    if not path.is_file():
        raise CheckpointError(f'{folder} has no scheduler/scheduler_config.json; copy it there')
    config = _read_json(path)
    if 'prediction_type' not in config:
        raise CheckpointError(
            f'{path} does not say prediction_type; restore the file that the unet was trained with'
        )
    try:
        return DDIMScheduler.from_config(config)
    except Exception as error:  # diffusers checks little, and raises what its arithmetic raises
        raise CheckpointError(
            f'{path} is no schedule ({" ".join(str(error).split())[:300]}); restore the file'
        ) from error


def _empty_text(folder: Path) -> torch.Tensor:
    """Embedding of the empty prompt: stored, or computed once by the checkpoint's text encoder."""
    stored = folder / 'empty_text_embedding.safetensors'
    if stored.is_file():
        try:
            return load_file(stored)['empty_text_embedding'].float()
        except Exception as error:  # safetensors raises its own kinds
            raise CheckpointError(
                f'{stored} cannot be read ({error}); it must hold one tensor empty_text_embedding'
            ) from error
    if not (folder / 'text_encoder').is_dir():
        raise CheckpointError(
            f'{folder} has neither empty_text_embedding.safetensors nor text_encoder/; '
            'one of them must be there'
        )
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / 'tokenizer')
    encoder = CLIPTextModel.from_pretrained(folder / 'text_encoder', use_safetensors=True)
    tokens = tokenizer('', padding='do_not_pad', truncation=True, return_tensors='pt')
    with torch.no_grad():
        return encoder(tokens.input_ids)[0].float()
