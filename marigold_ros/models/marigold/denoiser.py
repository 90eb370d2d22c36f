# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Denoises latents by DDIM or by an LCM schedule; the last step keeps the denoised sample.

The reference returns the scheduler's ``prev_sample`` at the last step, which still carries 2.9 %
of the noise (its final alpha is that of step 0, not 1); ``reference_exact`` does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusers import DDIMScheduler, LCMScheduler, UNet2DConditionModel
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule
import torch

SEED_LIMIT = 2**63 - 1


def start_noise(
    kind: str,
    members: int,
    shape: tuple[int, ...],
    seed: int,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """
    Draw the noise of all members at once.

    Parameters
    ----------
    kind : {'gaussian', 'zeros'}
        What the checkpoint was trained to start from.
    members : int
        E.
    shape : (C, h, w)
        Of one latent.
    seed : int
        Of a CPU generator, so that every device starts from the same noise.
    generator : torch.Generator or None
        To draw from in place of a new one; it is seeded here.

    Returns
    -------
    (E, C, h, w) float32

    """
    if kind == 'zeros':
        return torch.zeros(members, *shape)
    generator = torch.Generator('cpu') if generator is None else generator
    return torch.randn(members, *shape, generator=generator.manual_seed(seed))


def denoise(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    rgb_latent: torch.Tensor,
    noise: torch.Tensor,
    text: torch.Tensor,
    steps: int,
    reference_exact: bool = False,
    schedule: Schedule | None = None,
) -> torch.Tensor:
    """
    Denoise depth latents that are conditioned on the image.

    Parameters
    ----------
    unet, scheduler
        Networks of the checkpoint; the scheduler is left as it is.
    rgb_latent : (1 or E, C, h, w)
        The image of all members, or each one's own, scaled.
    noise : (E, C, h, w)
        Where each member starts.
    text : (1, L, D)
        Empty-prompt embedding.
    steps : int
        DDIM steps.
    reference_exact : bool
        Return what diffusers' pipeline returns.
    schedule : Schedule or None
        The steps; None reads them from the scheduler as it is set.

    Returns
    -------
    (E, C, h, w)
        Denoised latents, scaled.

    """
    if schedule is None:
        schedule = ddim_schedule(scheduler, steps, device=noise.device)
    members = len(noise)
    condition = rgb_latent.expand(members, -1, -1, -1)  # (E, C, h, w)
    text = text.repeat(members, 1, 1)  # (E, L, D)
    latent = denoised = noise
    for t, step in zip(schedule.timesteps, schedule.steps, strict=True):
        stacked = torch.cat([condition, latent], dim=1)  # (E, 2C, h, w)
        output = unet(stacked, t, encoder_hidden_states=text, return_dict=False)[0]
        denoised, latent = schedule.advance(step, output, latent)  # (E, C, h, w) each
    return latent if reference_exact else denoised


def denoise_consistency(
    unet: UNet2DConditionModel,
    scheduler: LCMScheduler,
    rgb_latent: torch.Tensor,
    noise: torch.Tensor,
    text: torch.Tensor,
    steps: int,
    generator: torch.Generator | list[torch.Generator],
) -> torch.Tensor:
    """
    Denoise with a latent consistency model, whose steps put fresh noise in between.

    Parameters
    ----------
    unet, scheduler, rgb_latent, noise, text, steps
        As in :func:`denoise`.
    generator : torch.Generator or list of them
        Of the noise between steps: one for all members as in the reference, or one for each.

    Returns
    -------
    (E, C, h, w)
        Denoised latents, scaled; the last step gives its own denoised sample.

    Raises
    ------
    ConfigurationError
        If the model was not distilled for as many steps.

    """
    try:
        scheduler.set_timesteps(steps, device=noise.device)
    except ValueError as error:
        raise ConfigurationError(
            f'denoising_steps is {steps}; this LCM checkpoint was distilled for '
            f'{scheduler.config.original_inference_steps}: choose 1 to 4'
        ) from error
    members = len(noise)
    condition = rgb_latent.expand(members, -1, -1, -1)  # (E, C, h, w)
    text = text.repeat(members, 1, 1)  # (E, L, D)
    latent = noise
    for t in scheduler.timesteps:
        stacked = torch.cat([condition, latent], dim=1)  # (E, 2C, h, w)
        output = unet(stacked, t, encoder_hidden_states=text, return_dict=False)[0]
        latent = scheduler.step(output, t, latent, generator=generator).prev_sample
    return latent


def member_generators(members: int, seed: int) -> list[torch.Generator]:
    """Return one generator per member: its noise does not depend on how members are batched."""
    # An odd factor keeps neighbouring seeds' members apart.
    seeds = [(seed * 1_000_003 + member + 1) % 2**63 for member in range(members)]
    return [torch.Generator('cpu').manual_seed(value) for value in seeds]


def consistency_generators(
    noise: torch.Tensor, members: int, seed: int, batch: int, reference_noise: str | None = None
) -> Sequence[torch.Generator | list[torch.Generator]]:
    """
    Return the generators of the noise between the steps of a latent consistency model.

    Parameters
    ----------
    noise : (N E, C, h, w)
        Where denoising starts.
    members, seed : int
        E, and the seed of the start noise.
    batch : int
        Latents that are denoised at once.
    reference_noise : str or None
        Kind of the start noise, to draw from one generator for all as the reference does; None
        is one for each member.

    Returns
    -------
    list
        As :func:`denoise_consistency` takes them, one item for each batch.

    """
    if reference_noise is None:
        images = len(noise) // members
        own = [made for _ in range(images) for made in member_generators(members, seed)]
        return [own[i : i + batch] for i in range(0, len(own), batch)]
    # The reference goes on drawing from the generator that gave the first noise.
    shared = torch.Generator('cpu').manual_seed(seed)
    start_noise(reference_noise, len(noise), tuple(noise.shape[1:]), seed, shared)
    return [shared] * -(-len(noise) // batch)
