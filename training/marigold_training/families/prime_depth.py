# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Train the refiner of a PrimeDepth; the U-Net that it reads stays frozen.

``init`` is ``{kind: small, base: NAME, text: FILE, decoder: […], layers: N}``, all but base
optional, or ``{kind: checkpoint, path: …}``. ``base`` is a checkpoint in diffusers layout,
``text`` a safetensors file with one embedding (1, L, D) of a prompt in place of the empty one.
"""

from collections.abc import Mapping
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.locate import find_folder
from marigold_ros.models.marigold.checkpoint import empty_text
from marigold_ros.models.prime_depth.checkpoint import (
    are_sizes,
    config_of,
    facts_of,
    FrozenBase,
    GROUPS,
    load_base,
    load_refiner,
)
from marigold_ros.models.prime_depth.model import Chain, PrimeDepthModel
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.resizing import upsample_bilinear
from marigold_training.families.registry import copied_weights, init_kind, TrainedFamily, Weights
from marigold_training.networks.export import write_network
from marigold_training.objectives.noise import Draws
from marigold_training.objectives.trained_networks import Loss, TrainedModel
from safetensors import SafetensorError
from safetensors.torch import load_file
import torch

# Of the published label decoder, which is that of Stable Diffusion's autoencoder.
DECODER, LAYERS = (128, 256, 512, 512), 2
KEYS = {'small': ('base', 'text', 'decoder', 'layers'), 'checkpoint': ('path',)}


class TrainedPrimeDepth(TrainedModel):
    """
    A refiner in training, as ``unet``, the name of what objectives train.

    ``base`` is in a tuple, so that the frozen networks are no part of it: neither its state nor
    its optimiser has their weights.
    """

    def __init__(self, base: FrozenBase, refiner: Refiner, space: str) -> None:
        super().__init__(space)
        self.unet = refiner
        self.base = (base,)
        self.draws: Draws | None = None

    def forward(self, loss: Loss, batch: Any, draws: Draws) -> torch.Tensor:
        """Return the loss of a batch, with noise of its own for each image."""
        self.draws = draws
        try:
            return loss(self, batch, draws)
        finally:
            self.draws = None

    def map_and_latent(self, rgb: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Predict (B, 1, H, W) of images (B, 3, H, W) in [-1, 1]; there is no latent."""
        (base,) = self.base
        for network in (base.autoencoder, base.unet):
            torch.nn.Module.to(network, rgb.device)
        shape = base.noise_shape(rgb.shape[-2], rgb.shape[-1])
        if self.draws is None:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        else:
            noise = self.draws.normal(shape)[:, :, 0].transpose(0, 1)
        maps = self.unet(base.preimage(rgb, self.unet.text, noise))
        return upsample_bilinear(maps, (rgb.shape[-2], rgb.shape[-1])), None


def initial_network(recipe: Mapping[str, Any], seed: int) -> TrainedPrimeDepth:
    """Load the frozen networks that a recipe's ``init`` names, and build their refiner."""
    entry, space = recipe['init'], recipe['facts']['space']
    found = init_kind(entry, KEYS)
    facts_of(recipe['facts'], 'facts of the recipe')
    if found == 'checkpoint':
        base, refiner = load_refiner(find_folder(str(entry.get('path'))))
        return TrainedPrimeDepth(base, refiner.requires_grad_(True), space)
    if not isinstance(entry.get('base'), str):
        raise ConfigurationError(
            f'init.base is {entry.get("base")!r}; give the name, folder or hub id of a checkpoint '
            'in diffusers layout, as tiny-diffusion'
        )
    base = load_base(entry['base'])
    text = prompt_of(base, entry.get('text'))
    sizes = text.shape[1], entry.get('decoder', DECODER), entry.get('layers', LAYERS)
    if not are_sizes(*sizes):
        raise ConfigurationError(
            f'init has decoder {sizes[1]} and layers {sizes[2]}; give a list of multiples of '
            f'{GROUPS} and a number'
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        refiner = Refiner(base.unet.config, *sizes)
    refiner.text.copy_(text)
    return TrainedPrimeDepth(base, refiner, space)


def prompt_of(base: FrozenBase, path: str | None) -> torch.Tensor:
    """Return the embedding (1, L, D) of a file's prompt, or of the empty one without a file."""
    if path is None:
        return empty_text(base.folder)
    width = base.unet.config.cross_attention_dim
    try:
        tensors = list(load_file(Path(path).expanduser()).values())
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f'init.text is {path}, which cannot be read ({error}); give a safetensors file with '
            'one embedding, or leave it out for the empty prompt'
        ) from error
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][::2] != (1, width):
        raise ConfigurationError(
            f'init.text is {path} with shapes {shapes}; the U-Net of {base.name} needs one '
            f'embedding (1, L, {width})'
        )
    return tensors[0].float()


def engine_model(
    chain: TrainedPrimeDepth, weights: Weights, facts: Mapping[str, Any], device: torch.device
) -> PrimeDepthModel:
    """Build the inference model from copies of weights."""
    (base,) = chain.base
    base = replace(
        base, autoencoder=copy.deepcopy(base.autoencoder), unet=copy.deepcopy(base.unet)
    )
    with torch.device('meta'):  # no random weights are drawn
        own = chain.unet
        refiner = Refiner(base.unet.config, own.text.shape[1], own.decoder, own.layers)
    copied = copied_weights(weights, 'unet', device, torch.float32)
    refiner.load_state_dict(copied, assign=True)
    found = facts_of(facts, 'facts of the recipe')
    refiner.requires_grad_(False).eval()
    return PrimeDepthModel(Path('validation'), found, Chain(base, refiner), device)


def write(folder: Path, chain: TrainedPrimeDepth, facts: Mapping[str, Any]) -> None:
    """Write configuration, weights of the refiner and facts."""
    (base,) = chain.base
    write_network(folder, chain.unet, config_of(base, chain.unet), facts)


def kind(facts: Mapping[str, Any]) -> str:
    """Return what the model is."""
    return (
        'PrimeDepth: a refiner of what a frozen U-Net computes in one pass. The U-Net and its '
        'autoencoder are\nnot in this folder: `base` of `config.json` names their checkpoint'
    )


FAMILY = TrainedFamily(initial_network, engine_model, write, kind)
