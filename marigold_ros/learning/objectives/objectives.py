# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What is minimised: each objective by its name, with the networks that it trains.

``latent`` is Marigold's (Ke et al., CVPR 2024): noisy latents, a random timestep, MSE.
``one_step`` and ``pixel`` go from zeros at the last timestep, on latents and through the decoder
(Martin Garcia et al., arXiv 2409.11355). ``masked_pixel`` and ``silog`` are for sparse truth: the
prediction gets its metres from the two percentiles of the truth that normalised the target, not
from a fit, which would take out the very bias that they weigh.
Letters: B images, C latent channels, H, W image, h, w latent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_ros.learning.data.mixture import Batch, LatentBatch
from marigold_ros.learning.objectives.losses import (
    affine_invariant,
    gradient_difference,
    masked_mean,
    masked_pixel,
    silog,
)
from marigold_ros.learning.objectives.noise import Draws, training_noise
from marigold_ros.learning.objectives.targets import denormalise
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule
import torch
from torch import nn
from torch.nn import functional

# Weights of the terms of `pixel` beside the affine-invariant one.
DIRECT, GRADIENT, LATENT, SKY = 0.5, 0.5, 0.1, 0.5
# Of the terms of `autoencoder` and `distill` beside L1.
EDGES, KL = 0.5, 1e-6
ENCODED_PIXELS = 2**19  # at once, by the frozen encoder


class Chain(nn.Module):
    """
    The networks that are trained together, and what they are conditioned on.

    Parameters
    ----------
    autoencoder, unet, scheduler
        Of a Marigold checkpoint.
    text : (1, L, D)
        Embedding of the empty prompt.
    space : str
        Of the relative values.
    noise, noise_strength : str, float
        Of ``latent``, see :func:`training_noise`.

    """

    text: torch.Tensor

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        text: torch.Tensor,
        space: str = 'log',
        noise: str = 'gaussian',
        noise_strength: float = 0.9,
    ) -> None:
        super().__init__()
        self.autoencoder, self.unet, self.scheduler = autoencoder, unet, scheduler
        self.register_buffer('text', text, persistent=False)
        self.space, self.noise, self.noise_strength = space, noise, noise_strength
        self.student: Any = None  # another autoencoder, that learns from this one
        self.predicted = ''  # where predictions that it learns to decode start: zeros, gaussian

    def forward(self, objective: str, batch: Batch | LatentBatch, draws: Draws) -> torch.Tensor:
        """Loss of a batch: a call, so that wrappers for several processes see it."""
        return OBJECTIVES[objective].loss(self, batch, draws)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Mean of the latent of (B, 3, H, W) in [-1, 1], scaled: (B, C, h, w)."""
        return encode(self.autoencoder, image)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Relative of a scaled latent, not clamped: (B, 1, H, W)."""
        return decode(self.autoencoder, latent)

    def predict(
        self, rgb_latent: torch.Tensor, noisy: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        """Output of the U-Net (B, C, h, w): image first, then the noisy depth latent."""
        text = self.text.to(rgb_latent).expand(len(rgb_latent), -1, -1)
        both = torch.cat([rgb_latent, noisy], 1)
        return self.unet(both, timestep, encoder_hidden_states=text).sample

    def one_step(
        self, rgb_latent: torch.Tensor, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Depth latent x0 (B, C, h, w) by one step at the last timestep, from zeros or a start."""
        (step,) = self.last_step.steps
        start = torch.zeros_like(rgb_latent) if start is None else start
        x0, _ = self.last_step.advance(step, self.predict(rgb_latent, start, step.timestep), start)
        return x0

    @cached_property
    def last_step(self) -> Schedule:
        """The one step of inference, so that what is trained is what runs."""
        return ddim_schedule(self.scheduler, 1, 'trailing')

    def checkpoint_gradients(self, wanted: bool) -> None:
        """Trade time for memory: keep only some activations for the backward pass."""
        for network in filter(None, (self.unet, self.autoencoder)):
            if wanted:
                network.enable_gradient_checkpointing()
            else:
                network.disable_gradient_checkpointing()

    @torch.no_grad()
    def set_scaling_factor(self, batches: Iterable[Batch]) -> None:
        """Make the latents' standard deviation 1, as latent diffusion expects."""
        latents = []
        for batch in batches:
            images = torch.cat([batch.rgb, as_image(batch.relative)])
            latents.append(self.autoencoder.encode(images).latent_dist.mode().flatten())
        self.autoencoder.register_to_config(scaling_factor=1.0 / torch.cat(latents).std().item())


def encode(autoencoder: Any, image: torch.Tensor) -> torch.Tensor:
    """Mean of the latent of (B, 3, H, W) in [-1, 1], scaled: (B, C, h, w)."""
    answer = autoencoder.encode(image)
    # AutoencoderTiny has no distribution.
    latent = answer.latents if hasattr(answer, 'latents') else answer.latent_dist.mode()
    return latent * autoencoder.config.scaling_factor


def decode(autoencoder: Any, latent: torch.Tensor) -> torch.Tensor:
    """Relative of a scaled latent, not clamped: (B, 1, H, W)."""
    decoded = autoencoder.decode(latent / autoencoder.config.scaling_factor).sample
    return (decoded.mean(1, keepdim=True) + 1.0) / 2.0


def as_image(relative: torch.Tensor) -> torch.Tensor:
    """Repeat (B, 1, H, W) in [0, 1] to the (B, 3, H, W) in [-1, 1] that the encoder takes."""
    return (relative * 2.0 - 1.0).expand(-1, 3, -1, -1)


def autoencoder_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """L1 of colour images and depth images after the round trip, with a slight KL term."""
    both = torch.cat([batch.rgb, as_image(batch.relative)])
    posterior = chain.autoencoder.encode(both).latent_dist
    shape = posterior.mean.shape[1:]
    noise = torch.cat([draws.normal(shape), draws.normal(shape)]).to(both)
    decoded = chain.autoencoder.decode(posterior.mean + posterior.std * noise).sample
    edges = gradient_difference(decoded, both, torch.ones_like(both[:, :1]))
    return (decoded - both).abs().mean() + EDGES * edges + KL * posterior.kl().mean()


def latent_loss(chain: Chain, batch: Batch | LatentBatch, draws: Draws) -> torch.Tensor:
    """
    MSE on latents at random timesteps, as Marigold is trained.

    A latent cell counts where all of its pixels are known; without one the loss is zero.
    """
    rgb_latent, target, mask = latents_of(chain, batch)
    steps = chain.scheduler.config.num_train_timesteps
    timestep = draws.timesteps(steps)
    noise = training_noise(
        draws, target.shape[1:], chain.noise, chain.noise_strength, timestep / steps
    ).to(target)
    timestep = timestep.to(target.device)
    noisy = chain.scheduler.add_noise(target, noise, timestep)
    output = chain.predict(rgb_latent, noisy, timestep).float()
    kind = chain.scheduler.config.prediction_type
    if kind == 'v_prediction':
        wanted = chain.scheduler.get_velocity(target, noise, timestep)
    else:
        wanted = {'epsilon': noise, 'sample': target}[kind]
    return masked_mean((output - wanted) ** 2, mask)


def one_step_loss(chain: Chain, batch: Batch | LatentBatch, draws: Draws) -> torch.Tensor:
    """L1 + MSE between the one-step latent and the depth image's own; the encoder is frozen."""
    rgb_latent, target, mask = latents_of(chain, batch)
    x0 = chain.one_step(rgb_latent).float()
    return masked_mean((x0 - target).abs(), mask) + masked_mean((x0 - target) ** 2, mask)


def pixel_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """Affine-invariant L1, direct L1 and gradients of the decoded map; sky only has to be far."""
    x0 = chain.one_step(chain.encode(batch.rgb))
    predicted = chain.decode(x0).float()
    valid, sky = batch.valid.float(), batch.sky.float()
    loss = affine_invariant(predicted, batch.relative, valid)
    loss = loss + DIRECT * masked_mean((predicted - batch.relative).abs(), valid)
    loss = loss + GRADIENT * gradient_difference(predicted, batch.relative, valid)
    beyond = predicted if chain.space == 'disparity' else 1.0 - predicted
    loss = loss + SKY * masked_mean(functional.relu(beyond), sky)
    if any(weight.requires_grad for weight in chain.autoencoder.parameters()):
        return loss  # trained along, the encoder sees colour alone and forgets what depth is like
    with torch.no_grad():
        target = chain.encode(as_image(batch.relative)).float()
    mask = latent_mask(batch, target.shape[-2:])
    return loss + LATENT * masked_mean((x0.float() - target).abs(), mask)


def masked_pixel_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """DiffusionDepth's printed loss, in metres at the known pixels; not scale-invariant."""
    return masked_pixel(*in_metres(chain, batch))


def silog_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """DiffusionDepth's coded loss, of log depth at the known pixels; nearly scale-invariant."""
    return silog(*in_metres(chain, batch))


def in_metres(chain: Chain, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Decode the one-step prediction and undo each image's normalisation.

    Returns
    -------
    predicted, truth : (B, 1, H, W) metres
    valid : (B, 1, H, W) float, 1 where truth is known

    """
    relative = chain.decode(chain.one_step(chain.encode(batch.rgb))).float()
    predicted = denormalise(relative, batch.depth, batch.valid, chain.space)
    return predicted, torch.where(batch.valid, batch.depth, torch.nan), batch.valid.float()


def distill_loss(chain: Chain, batch: Batch, draws: Draws) -> torch.Tensor:
    """
    L1 + MSE between the student's and the teacher's latents, L1 + gradients between their maps.

    The student encodes images only and decodes latents of depth only: nothing else is asked of
    it when the checkpoint runs.
    """
    rgb_latent, depth_latent, _ = latents_of(chain, batch)
    with torch.no_grad():
        if chain.predicted:
            zeros = chain.predicted == 'zeros'
            start = None if zeros else draws.normal(rgb_latent.shape[1:]).to(rgb_latent)
            x0 = chain.one_step(rgb_latent, start).float()
            depth_latent = torch.cat([depth_latent, x0])
        relative = chain.decode(depth_latent).float().clamp(0.0, 1.0)
    error = encode(chain.student, batch.rgb).float() - rgb_latent
    decoded = decode(chain.student, depth_latent).float()
    edges = gradient_difference(decoded, relative, torch.ones_like(relative))
    encoded = error.abs().mean() + (error**2).mean()
    return encoded + (decoded - relative).abs().mean() + EDGES * edges


def latents_of(
    chain: Chain, batch: Batch | LatentBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents of images and of depth, and the mask; the autoencoder is not trained by them."""
    if isinstance(batch, LatentBatch):
        return batch.rgb_latent, batch.depth_latent, batch.mask
    both = torch.cat([batch.rgb, as_image(batch.relative)])
    # Large images one by one: this would be the peak of memory.
    count = max(1, ENCODED_PIXELS // (both.shape[-2] * both.shape[-1]))
    with torch.no_grad():
        latents = torch.cat([chain.encode(part).float() for part in both.split(count)])
    rgb_latent, depth_latent = latents.chunk(2)
    return rgb_latent, depth_latent, latent_mask(batch, rgb_latent.shape[-2:])


def latent_mask(batch: Batch, size: torch.Size | tuple[int, int]) -> torch.Tensor:
    """Latent cells (B, 1, h, w) all of whose pixels are known or sky: 1 there, 0 elsewhere."""
    unknown = (~(batch.valid | batch.sky)).float()
    return 1.0 - functional.adaptive_max_pool2d(unknown, tuple(size))


@dataclass(frozen=True)
class Objective:
    """
    A loss and the names of the networks that it trains unless the recipe says otherwise.

    ``on_latents``: it needs latents only, a LatentBatch will do.
    """

    loss: Callable[[Chain, Any, Draws], torch.Tensor]
    trains: tuple[str, ...]
    on_latents: bool = False


OBJECTIVES = {
    'autoencoder': Objective(autoencoder_loss, ('autoencoder',)),
    'latent': Objective(latent_loss, ('unet',), on_latents=True),
    'one_step': Objective(one_step_loss, ('unet',), on_latents=True),
    'pixel': Objective(pixel_loss, ('unet',)),
    'masked_pixel': Objective(masked_pixel_loss, ('unet',)),
    'silog': Objective(silog_loss, ('unet',)),
    'distill': Objective(distill_loss, ('student',)),
}
