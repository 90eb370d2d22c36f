# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Read a checkpoint folder in diffusers layout: networks, schedule, empty prompt, defaults.

Every published Marigold depth layout opens: v1-0, v1-1, LCM, and E2E-FT. Space, noise and default
sizes, for which diffusers has no place, are in ``marigold_ros.json``. Weights come from
safetensors only: a pickle can run code when it is opened, so none ever is.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
import hashlib
import os
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from marigold_ros.errors import CheckpointError, MarigoldError
from marigold_ros.models.locate import read_json, require_file, require_weights, sha256
from marigold_ros.models.marigold.domain_gap import (
    feature_count,
    read_training_features,
    TrainingFeatures,
)
from marigold_ros.models.weights import count_parameters
from marigold_ros.spaces import RELATIVE_SPACES
from marigold_ros.whole_files import write_whole
from safetensors.torch import load_file, save
import torch

EMPTY_TEXT = 'empty_text_embedding'
SUMS = 'SHA256SUMS'  # as written by `sha256sum`, paths from the checkpoint's folder
NOISES = ('gaussian', 'zeros')
# Pipelines of the Marigold family that predict something else from networks of the same shape.
OTHER_KINDS = {'Normals': 'surface normals', 'Intrinsics': 'albedo and lighting'}
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

    @property
    def parameters(self) -> int:
        """Number of weights of both networks."""
        return count_parameters(self.autoencoder, self.unet)


def load_networks(folder: Path, vae: Path | None = None) -> Networks:
    """
    Load all parts of a checkpoint on the CPU, in float32.

    ``vae`` is the folder of another autoencoder, such as a distilled one, in place of ``vae/``.
    Raises CheckpointError, naming the file that is missing, damaged, pickled, or of another shape
    than configured.
    """
    facts = read_facts(folder)
    verify_sums(folder)
    unet = load_network(UNet2DConditionModel, folder / 'unet')
    autoencoder = load_autoencoder(folder / 'vae' if vae is None else vae)
    channels = autoencoder.config.latent_channels
    if (unet.config.in_channels, unet.config.out_channels) != (2 * channels, channels):
        raise CheckpointError(
            f'unet has {unet.config.in_channels} input and {unet.config.out_channels} output '
            f'channels; with an autoencoder of {channels} latent channels Marigold needs '
            f'{2 * channels} and {channels}: {folder} is another kind of model, or the '
            'autoencoder belongs to another one'
        )
    text = empty_text(folder)
    width = unet.config.cross_attention_dim
    if text.ndim != 3 or len(text) != 1 or text.shape[-1] != width:
        raise CheckpointError(
            f'the empty-prompt embedding has shape {tuple(text.shape)}; the unet attends to width '
            f'{width}, so it must be (1, L, {width})'
        )
    scheduler = _scheduler(folder)
    notes = [LCM_NOTE] if isinstance(scheduler, LCMScheduler) else []
    files = [folder / 'unet', folder / 'vae' if vae is None else vae]
    if not (folder / 'text_encoder').is_dir():
        files.append(folder / f'{EMPTY_TEXT}.safetensors')
    features = read_training_features(folder, feature_count(channels)) if vae is None else None
    return Networks(facts, autoencoder, unet, scheduler, text, tuple(files), notes, features)


def read_facts(folder: Path) -> Facts:
    """Read ``model_index.json``, ``marigold_ros.json`` and the schedule's configuration."""
    index = read_json(folder / 'model_index.json')
    kind = str(index.get('_class_name', ''))
    for word, what in OTHER_KINDS.items():
        if word in kind:
            raise CheckpointError(
                f'{folder.name} is a {kind}: it predicts {what}; choose a depth checkpoint'
            )
    own = folder / 'marigold_ros.json'
    extra = read_json(own) if own.is_file() else {}
    schedule = _schedule_config(folder)
    end_to_end = kind == E2E_PIPELINE
    space = extra.get('space', index.get('prediction_type') or 'depth')
    if space not in RELATIVE_SPACES:
        raise CheckpointError(
            f"{folder.name} answers in '{space}'; known are {', '.join(RELATIVE_SPACES)}"
        )
    noise = extra.get('noise', 'zeros' if end_to_end else 'gaussian')
    if noise not in NOISES:
        raise CheckpointError(
            f"{folder.name} starts from '{noise}'; known are {', '.join(NOISES)}"
        )
    steps = _first(
        extra.get('default_denoising_steps'),
        index.get('default_denoising_steps'),
        _usual_steps(schedule, end_to_end),
    )
    resolution = _first(index.get('default_processing_resolution'), 768)
    return Facts(
        name=folder.name,
        folder=folder,
        space=space,
        noise=noise,
        denoising_steps=_whole(folder, 'default_denoising_steps', steps, 1),
        ensemble_size=_whole(
            folder, 'default_ensemble_size', extra.get('default_ensemble_size', 1), 1
        ),
        processing_resolution=_whole(folder, 'default_processing_resolution', resolution, 0),
        processing_pixels=_whole(
            folder, 'default_processing_pixels', extra.get('default_processing_pixels', 0), 0
        ),
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _usual_steps(schedule: dict[str, Any], end_to_end: bool) -> int:
    """Return the steps of the published checkpoint of this kind, for a model_index without."""
    if end_to_end or schedule.get('_class_name') == 'LCMScheduler':
        return 1
    return 4 if schedule.get('timestep_spacing') == 'trailing' else 10


def _whole(folder: Path, name: str, value: Any, low: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise CheckpointError(
            f'{name} of {folder.name} is {value!r}; it must be a whole number from {low} on: '
            'correct model_index.json or marigold_ros.json'
        )
    return value


def load_autoencoder(part: Path) -> AutoencoderKL | AutoencoderTiny:
    """Load an autoencoder of either kind; errors as in :func:`load_network`."""
    require_file(part.parent, f'{part.name}/config.json')
    name = read_json(part / 'config.json').get('_class_name')
    if name not in AUTOENCODERS:
        raise CheckpointError(
            f"{part} is a '{name}'; an autoencoder must be one of {', '.join(AUTOENCODERS)}"
        )
    return load_network(AUTOENCODERS[name], part)


def _schedule_config(folder: Path) -> dict[str, Any]:
    return read_json(require_file(folder, 'scheduler/scheduler_config.json'))


def _scheduler(folder: Path) -> DDIMScheduler | LCMScheduler:
    """Build the LCM scheduler of an LCM checkpoint, and DDIM for all others."""
    config = _schedule_config(folder)
    if 'prediction_type' not in config:
        # diffusers would assume epsilon without a word.
        raise CheckpointError(
            f'{folder}/scheduler/scheduler_config.json has no prediction_type; restore the '
            'file that the unet was trained with'
        )
    kind = LCMScheduler if config.get('_class_name') == 'LCMScheduler' else DDIMScheduler
    try:
        return kind.from_pretrained(folder / 'scheduler', local_files_only=True)
    except Exception as error:  # diffusers raises whatever a wrong value led to
        raise CheckpointError(
            f'{folder}/scheduler/scheduler_config.json makes no schedule '
            f'({str(error).strip()[:200]}); restore it'
        ) from error


def empty_text(folder: Path) -> torch.Tensor:
    """
    Return the embedding (1, L, D) float32 of the empty prompt, or raise CheckpointError.

    It is all that Marigold needs of its text encoder: 8 kB instead of 1.4 GB. Computed once, it is
    kept beside the checkpoint, where diffusers' users find it too, or in the user's cache.
    """
    beside = folder / f'{EMPTY_TEXT}.safetensors'
    if beside.is_file():
        return _read_embedding(beside)
    encoder = folder / 'text_encoder'
    if not encoder.is_dir():
        raise CheckpointError(
            f'{folder} has neither {EMPTY_TEXT}.safetensors nor text_encoder/; one of them must '
            'be there'
        )
    cached = _cache_path(encoder)
    if cached.is_file():
        return _read_embedding(cached)
    embedding = _embed_empty_text(folder)
    data = save({EMPTY_TEXT: embedding.contiguous()})
    # Shared and installed checkpoints are read-only; without any place it is computed each time.
    for path in (beside, cached):
        with suppress(MarigoldError):
            write_whole(path, data)
            break
    return embedding


def _read_embedding(path: Path) -> torch.Tensor:
    try:
        return load_file(path)[EMPTY_TEXT].float()
    except Exception as error:  # safetensors raises its own kinds
        raise CheckpointError(
            f'{path} cannot be read ({error}); it must hold one tensor {EMPTY_TEXT}: restore it, '
            'or remove it beside a text_encoder/'
        ) from error


def _cache_path(encoder: Path) -> Path:
    """Return its path in the user's cache, whose name changes with the encoder's files."""
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    facts = [str(encoder.resolve())]
    for path in sorted(encoder.iterdir()):
        status = path.stat()
        facts.append(f'{path.name} {status.st_size} {status.st_mtime_ns}')
    key = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:32]
    return root / 'marigold_ros' / f'{EMPTY_TEXT}-{key}.safetensors'


def _embed_empty_text(folder: Path) -> torch.Tensor:
    from transformers import CLIPTextModel, CLIPTokenizer

    part = folder / 'text_encoder'
    remedy = f'copy model.safetensors there, or put {EMPTY_TEXT}.safetensors into {folder}'
    variant = variant_of(require_weights(part, remedy))
    arguments: dict[str, Any] = {'local_files_only': True}
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / 'tokenizer', **arguments)
        encoder = CLIPTextModel.from_pretrained(
            part, use_safetensors=True, variant=variant, dtype=torch.float32, **arguments
        )
    except Exception as error:  # transformers, tokenizers and safetensors raise their own kinds
        raise CheckpointError(
            f'{folder}: text_encoder/ and tokenizer/ cannot be loaded '
            f'({str(error).strip().splitlines()[0][:300]}); restore them'
        ) from error
    tokens = tokenizer('', padding='do_not_pad', truncation=True, return_tensors='pt')
    with torch.no_grad():
        return encoder.eval()(tokens.input_ids)[0].float()


def load_network(kind: Any, part: Path) -> Any:
    """
    Load one network in float32: every weight present, nothing beyond, shapes as configured.

    Raises CheckpointError, naming the file or the weight that is missing, damaged, pickled,
    unknown or not finite.
    """
    require_file(part.parent, f'{part.name}/config.json')
    remedy = (
        'convert with pipeline.save_pretrained(folder, safe_serialization=True) where you trust '
        'them'
    )
    variant = variant_of(require_weights(part, remedy))
    try:
        with _quiet_shards():
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
            f'{part} cannot be loaded: {str(error).strip().splitlines()[0][:300]}; the files are '
            'damaged or belong to another architecture'
        ) from error
    wrong = report['missing_keys'] + report['unexpected_keys'] + report['mismatched_keys']
    if wrong:
        raise CheckpointError(
            f'{part}: {len(report["missing_keys"])} weights missing, '
            f'{len(report["unexpected_keys"])} unknown, {len(report["mismatched_keys"])} of other '
            f'shape (first: {wrong[0]}); weights and config.json must belong together'
        )
    for name, weight in network.state_dict().items():
        # One pass over the memory, and no mask of the size of the network.
        if weight.is_floating_point() and not torch.isfinite(weight.sum()):
            raise CheckpointError(
                f'{part}: weight {name} is not finite; the file is damaged, restore it'
            )
    return network.eval().requires_grad_(False)


def variant_of(files: Iterable[Path]) -> str | None:
    """Return diffusers' variant of weight files: ``fp16`` unless full precision is there."""
    return None if any('.fp16' not in path.name for path in files) else 'fp16'


@contextmanager
def _quiet_shards() -> Iterator[None]:
    """Keep diffusers' progress bar of shards, a matter of milliseconds, out of logs."""
    shown = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            diffusers_logging.enable_progress_bar()


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over the weight files of a checkpoint, as ``sha256sum`` does."""
    files = sorted(folder.rglob('*.safetensors'))
    lines = [f'{sha256(path)}  {path.relative_to(folder).as_posix()}\n' for path in files]
    (folder / SUMS).write_text(''.join(lines), encoding='utf-8')


def verify_sums(folder: Path) -> tuple[str, ...]:
    """
    Compare files with a checkpoint's ``SHA256SUMS``, if any; returns the names compared.

    Raises CheckpointError, naming the file that is missing or differs.
    """
    path = folder / SUMS
    if not path.is_file():
        return ()
    names = []
    for line in path.read_text(encoding='utf-8').splitlines():
        expected, _, name = line.partition(' ')
        name = name.lstrip(' *')
        target = folder / name
        if not name or not target.is_file() or Path(name).is_absolute() or '..' in name:
            raise CheckpointError(f"{path} lists '{name or line}', which is not in the folder")
        found = sha256(target)
        if found != expected.lower():
            raise CheckpointError(
                f'{target} has SHA-256 {found[:12]}…, {SUMS} lists {expected[:12]}…; the file was '
                'changed or damaged: restore it'
            )
        names.append(name)
    return tuple(names)
