# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The folder of a PrimeDepth: ``config.json``, ``model.safetensors`` and ``marigold_ros.json``.

It holds the refiner and the embedding of the prompt. The frozen U-Net and its autoencoder are in
the checkpoint that ``base`` of ``config.json`` names, ``.`` for the folder itself; ``trained_on``
has its name and fingerprint at the time of training. ``marigold_ros.json`` has the space of the
predictions, and ``default_processing_pixels`` or ``longest_edge``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from marigold_ros.errors import CheckpointError
from marigold_ros.models.facts import CONFIG, map_facts, MapFacts
from marigold_ros.models.locate import find_folder, fingerprint, read_json, verify_sums
from marigold_ros.models.marigold.checkpoint import load_autoencoder, load_network, MOST_SIDE
from marigold_ros.models.prime_depth.preimage import (
    decoder_steps,
    KEPT,
    Preimage,
    read_preimage,
)
from marigold_ros.models.prime_depth.refiner import Refiner, set_norms
from marigold_ros.models.weights import load_built
import torch

MODEL_TYPE = 'marigold_ros_prime_depth'
PIXELS = 442368  # 576x768, where a checkpoint says nothing
OWN_BASE = '.'  # as base: the folder itself
GROUPS = 8  # channels of the label decoder are multiples
SHOWN = 12  # digits of a fingerprint in messages


@dataclass(frozen=True)
class FrozenBase:
    """
    The frozen networks that a refiner reads, and where they are from.

    ``name`` is an embedded name, a folder or a hub id; ``sha256`` the fingerprint of U-Net and
    autoencoder.
    """

    name: str
    folder: Path
    sha256: str
    autoencoder: AutoencoderKL | AutoencoderTiny
    unet: UNet2DConditionModel

    @property
    def factor(self) -> int:
        """Pixels of the image per cell of the latent, along each side."""
        return int(2 ** (len(self.autoencoder.config.block_out_channels) - 1))

    @torch.no_grad()
    def preimage(self, image: torch.Tensor, text: torch.Tensor, noise: torch.Tensor) -> Preimage:
        """
        Read the preimage of images (B, 3, H, W) in [-1, 1].

        ``text`` is as in Refiner, ``noise`` (2, 1 or B, C, h, w) that of the autoencoder's
        distribution, and that of t = 1.
        """
        answer = self.autoencoder.encode(image)
        # AutoencoderTiny has no distribution.
        if hasattr(answer, 'latents'):
            latent = answer.latents
        else:
            latent = answer.latent_dist.mean + answer.latent_dist.std * noise[0].to(image)
        latent = latent * self.autoencoder.config.scaling_factor
        noisy = math.sqrt(KEPT) * latent + math.sqrt(1.0 - KEPT) * noise[1].to(image)
        return read_preimage(self.unet, noisy, text.to(image))

    def noise_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the noise of an image of a size."""
        channels = self.autoencoder.config.latent_channels
        return 2, 1, channels, height // self.factor, width // self.factor


def load_base(name: str, own: Path | None = None) -> FrozenBase:
    """
    Load the frozen networks of a checkpoint in diffusers layout, in float32.

    ``own`` is its folder where it needs no search. Raises CheckpointError if there is none of that
    name, a file is damaged, or the U-Net cannot be read.
    """
    folder = own or find_folder(name)
    verify_sums(folder)
    unet = load_network(UNet2DConditionModel, folder / 'unet')
    autoencoder = load_autoencoder(folder / 'vae')
    set_norms(autoencoder)
    decoder_steps(unet)
    channels = autoencoder.config.latent_channels
    if unet.config.in_channels not in (channels, 2 * channels):
        raise CheckpointError(
            f'the U-Net of {folder} takes {unet.config.in_channels} channels and the latent has '
            f'{channels}; it must take one latent, as Stable Diffusion, or two, as Marigold'
        )
    sha256 = fingerprint([folder / 'unet', folder / 'vae'])
    return FrozenBase(name, folder, sha256, autoencoder, unet)


@dataclass(frozen=True)
class PrimeDepthFacts(MapFacts):
    """Also the longer side above which images are resized, 0 to resize all to ``pixels``."""

    longest: int


def facts_of(own: Mapping[str, Any], where: str) -> PrimeDepthFacts:
    """Check the content of ``marigold_ros.json``; raises CheckpointError."""
    longest, found = own.get('longest_edge', 0), map_facts(own, where, PIXELS)
    if type(longest) is not int or not 0 <= longest <= MOST_SIDE:
        raise CheckpointError(
            f'{where} has longest_edge {longest!r}; give a whole number up to {MOST_SIDE}, 0 for '
            'default_processing_pixels'
        )
    return PrimeDepthFacts(found.space, found.pixels, longest)


def config_of(base: FrozenBase, refiner: Refiner) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    return {
        'model_type': MODEL_TYPE,
        'base': base.name,
        'trained_on': {'name': base.name, 'sha256': base.sha256},
        'tokens': refiner.text.shape[1],
        'decoder': list(refiner.decoder),
        'layers': refiner.layers,
    }


def load_refiner(folder: Path) -> tuple[FrozenBase, Refiner]:
    """
    Load the networks of a folder in float32.

    Raises CheckpointError if a file is missing or damaged, or the base is not the one that the
    refiner was trained on.
    """
    path = folder / CONFIG
    config = read_json(path)
    name, trained = config.get('base'), config.get('trained_on')
    own = name == OWN_BASE
    if not isinstance(name, str) or not (own or isinstance(trained, dict)):
        raise CheckpointError(
            f'{path} has base {name!r} and trained_on {trained!r}; base must name the checkpoint '
            'of the frozen U-Net, trained_on its name and sha256: restore the file'
        )
    sizes: list[Any] = [config.get(key) for key in ('tokens', 'decoder', 'layers')]
    if not are_sizes(*sizes):
        raise CheckpointError(
            f'{path} has tokens {sizes[0]}, decoder {sizes[1]} and layers {sizes[2]}; they must '
            f'be a number, multiples of {GROUPS}, and a number: restore the file'
        )
    base = load_base(str(folder), folder) if own else trained_base(path, name, trained or {})
    return base, load_built(folder, lambda: Refiner(base.unet.config, *sizes))


def trained_base(path: Path, name: str, trained: Mapping[str, Any]) -> FrozenBase:
    """Load the base that a configuration names; CheckpointError unless it is the trained one."""
    try:
        base = load_base(name)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path.parent.name} needs the frozen U-Net of '{trained.get('name')}': {error}; "
            f'write where it is as base into {path}'
        ) from error
    if base.sha256 != trained.get('sha256'):
        raise CheckpointError(
            f"{path.parent.name} was trained on the U-Net of '{trained.get('name')}' (SHA-256 "
            f'{str(trained.get("sha256"))[:SHOWN]}…) and {base.folder} holds another one '
            f'({base.sha256[:SHOWN]}…); write where the first is as base into {path}'
        )
    return base


def are_sizes(tokens: Any, decoder: Any, layers: Any) -> bool:
    """Return whether a refiner of these sizes can be built."""
    if not isinstance(decoder, (list, tuple)) or not decoder:
        return False
    if not all(type(number) is int for number in (tokens, layers, *decoder)):
        return False
    wide = all(number > 0 and number % GROUPS == 0 for number in decoder)
    return bool(wide and tokens > 0 and layers >= 0)
