# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Train a DiffusionDepth.

``init`` is ``{kind: small}`` with any values of an architecture, or ``{kind: checkpoint,
path: …}``. A backbone that has a ``model_type`` needs ``weights`` too: those of ImageNet, or
``random``. Recipes may have ``loss``, the weights of its terms.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.diffusion_depth.checkpoint import (
    facts_of,
    load_network,
    MODEL_TYPE,
    read_architecture,
    SPACE,
)
from marigold_ros.models.diffusion_depth.model import DiffusionDepthModel
from marigold_ros.models.diffusion_depth.network import Architecture, DiffusionDepth
from marigold_ros.models.locate import find_folder
from marigold_training.families.registry import init_kind, TrainedFamily, Weights
from marigold_training.networks.backbone_weights import load_backbone, RANDOM
from marigold_training.networks.export import write_network
from marigold_training.objectives.diffusion_depth import TermWeights, TrainedDiffusionDepth
from marigold_training.recipe_keys import read_fields
import torch

SIZES = tuple(item.name for item in fields(Architecture))


def initial_network(recipe: Mapping[str, Any], seed: int) -> TrainedDiffusionDepth:
    """Build the network that a recipe's ``init`` names."""
    entry = recipe['init']
    found = init_kind(entry, {'small': (*SIZES, 'weights'), 'checkpoint': ('path',)})
    own = {key: value for key, value in entry.items() if key != 'kind'}
    facts = facts_of(recipe['facts'], 'facts of the recipe')
    if found == 'checkpoint':
        network = load_network(find_folder(str(own.get('path')))).requires_grad_(True).train()
    else:
        weights = own.pop('weights', '')
        architecture = read_architecture(own, 'init')
        kind = str(architecture.backbone.get('model_type', ''))
        if kind and not weights:
            raise ConfigurationError(
                f'init has a backbone of model_type {kind} and no weights; give a file or folder '
                f'of weights of ImageNet, or `weights: {RANDOM}`'
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = DiffusionDepth(architecture)
        if weights and weights != RANDOM:
            load_backbone(network.features.backbone, kind, str(weights))
    terms = read_fields(TermWeights, 'loss', recipe.get('loss', {}))
    return TrainedDiffusionDepth(network, facts.max_depth, terms)


def engine_model(
    chain: TrainedDiffusionDepth, weights: Weights, facts: Mapping[str, Any], device: torch.device
) -> DiffusionDepthModel:
    """Build the inference model from copies of weights."""
    network = deepcopy(chain.network)
    network.load_state_dict(
        {key.removeprefix('network.'): value.detach() for key, value in weights.items()}
    )
    found = facts_of(facts, 'facts of the recipe')
    network.requires_grad_(False).eval()
    return DiffusionDepthModel(Path('validation'), found, network, device)


def write(folder: Path, chain: TrainedDiffusionDepth, facts: Mapping[str, Any]) -> None:
    """Write configuration, weights and facts."""
    network = chain.network
    config = {'model_type': MODEL_TYPE, **asdict(network.architecture)}
    # Float16 does not reach the variances of latents far below zero.
    write_network(folder, network, config, facts, torch.float32)


def kind(facts: Mapping[str, Any]) -> str:
    """Return what the model is."""
    return 'DiffusionDepth, which denoises a depth latent guided by features of the image'


FAMILY = TrainedFamily(initial_network, engine_model, write, kind, keys=('loss',), spaces=(SPACE,))
