# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
DDIM on latents with diffusers' scheduler; the last step keeps the denoised sample.

The reference returns the scheduler's ``prev_sample`` at the last step, which still carries 2.9 %
of the noise (its final alpha is that of step 0, not 1); ``reference_exact`` does the same.
"""

from __future__ import annotations

from diffusers import DDIMScheduler, UNet2DConditionModel
import torch


def start_noise(kind: str, members: int, shape: tuple[int, int, int], seed: int) -> torch.Tensor:
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

    Returns
    -------
    (E, C, h, w) float32

    """
    if kind == 'zeros':
        return torch.zeros(members, *shape)
    generator = torch.Generator('cpu').manual_seed(seed)
    return torch.randn(members, *shape, generator=generator)


def denoise(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    rgb_latent: torch.Tensor,
    noise: torch.Tensor,
    text: torch.Tensor,
    steps: int,
    reference_exact: bool = False,
) -> torch.Tensor:
    """
    Denoise depth latents that are conditioned on the picture.

    Parameters
    ----------
    unet, scheduler
        Networks of the checkpoint; the scheduler's timesteps are set here.
    rgb_latent : (1, C, h, w)
        The picture, scaled.
    noise : (E, C, h, w)
        Where each member starts.
    text : (1, L, D)
        Empty-prompt embedding.
    steps : int
        DDIM steps.
    reference_exact : bool
        Return what diffusers' pipeline returns.

    Returns
    -------
    (E, C, h, w)
        Denoised latents, scaled.

    """
    members = len(noise)
    condition = rgb_latent.repeat(members, 1, 1, 1)  # (E, C, h, w)
    text = text.repeat(members, 1, 1)  # (E, L, D)
    scheduler.set_timesteps(steps, device=noise.device)
    latent = noise
    for t in scheduler.timesteps:
        stacked = torch.cat([condition, latent], dim=1)  # (E, 2C, h, w)
        output = unet(stacked, t, encoder_hidden_states=text, return_dict=False)[0]
        step = scheduler.step(output, t, latent)
        latent = step.prev_sample  # (E, C, h, w)
    return latent if reference_exact else step.pred_original_sample
