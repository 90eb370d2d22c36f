# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Train a plain U-Net.

``init`` is ``{kind: small, channels: […], blocks: […]}``, the sizes optional, or
``{kind: checkpoint, path: …}``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.locate import find_folder
from marigold_ros.models.unet.folder import facts_of, MODEL_TYPE, read_facts
from marigold_ros.models.unet.model import load_network, UNetModel
from marigold_ros.models.unet.network import are_sizes, BLOCKS, CHANNELS, DepthUNet, GROUPS
from marigold_training.families.registry import copied_weights, init_kind, TrainedFamily, Weights
from marigold_training.networks.export import write_network
from marigold_training.objectives.trained_networks import TrainedModel
import torch

SIZES = ('channels', 'blocks')


class TrainedUNet(TrainedModel):
    """A plain U-Net in training."""

    def __init__(self, unet: DepthUNet, space: str) -> None:
        super().__init__(space)
        self.unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def map_and_latent(self, rgb: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Predict (B, 1, H, W) of images (B, 3, H, W) in [-1, 1]; there is no latent."""
        return self.unet(rgb), None


def initial_network(recipe: Mapping[str, Any], seed: int) -> TrainedUNet:
    """Build the network that a recipe's ``init`` names."""
    entry, space = recipe['init'], recipe['facts']['space']
    found = init_kind(entry, {'small': SIZES, 'checkpoint': ('path',)})
    facts_of(recipe['facts'], 'facts of the recipe')
    if found == 'checkpoint':
        folder = find_folder(str(entry.get('path')))
        chain = TrainedUNet(load_network(folder).requires_grad_(True), space)
        chain.initial_space = read_facts(folder).space
        return chain
    sizes = entry.get('channels', CHANNELS), entry.get('blocks', BLOCKS)
    if not are_sizes(*sizes):
        raise ConfigurationError(
            f'init has channels {sizes[0]} and blocks {sizes[1]}; give lists, of multiples of '
            f'{GROUPS} and of one number less'
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TrainedUNet(DepthUNet(*sizes), space)


def engine_model(
    chain: TrainedUNet, weights: Weights, facts: Mapping[str, Any], device: torch.device
) -> UNetModel:
    """Build the inference model from copies of weights."""
    with torch.device('meta'):  # no random weights are drawn
        network = DepthUNet(chain.unet.channels, chain.unet.blocks)
    copied = copied_weights(weights, 'unet', device, torch.float32)
    network.load_state_dict(copied, assign=True)
    found = facts_of(dict(facts), 'facts of the recipe')
    return UNetModel(Path('validation'), found, network.requires_grad_(False).eval(), device)


def write(folder: Path, chain: TrainedUNet, facts: Mapping[str, Any]) -> None:
    """Write configuration, weights and facts."""
    network = chain.unet
    sizes = {'channels': list(network.channels), 'blocks': list(network.blocks)}
    write_network(folder, network, {'model_type': MODEL_TYPE, **sizes}, facts)


def recipe_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint."""
    facts = read_facts(folder)
    return {'space': facts.space, 'default_processing_pixels': facts.pixels}


def kind(facts: Mapping[str, Any]) -> str:
    """Return what the model is."""
    return 'plain U-Net from image to depth, which answers in one pass'


FAMILY = TrainedFamily(initial_network, engine_model, write, kind, facts=recipe_facts)
