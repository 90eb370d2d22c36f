# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Train a Marigold: an autoencoder, a U-Net on its latents, DDIM steps."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.locate import find_folder
from marigold_ros.models.marigold.checkpoint import Facts, Networks, read_facts
from marigold_ros.models.marigold.checkpoint import facts_of as checked_facts
from marigold_ros.models.marigold.engine import MarigoldModel
from marigold_ros.models.marigold.prompt import PointPrompt
from marigold_ros.models.marigold.prompted import new_model
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_training.families.registry import copied_weights, TrainedFamily, Weights
from marigold_training.networks.export import usual_size, write_checkpoint
from marigold_training.networks.initialise import initialise
from marigold_training.objectives.adapters import add_adapters, has_adapters, merged
from marigold_training.objectives.trained_networks import TrainedNetworks
import torch

ADAPTERS = 'adapters'  # key of a recipe: their rank; none by default


def initial_networks(recipe: Mapping[str, Any], seed: int) -> TrainedNetworks:
    """Build the networks that a recipe's ``init`` names."""
    facts_of(recipe['facts'])
    chain = initialise(
        recipe['init'],
        seed,
        recipe['facts']['space'],
        recipe.get('noise', 'gaussian'),
        recipe.get('noise_strength', 0.9),
    )
    if recipe['init']['kind'] == 'checkpoint':
        chain.initial_space = read_facts(find_folder(str(recipe['init']['path']))).space
    if recipe.get(ADAPTERS):
        add_adapters(chain.unet, recipe[ADAPTERS], seed)
    return chain


def engine_model(
    chain: TrainedNetworks, weights: Weights, facts: Mapping[str, Any], device: torch.device
) -> MarigoldModel:
    """
    Build the inference model from a chain's architecture and copies of weights.

    ``weights`` are like the chain's ``state_dict`` and share no memory with the result; ``facts``
    are those of the checkpoint to be.
    """
    count = sum(p.numel() for p in chain.parameters())
    dtype = choose_dtype('auto', device, count)
    networks = {}
    for name in ('autoencoder', 'unet', 'prompt'):
        own = getattr(chain, name)
        if own is None:
            continue
        with torch.device('meta'):  # no random weights are drawn
            if isinstance(own, PointPrompt):
                copy = PointPrompt(chain.autoencoder.config.block_out_channels, own.width)
            else:
                copy = type(own).from_config(own.config)
        own_weights = copied_weights(merged(weights), name, device, dtype)
        copy.load_state_dict(own_weights, assign=True)
        networks[name] = copy.requires_grad_(False).eval()
    parts = Networks(
        facts_of(facts),
        networks['autoencoder'],
        networks['unet'],
        chain.scheduler,
        chain.text.detach().clone(),
        prompt=networks.get('prompt'),
    )
    return new_model(parts, device, dtype)


def facts_of(entry: Mapping[str, Any]) -> Facts:
    """
    Return the facts that a checkpoint exported with this recipe entry will have.

    Raises CheckpointError if that could not be opened.
    """
    stated = {'noise': 'gaussian', **entry}
    facts = checked_facts(stated, Path('the recipe'), 'its facts')
    if 'default_processing_resolution' in entry:
        return facts
    return replace(facts, processing_resolution=max(usual_size(entry)))


def recipe_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint; raises ConfigurationError unless it takes one step."""
    facts = read_facts(folder)
    if facts.noise != 'zeros' or facts.denoising_steps != 1:
        raise ConfigurationError(
            f'{facts.name} predicts in {facts.denoising_steps} steps from {facts.noise} noise; '
            'of this family adapt trains models of one step from zeros, such as tiny or E2E-FT '
            'checkpoints: choose another --base'
        )
    size = {'default_processing_resolution': facts.processing_resolution}
    if facts.processing_pixels:
        size = {'default_processing_pixels': facts.processing_pixels}
    return {
        'space': facts.space,
        'noise': facts.noise,
        'default_denoising_steps': facts.denoising_steps,
        'default_ensemble_size': facts.ensemble_size,
        **size,
    }


def write(folder: Path, chain: TrainedNetworks, facts: Mapping[str, Any]) -> None:
    """Write the networks in the layout of diffusers."""
    unet = chain.unet
    if has_adapters(unet):
        with torch.device('meta'):
            unet = type(unet).from_config(unet.config)
        unet.load_state_dict(merged(chain.unet.state_dict()), assign=True)
    more = {'scheduler': chain.scheduler, 'text': chain.text, 'prompt': chain.prompt}
    write_checkpoint(folder, chain.autoencoder, unet, facts, **more)


def kind(facts: Mapping[str, Any]) -> str:
    """Return what the model is and how it samples."""
    steps = facts.get('default_denoising_steps', 1)
    number = 'one step' if steps == 1 else f'{steps} steps'
    noise = 'zeros' if facts.get('noise') == 'zeros' else 'Gaussian noise'
    return (
        'Marigold (an autoencoder, a U-Net on its latents, DDIM steps), '
        f'which answers in {number} from {noise}'
    )


def usage(facts: Mapping[str, Any]) -> str:
    """Return how to open the checkpoint with diffusers."""
    height, width = usual_size(facts)
    opened = ZEROS if facts.get('noise') == 'zeros' else NOISE
    steps = facts.get('default_denoising_steps', 1)
    return USAGE + opened.format(height=height, width=width, steps=steps) + '\n```\n'


USAGE = """
With diffusers:

```python
import torch
from diffusers import MarigoldDepthPipeline
from safetensors.torch import load_file
pipe = MarigoldDepthPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
embedding = load_file(folder + '/empty_text_embedding.safetensors')['empty_text_embedding']
pipe.empty_text_embedding = embedding
"""
ZEROS = """channels = pipe.vae.config.latent_channels
latents = torch.zeros(1, channels, {height} // 8, {width} // 8)
image = torch.from_numpy(rgb).permute(2, 0, 1)  # 4:3; latents require (3, H, W)
depth = pipe(image, latents=latents, processing_resolution={width})"""
NOISE = """generator = torch.Generator('cpu').manual_seed(0)
depth = pipe(rgb, num_inference_steps={steps}, generator=generator)"""
FAMILY = TrainedFamily(
    initial_networks,
    engine_model,
    write,
    kind,
    usage,
    ('noise', 'noise_strength', 'student', ADAPTERS),
    recipe_facts,
)
