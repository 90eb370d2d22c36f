# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Initial networks: random, from a Marigold checkpoint, or from Stable Diffusion 2.

A U-Net of Stable Diffusion becomes Marigold's by doubling its first convolution (Ke et al., CVPR
2024, section 3.2): weights are repeated for the depth latent and halved, so that activations keep
their scale. The text encoder runs once, for the empty prompt, and is dropped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.models.locate import find_folder, PROMPT, read_json, verify_sums
from marigold_ros.models.marigold.checkpoint import empty_text, load_network, load_networks
from marigold_ros.models.marigold.prompt import load_prompt, PointPrompt
from marigold_ros.models.marigold.schedule import marigold_scheduler
from marigold_ros.spaces import RELATIVE_SPACES
from marigold_training.networks.small_networks import small_autoencoder, small_unet, TEXT_SHAPE
from marigold_training.objectives.noise import check_noise
from marigold_training.objectives.trained_networks import TrainedNetworks
from marigold_training.recipe_keys import check_arguments, check_mapping
import torch

Parts = tuple[AutoencoderKL, UNet2DConditionModel, DDIMScheduler, torch.Tensor]

MOST_WIDTH = 1024  # of a prompt's blocks
SCHEDULES = {
    'v1_1': {'rescale_betas_zero_snr': True, 'timestep_spacing': 'trailing'},
    'v1_0': {'rescale_betas_zero_snr': False, 'timestep_spacing': 'leading'},
}


def initialise(
    entry: Mapping[str, Any],
    seed: int,
    space: str,
    noise: str = 'gaussian',
    noise_strength: float = 0.9,
) -> TrainedNetworks:
    """
    Build the networks that a run starts with.

    Parameters
    ----------
    entry : mapping
        A recipe's ``init``. ``kind`` is ``small`` (``autoencoder``, ``unet``: arguments of the
        small networks, optional), ``checkpoint`` (``path``: a Marigold folder, an embedded name
        or a hub id) or ``stable_diffusion`` (``path``: a folder in diffusers layout or a hub id;
        ``schedule``: v1_1 or v1_0). ``prompt`` is the width of blocks that let the decoder see
        points; a checkpoint's own stay.
    seed : int
        Of random weights.
    space : {'depth', 'log', 'disparity'}
        Of the relative values.
    noise, noise_strength : str, float
        Of the objective ``latent``, see noise.py.

    Returns
    -------
    TrainedNetworks
        On the CPU, in float32.

    Raises
    ------
    ConfigurationError
        If a key or a value of the recipe is wrong.
    CheckpointError
        If a folder lacks something, is damaged, or holds another kind of model.

    """
    check_noise(noise, noise_strength)
    if space not in RELATIVE_SPACES:
        raise ConfigurationError(f"space is '{space}'; choose one of {', '.join(RELATIVE_SPACES)}")
    kind = check_mapping('init', entry).get('kind')
    if kind not in tuple(KINDS):  # it may be a list
        raise ConfigurationError(f"init.kind is '{kind}'; choose one of {', '.join(KINDS)}")
    own = {key: value for key, value in entry.items() if key not in ('kind', PROMPT)}
    check_arguments(f"init of kind '{kind}'", own, KINDS[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = KINDS[kind](**own)
        chain = TrainedNetworks(*parts, space, noise, noise_strength)
        if kind == 'checkpoint':
            chain.prompt = load_prompt(find_folder(str(entry['path'])), chain.autoencoder)
        if chain.prompt is None and PROMPT in entry:
            width = prompt_width(entry)
            chain.prompt = PointPrompt(chain.autoencoder.config.block_out_channels, width)
    return chain


def prompt_width(entry: Mapping[str, Any]) -> int:
    """Return ``prompt`` of a recipe's ``init``; raises ConfigurationError."""
    width = entry.get(PROMPT)
    if type(width) is not int or not 1 <= width <= MOST_WIDTH:
        raise ConfigurationError(
            f'init.prompt is {width!r}; give the width of its blocks, 1 to {MOST_WIDTH} channels'
        )
    return width


def from_random(
    autoencoder: Mapping[str, Any] | None = None, unet: Mapping[str, Any] | None = None
) -> Parts:
    """Build the small networks with random weights and a zero embedding of the empty prompt."""
    first = dict(check_mapping('init.autoencoder', autoencoder or {}))
    second = dict(check_mapping('init.unet', unet or {}))
    check_arguments('init.autoencoder', first, small_autoencoder)
    check_arguments('init.unet', second, small_unet)
    if 'latent_channels' in first:
        second.setdefault('latent_channels', first['latent_channels'])
    for arguments in (first, second):
        if isinstance(arguments.get('channels'), list):
            arguments['channels'] = tuple(arguments['channels'])
    try:
        networks = small_autoencoder(**first), small_unet(**second)
    except Exception as error:  # diffusers raises whatever a wrong width led to
        raise ConfigurationError(
            f'init.autoencoder {first} with init.unet {second} is not valid ({error}); '
            'give channels as lists: multiples of 8 and of 16'
        ) from error
    latent = networks[0].config.latent_channels
    if networks[1].config.out_channels != latent:
        raise ConfigurationError(
            f'init.unet.latent_channels is {networks[1].config.out_channels}; the autoencoder has '
            f'{latent}: leave it out'
        )
    return *networks, marigold_scheduler(), torch.zeros(TEXT_SHAPE)


def from_checkpoint(path: str) -> Parts:
    """Open a Marigold checkpoint."""
    networks = load_networks(find_folder(str(path)))
    for part, kind in ((networks.autoencoder, AutoencoderKL), (networks.scheduler, DDIMScheduler)):
        if not isinstance(part, kind):
            raise CheckpointError(
                f'{path} has a {type(part).__name__}; training needs a {kind.__name__}: start '
                'from a v1-0, v1-1 or E2E-FT checkpoint'
            )
    return networks.autoencoder, networks.unet, networks.scheduler, networks.text


def from_stable_diffusion(path: str, schedule: str = 'v1_1') -> Parts:
    """Open Stable Diffusion 2, widen its U-Net and rebuild its schedule as Marigold's."""
    if schedule not in tuple(SCHEDULES):
        raise ConfigurationError(
            f"init.schedule is '{schedule}'; choose one of {', '.join(SCHEDULES)}"
        )
    folder = find_folder(str(path))
    verify_sums(folder)
    scheduler = ddim_of(folder, schedule)
    autoencoder = load_network(AutoencoderKL, folder / 'vae')
    unet = load_network(UNet2DConditionModel, folder / 'unet')
    widen(unet, autoencoder.config.latent_channels)
    text = empty_text(folder)
    if text.shape[-1] != unet.config.cross_attention_dim:
        raise CheckpointError(
            f'the text encoder of {folder} gives width {text.shape[-1]}; the unet attends to '
            f'{unet.config.cross_attention_dim}: the parts belong to different models'
        )
    return autoencoder, unet, scheduler, text


def ddim_of(folder: Path, schedule: str) -> DDIMScheduler:
    """Build DDIM with the betas and the prediction type of a folder's scheduler."""
    config = read_json(folder / 'scheduler' / 'scheduler_config.json')
    kind = config.get('prediction_type')
    if kind not in ('v_prediction', 'epsilon', 'sample'):
        raise CheckpointError(
            f"{folder}/scheduler/scheduler_config.json has prediction_type '{kind}'; it must say "
            'v_prediction, epsilon or sample, whichever the unet was trained with'
        )
    if kind == 'epsilon' and SCHEDULES[schedule]['rescale_betas_zero_snr']:
        raise ConfigurationError(
            f"init.schedule is '{schedule}', which ends in pure noise, and {folder.name} predicts "
            "epsilon, which does not determine the sample there; set schedule to 'v1_0', or start "
            'from a v_prediction model'
        )
    # Latents are unbounded, so clipping, diffusers' default, is never right.
    return DDIMScheduler.from_config(config, clip_sample=False, **SCHEDULES[schedule])


@torch.no_grad()
def widen(unet: UNet2DConditionModel, latent_channels: int) -> None:
    """
    Widen a text-to-image U-Net, in place, to take two latents, the image's first.

    Weights [O, C, 3, 3] are repeated to [O, 2C, 3, 3] and halved, the bias is kept, so that the
    same latent twice gives the original output. Raises CheckpointError unless the U-Net maps one
    latent to one latent.
    """
    found = unet.config.in_channels, unet.config.out_channels
    if found != (latent_channels, latent_channels):
        marigold = found == (2 * latent_channels, latent_channels)
        remedy = "set init.kind to 'checkpoint'" if marigold else 'give a text-to-image model'
        raise CheckpointError(
            f"the unet takes {found[0]} and gives {found[1]} channels; Stable Diffusion's takes "
            f'and gives {latent_channels}: {remedy}'
        )
    old = unet.conv_in
    new = torch.nn.Conv2d(
        2 * latent_channels, old.out_channels, old.kernel_size, padding=old.padding
    )
    new.load_state_dict({'weight': old.weight.repeat(1, 2, 1, 1) / 2.0, 'bias': old.bias})
    unet.conv_in = new.to(old.weight)
    unet.register_to_config(in_channels=2 * latent_channels)


KINDS: dict[str, Callable[..., Parts]] = {
    'small': from_random,
    'checkpoint': from_checkpoint,
    'stable_diffusion': from_stable_diffusion,
}
