# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Read a checkpoint folder in diffusers layout: networks, schedule, empty prompt, defaults.

Every published Marigold depth layout opens: v1-0, v1-1, LCM, and E2E-FT. Space, noise and default
sizes, for which diffusers has no place, are in ``marigold_ros.json``. Weights come from
safetensors only: a pickle can run code when it is opened, so none ever is.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
import hashlib
from inspect import signature
from pathlib import Path
import re
from typing import Any

from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from marigold_ros.errors import brief, CheckpointError, MarigoldError
from marigold_ros.models.facts import check_values, MOST_PIXELS, refuse_elsewhere
from marigold_ros.models.locate import (
    checkpoint_name,
    offline,
    PROMPT,
    read_json,
    require_file,
    require_weights,
    verify_sums,
)
from marigold_ros.models.marigold.domain_gap import read_training_features, TrainingFeatures
from marigold_ros.models.marigold.ensemble import MOST_MEMBERS
from marigold_ros.models.marigold.prompt import load_prompt, PointPrompt
from marigold_ros.models.marigold.schedule import STEPS_LIMIT
from marigold_ros.models.runtime.disk_cache import cache_folder
from marigold_ros.models.weights import (
    build_within,
    check_index,
    count_parameters,
    file_facts,
    full_precision,
    quiet,
    require_finite,
    require_same,
    to_load_again,
)
from marigold_ros.spaces import RELATIVE_SPACES
from marigold_ros.whole_files import write_whole
from safetensors.torch import load_file, save
import torch

EMPTY_TEXT = 'empty_text_embedding'
NOISES = ('gaussian', 'zeros')
PREDICTION_TYPES = ('v_prediction', 'epsilon', 'sample')
# Pipelines of the Marigold family that predict something else from networks of the same shape.
OTHER_KINDS = {
    'Normals': 'surface normals',
    'Intrinsics': 'albedo and lighting',
    'Pix2Pix': 'edited images',
}
# Inputs beside latent, timestep and text, of which Marigold has none; Lotus and GeoWizard have.
OTHER_INPUTS = ('addition_embed_type', 'class_embed_type', 'num_class_embeds')
MOST_SIDE = 4096  # of an image at the networks, where a checkpoint chooses
MOST_TIMESTEPS = 10_000  # of a schedule
MOST_TOKENS = 1024  # of the prompt; CLIP has 77
E2E_PIPELINE = 'StableDiffusionPipeline'  # with eight input channels: an E2E-FT checkpoint
AUTOENCODERS = {'AutoencoderKL': AutoencoderKL, 'AutoencoderTiny': AutoencoderTiny}
LCM_NOTE = (
    'this is an LCM checkpoint: at equal cost a v1-0, v1-1 or E2E-FT checkpoint with trailing '
    'DDIM steps is more accurate (arXiv 2409.11355, table 1)'
)


@dataclass(frozen=True)
class Facts:
    """Name, space and defaults of a checkpoint; each default may be overridden at a call."""

    name: str
    folder: Path
    space: str
    noise: str  # gaussian | zeros
    denoising_steps: int
    ensemble_size: int
    processing_resolution: int  # longest edge, 0 = native; used when processing_pixels is 0
    processing_pixels: int  # the longest edge is chosen so that height x width is nearest to it
    affine_invariant: bool = True  # diffusers merges members up to scale and shift


@dataclass
class Networks:
    """A checkpoint in memory."""

    facts: Facts
    autoencoder: AutoencoderKL | AutoencoderTiny
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler | LCMScheduler
    text: torch.Tensor  # (1, L, D)
    weight_files: tuple[Path, ...] = ()  # folders and files that make up the fingerprint
    notes: list[str] = field(default_factory=list)
    trained_on: TrainingFeatures | None = None  # where the autoencoder is the checkpoint's own
    prompt: PointPrompt | None = None  # of a checkpoint whose decoder takes points
    sums: Mapping[Path, str] = field(default_factory=dict)  # SHA-256 of files, verified
    load_unet: Callable[[], UNet2DConditionModel] | None = None  # again

    @property
    def parameters(self) -> int:
        """Number of weights of all networks."""
        return count_parameters(*filter(None, (self.autoencoder, self.unet, self.prompt)))


@offline()
def load_networks(folder: Path, vae: Path | None = None) -> Networks:
    """
    Load all parts of a checkpoint on the CPU, in float32.

    ``vae`` is the folder of another autoencoder, such as a distilled one, in place of ``vae/``.
    Raises CheckpointError, naming the file that is missing, damaged, pickled, or of another shape
    than configured.
    """
    facts = read_facts(folder)
    sums = {folder / name: digest for name, digest in verify_sums(folder).items()}
    load_unet = partial(load_network, UNet2DConditionModel, folder / 'unet')
    load_again = to_load_again(folder / 'unet', load_unet)
    unet = load_unet()
    autoencoder = load_autoencoder(folder / 'vae' if vae is None else vae)
    channels = autoencoder.config.latent_channels
    if (unet.config.in_channels, unet.config.out_channels) != (2 * channels, channels):
        raise CheckpointError(
            f'unet has {unet.config.in_channels} input and {unet.config.out_channels} output '
            f'channels; with an autoencoder of {channels} latent channels Marigold needs '
            f'{2 * channels} and {channels}: {folder} is another kind of model, or the '
            'autoencoder belongs to another one'
        )
    for name in OTHER_INPUTS:
        if (value := unet.config[name]) is not None:
            raise CheckpointError(
                f'{folder}/unet/config.json has {name} {value!r}, as Lotus and GeoWizard, which '
                'are no Marigold; choose a v1-0, v1-1, LCM or E2E-FT checkpoint'
            )
    text = empty_text(folder)
    width = unet.config.cross_attention_dim
    fits = text.ndim == 3 and (len(text), text.shape[2]) == (1, width)
    if not fits or not 1 <= text.shape[1] <= MOST_TOKENS:
        raise CheckpointError(
            f'the empty-prompt embedding has shape {tuple(text.shape)}; the unet attends to width '
            f'{width}, so it must be (1, L, {width}) with L from 1 to {MOST_TOKENS}'
        )
    require_finite({EMPTY_TEXT: text}, folder)
    scheduler = _scheduler(folder)
    notes = [LCM_NOTE] if isinstance(scheduler, LCMScheduler) else []
    files = [folder / 'unet', folder / 'vae' if vae is None else vae]
    if not (folder / 'text_encoder').is_dir():
        files.append(folder / f'{EMPTY_TEXT}.safetensors')
    prompt = load_prompt(folder, autoencoder)
    if prompt is not None:
        if vae is not None:
            raise CheckpointError(
                f'{folder / PROMPT} was trained with the decoder of vae/, and vae names another: '
                f'leave it empty, or load a copy without {PROMPT}/'
            )
        files.append(folder / PROMPT)
    features = read_training_features(folder, 3 * channels) if vae is None else None
    parts = facts, autoencoder, unet, scheduler, text
    return Networks(*parts, tuple(files), notes, features, prompt, sums, load_again)


def read_facts(folder: Path) -> Facts:
    """Read ``model_index.json``, ``marigold_ros.json`` and the schedule's configuration."""
    index = {k: v for k, v in read_json(folder / 'model_index.json').items() if v is not None}
    kind = str(index.get('_class_name', ''))
    for word, what in OTHER_KINDS.items():
        if word in kind:
            raise CheckpointError(
                f'{folder} is a {kind}: it predicts {what}; choose a depth checkpoint'
            )
    own = folder / 'marigold_ros.json'
    extra = read_json(own) if own.is_file() else {}
    end_to_end = kind == E2E_PIPELINE
    name = checkpoint_name(folder)
    if end_to_end and 'normals' in re.split('[^a-z]+', name.lower()) and not own.is_file():
        raise CheckpointError(
            f'{folder} is the E2E-FT checkpoint {name}, which predicts surface normals; choose a '
            'depth checkpoint, or rename the folder if it is one'
        )
    space = extra.get('space', index.get('prediction_type', 'depth'))
    if space not in RELATIVE_SPACES:
        raise CheckpointError(
            f"{folder} answers in '{space}'; known are {', '.join(RELATIVE_SPACES)}"
        )
    usual = _usual_steps(_schedule_config(folder), end_to_end)
    stated = {
        'noise': 'zeros' if end_to_end else 'gaussian',
        'default_denoising_steps': index.get('default_denoising_steps', usual),
        **extra,
        'space': space,
        'default_processing_resolution': index.get('default_processing_resolution', 768),
        'affine_invariant': False not in map(index.get, ('scale_invariant', 'shift_invariant')),
    }
    return facts_of(stated, folder, 'model_index.json or marigold_ros.json')


def facts_of(stated: Mapping[str, Any], folder: Path, where: str) -> Facts:
    """Check the facts of a checkpoint, stated ``where``; raises CheckpointError."""
    noise, called = stated['noise'], checkpoint_name(folder)
    if noise not in NOISES:
        raise CheckpointError(f"noise of {called} is '{noise}'; known are {', '.join(NOISES)}")

    def whole(name: str, usual: int, low: int, high: int) -> int:
        value: Any = stated.get(name, usual)
        if type(value) is not int or not low <= value <= high:
            raise CheckpointError(
                f'{name} of {called} is {value!r}; it must be a whole number from {low} to '
                f'{high}: correct {where}'
            )
        return int(value)

    return Facts(
        name=called,
        folder=folder,
        space=stated['space'],
        noise=noise,
        denoising_steps=whole('default_denoising_steps', 1, 1, STEPS_LIMIT),
        ensemble_size=whole('default_ensemble_size', 1, 1, MOST_MEMBERS),
        processing_resolution=whole('default_processing_resolution', 768, 0, MOST_SIDE),
        processing_pixels=whole('default_processing_pixels', 0, 0, MOST_PIXELS),
        affine_invariant=stated.get('affine_invariant', True),
    )


def _usual_steps(schedule: dict[str, Any], end_to_end: bool) -> int:
    """Return the steps of the published checkpoint of this kind, for a model_index without."""
    if end_to_end or schedule.get('_class_name') == 'LCMScheduler':
        return 1
    return 4 if schedule.get('timestep_spacing') == 'trailing' else 10


def load_autoencoder(part: Path) -> AutoencoderKL | AutoencoderTiny:
    """Load an autoencoder of either kind; errors as in :func:`load_network`."""
    config = read_json(require_file(part.parent, f'{part.name}/config.json'))
    name = str(config.get('_class_name'))
    if name not in AUTOENCODERS:
        raise CheckpointError(
            f"{part} is a '{name}'; an autoencoder must be one of {', '.join(AUTOENCODERS)}"
        )
    network = load_network(AUTOENCODERS[name], part)
    if not (factor := network.config.scaling_factor) > 0:
        raise CheckpointError(
            f'{part}/config.json has scaling_factor {factor}; it must be above 0: restore it'
        )
    return network


def _schedule_config(folder: Path) -> dict[str, Any]:
    return read_json(require_file(folder, 'scheduler/scheduler_config.json'))


def _scheduler(folder: Path) -> DDIMScheduler | LCMScheduler:
    """Build the LCM scheduler of an LCM checkpoint, and DDIM for all others."""
    config, path = _schedule_config(folder), f'{folder}/scheduler/scheduler_config.json'
    if (predicted := config.get('prediction_type')) not in PREDICTION_TYPES:
        raise CheckpointError(  # without one diffusers would assume epsilon
            f'{path} has prediction_type {predicted!r:.99}; known are '
            f'{", ".join(PREDICTION_TYPES)}: restore the file that the unet was trained with'
        )
    if config.get('thresholding'):
        raise CheckpointError(
            'the schedule asks for dynamic thresholding, which is for images, not latents; set '
            f'thresholding to false in {path}'
        )
    kind = LCMScheduler if config.get('_class_name') == 'LCMScheduler' else DDIMScheduler
    total = config.get('num_train_timesteps', 1000)
    if type(total) is not int or not 1 <= total <= MOST_TIMESTEPS:
        raise CheckpointError(
            f'{path} has num_train_timesteps {total!r}; give a whole number from 1 to '
            f'{MOST_TIMESTEPS}'
        )
    spacing = config.get('timestep_spacing', 'leading')
    if spacing not in ('leading', 'trailing', 'linspace'):
        raise CheckpointError(
            f'{path} has timestep_spacing {spacing!r:.99}; known are leading, trailing, linspace'
        )
    # Other classes, as PNDM, do not clip and do not write so; DDIM would clip to [-1, 1].
    if config.get('_class_name', 'DDIMScheduler') not in ('DDIMScheduler', 'DDPMScheduler'):
        config = {'clip_sample': False, **config}
    read = signature(kind.__init__).parameters  # diffusers warns of other values
    try:
        scheduler = kind.from_config({key: config[key] for key in read if key in config})
    except Exception as error:  # diffusers raises whatever a wrong value led to
        raise CheckpointError(f'{path} makes no schedule ({brief(error)}); restore it') from error
    kept = scheduler.alphas_cumprod
    if not ((kept >= 0) & (kept <= 1)).all():  # NaN is neither
        raise CheckpointError(
            f'{path} makes a schedule whose share of the image is not in [0, 1]; restore it'
        )
    return scheduler


def empty_text(folder: Path) -> torch.Tensor:
    """
    Return the embedding (1, L, D) float32 of the empty prompt, or raise CheckpointError.

    It is all that Marigold needs of its text encoder: 8 kB instead of 1.4 GB. Computed once, it is
    kept beside the checkpoint, where diffusers' users find it too, or in the user's cache.
    """
    beside = folder / f'{EMPTY_TEXT}.safetensors'
    if beside.is_file():
        return read_embedding(beside)
    encoder = folder / 'text_encoder'
    if not encoder.is_dir():
        raise CheckpointError(
            f'{folder} has neither {EMPTY_TEXT}.safetensors nor text_encoder/; one of them must '
            'be there'
        )
    cached = _cache_path(encoder)
    with suppress(CheckpointError):  # there is none, or it is damaged or another user's
        return read_embedding(cached)
    embedding = _embed_empty_text(folder)
    data = save({EMPTY_TEXT: embedding.contiguous()})
    # Shared and installed checkpoints are read-only; without any place it is computed each time.
    for path in (beside, cached):
        with suppress(MarigoldError):
            write_whole(path, data)
            break
    return embedding


def read_embedding(path: Path) -> torch.Tensor:
    try:
        return load_file(path)[EMPTY_TEXT].float().clone()
    except Exception as error:  # safetensors raises its own kinds
        raise CheckpointError(
            f'{path} cannot be read ({error}); it must hold one tensor {EMPTY_TEXT}: restore it, '
            'or remove it beside a text_encoder/'
        ) from error


def _cache_path(encoder: Path) -> Path:
    """Return its path in the user's cache, whose name changes with the encoder's files."""
    facts = [str(encoder.resolve()), *file_facts(encoder)]
    key = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:32]
    return cache_folder('').with_name(f'{EMPTY_TEXT}-{key}.safetensors')


def _embed_empty_text(folder: Path) -> torch.Tensor:
    from marigold_ros.models.transformers_networks import load_network as load_encoder
    from transformers import CLIPTextModel, CLIPTokenizer

    remedy = f'copy model.safetensors there, or put {EMPTY_TEXT}.safetensors into {folder}'
    encoder = load_encoder(CLIPTextModel, folder / 'text_encoder', remedy)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / 'tokenizer', local_files_only=True)
        tokens = tokenizer('', padding='do_not_pad', truncation=True, return_tensors='pt')
        with torch.no_grad():
            return encoder(tokens.input_ids)[0].float()
    except Exception as error:  # transformers, tokenizers and torch raise their own kinds
        raise CheckpointError(
            f'{folder}: tokenizer/ cannot be loaded, or does not belong to text_encoder/ '
            f'({brief(error)}); restore them'
        ) from error


def load_network(kind: Any, part: Path) -> Any:
    """
    Load one network in float32: every weight present, nothing beyond, shapes as configured.

    Raises CheckpointError, naming the file or the weight that is missing, damaged, pickled,
    unknown or not finite.
    """
    path = require_file(part.parent, f'{part.name}/config.json')
    remedy = (
        'convert with pipeline.save_pretrained(folder, safe_serialization=True) where you trust '
        'them'
    )
    found = require_weights(part, remedy)
    check_index(part, found)
    config = read_json(path)
    refuse_elsewhere(config, path)
    # Those that diffusers reads.
    known = signature(kind.__init__).parameters
    values = {key: config[key] for key in known if key in config}
    check_values(values, path)
    for key, value in values.items():
        # Many whole numbers may also be a list, one for each block.
        numbers = {int: (int, float, list, type(None)), float: (int, float)}
        allowed = numbers.get(type(known[key].default))
        if allowed and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise CheckpointError(
                f'{path} has {key} {value!r:.99}, which must be a number; restore it'
            )
    files = full_precision(found)
    build_within(files, lambda: kind.from_config(values))
    variant = 'fp16' if '.fp16' in files[0].name else None
    try:
        with quiet(diffusers_logging):
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
            f'{part} cannot be loaded: {brief(error)}; the files are damaged, have other names or '
            'belong to another architecture'
        ) from error
    kinds = ('missing_keys', 'unexpected_keys', 'mismatched_keys')
    require_same(part, *(report[kind] for kind in kinds))
    require_finite(network.state_dict(), part)
    for weight in network.parameters():
        weight.data = weight.data.clone()  # a file that is written over would end the process
    return network.eval().requires_grad_(False)
