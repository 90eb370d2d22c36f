# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The Monocular Conditioned Denoising Block, and the DDIM steps that it is unrolled over.

The predicted noise passes a ReLU, as in the published code: it is never negative, though the
noise that the loss compares it with is. What is too high in a latent can be lowered, what is too
low cannot be raised, so latents drift far below zero, and the decoder's batch norm brings them
back. Trained weights depend on it. Letters: B images, C latent channels, F features, h, w latent.
"""

from functools import lru_cache

from diffusers import DDIMScheduler
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule
import torch
from torch import nn
from torch.nn import functional

TIMESTEPS, EMBEDDED = 1000, 1280  # of the schedule; of the table, larger in the published code
GROUPS = 4


class DenoisingBlock(nn.Module):
    """
    Predicts the noise of a latent from the latent, the timestep and the image's features.

    Parameters
    ----------
    features, hidden, channels : int
        Of the image's features, between the two, and of the latent.
    fuse : bool
        Whether two more convolutions join latent and features (published with Swin), or their sum
        is taken (with ResNet).
    rectify : bool
        Whether a ReLU makes the noise positive, as published.

    """

    def __init__(
        self, features: int, hidden: int, channels: int, fuse: bool, rectify: bool = True
    ) -> None:
        super().__init__()
        self.noise = nn.Sequential(
            *_convolution(channels, hidden), *_convolution(hidden, features)
        )
        self.time = nn.Embedding(EMBEDDED, features)
        self.fuse = nn.Sequential(
            *(nn.Conv2d(features, features, 3, 1, 1) for _ in range(2 if fuse else 0))
        )
        ends = _convolution(features, hidden) + _convolution(hidden, channels)
        self.predict = nn.Sequential(*(ends if rectify else ends[:-1]))

    def forward(
        self, latent: torch.Tensor, timestep: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """Map (B, C, h, w), timesteps (B,) or (1,), and (B, F, h', w') to noise (B, C, h, w)."""
        condition = features + self.time(timestep)[..., None, None]
        if condition.shape[-2:] != latent.shape[-2:]:
            condition = functional.interpolate(
                condition, latent.shape[-2:], mode='bilinear', align_corners=True
            )
        return self.predict(self.fuse(condition + self.noise(latent)))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Build a 3x3 convolution, its norm and ReLU."""
    # A batch norm would mix the timesteps' very different statistics.
    return nn.Conv2d(inputs, outputs, 3, 1, 1), nn.GroupNorm(GROUPS, outputs), nn.ReLU()


@lru_cache
def schedule(steps: int) -> Schedule:
    """Return the published DDIM steps: a linear schedule of 1000, leading spacing, no clipping."""
    scheduler = DDIMScheduler(TIMESTEPS, clip_sample=False, timestep_spacing='leading')
    return ddim_schedule(scheduler, steps)


def refine(
    block: DenoisingBlock, noise: torch.Tensor, features: torch.Tensor, steps: int
) -> torch.Tensor:
    """Denoise noise (B, C, h, w) in as many DDIM steps as the block was trained with."""
    plan, latent = schedule(steps), noise
    for step in plan.steps:
        timestep = torch.tensor([step.timestep], device=noise.device)
        predicted = block(latent.to(features.dtype), timestep, features).float()
        _, latent = plan.advance(step, predicted, latent)
    return latent
