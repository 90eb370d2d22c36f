# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Denoise latents by a DDIM or an LCM schedule; the last step keeps the denoised sample.

The reference returns the scheduler's ``prev_sample`` at the last step, which still carries 2.9 %
of the noise (its final alpha is that of step 0, not 1); ``reference_exact`` does the same.
"""

from collections.abc import Sequence

from diffusers import LCMScheduler, UNet2DConditionModel
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.schedule import refuse_epsilon_of_noise, Schedule
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
    Draw the start noise (E, C, h, w) float32 of all ``members`` at once.

    ``kind`` is gaussian or zeros, whichever the checkpoint was trained to start from; ``shape`` is
    (C, h, w). A CPU generator, the one given or a new one, is seeded here, so that every device
    starts from the same noise.
    """
    if kind == 'zeros':
        return torch.zeros(members, *shape)
    generator = torch.Generator('cpu') if generator is None else generator
    return torch.randn(members, *shape, generator=generator.manual_seed(seed))


def denoise(
    unet: UNet2DConditionModel,
    text: torch.Tensor,
    rgb_latent: torch.Tensor,
    noise: torch.Tensor,
    schedule: Schedule,
    reference_exact: bool = False,
) -> torch.Tensor:
    """
    Denoise depth latents (E, C, h, w), conditioned on the image, from ``noise``; all are scaled.

    ``rgb_latent`` (1 or E, C, h, w) is the latent of the image, or of each member's image;
    ``text`` (1, L, D) the empty-prompt embedding. ``reference_exact`` returns what diffusers'
    pipeline returns.
    """
    condition = rgb_latent.expand(len(noise), -1, -1, -1)  # (E, C, h, w)
    text = text.repeat(len(noise), 1, 1)  # (E, L, D)
    latent = denoised = noise
    for t, step in zip(schedule.timesteps, schedule.steps, strict=True):
        stacked = torch.cat([condition, latent], dim=1)  # (E, 2C, h, w)
        output = unet(stacked, t, encoder_hidden_states=text, return_dict=False)[0]
        denoised, latent = schedule.advance(step, output, latent)  # (E, C, h, w) each
    return latent if reference_exact else denoised


def check_consistency_steps(scheduler: LCMScheduler, steps: int) -> None:
    """Raise ConfigurationError if it has no such schedule, or predicts epsilon of pure noise."""
    try:
        scheduler.set_timesteps(steps)
    except ValueError as error:
        raise ConfigurationError(
            f'denoising_steps is {steps}; this LCM checkpoint was distilled for '
            f'{scheduler.config.original_inference_steps}: choose 1 to 4'
        ) from error
    refuse_epsilon_of_noise(scheduler, int(scheduler.timesteps[0]))


def denoise_consistency(
    unet: UNet2DConditionModel,
    text: torch.Tensor,
    rgb_latent: torch.Tensor,
    noise: torch.Tensor,
    scheduler: LCMScheduler,
    steps: int,
    generator: torch.Generator | list[torch.Generator],
) -> torch.Tensor:
    """
    Denoise with a latent consistency model, which adds fresh noise between steps.

    Arguments otherwise as of :func:`denoise`; ``generator`` draws the noise between steps: one for
    all members as in the reference, or one for each.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    condition = rgb_latent.expand(len(noise), -1, -1, -1)  # (E, C, h, w)
    text = text.repeat(len(noise), 1, 1)  # (E, L, D)
    latent = noise
    for t in scheduler.timesteps:
        stacked = torch.cat([condition, latent], dim=1)  # (E, 2C, h, w)
        output = unet(stacked, t, encoder_hidden_states=text, return_dict=False)[0]
        latent = scheduler.step(output, t, latent, generator=generator).prev_sample
    return latent


def consistency_generators(
    noise: torch.Tensor, members: int, seed: int, batch: int, reference_noise: str | None = None
) -> Sequence[torch.Generator | list[torch.Generator]]:
    """
    Return the generators for :func:`denoise_consistency`, one item for each batch of latents.

    Each member has its own, so that its noise does not depend on the batches; with the kind of the
    start noise given, all share one, as in the reference.
    """
    if reference_noise is None:
        images = len(noise) // members
        # An odd factor keeps neighbouring seeds' members apart.
        seeds = [(seed * 1_000_003 + member + 1) % 2**63 for member in range(members)] * images
        own = [torch.Generator('cpu').manual_seed(value) for value in seeds]
        return [own[i : i + batch] for i in range(0, len(own), batch)]
    # The reference goes on drawing from the generator that gave the first noise.
    shared = torch.Generator('cpu').manual_seed(seed)
    start_noise(reference_noise, len(noise), tuple(noise.shape[1:]), seed, shared)
    return [shared] * -(-len(noise) // batch)
