# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The networks in training: of any family, and of a Marigold.

Letters: B images, C latent channels, H, W image, h, w latent.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from marigold_ros.errors import AlignmentError
from marigold_ros.models.autoencoder import mean_latent
from marigold_ros.models.marigold.domain_gap import image_features
from marigold_ros.models.marigold.prompt import PointPrompt, rasterise
from marigold_ros.models.marigold.schedule import ddim_schedule, Schedule
from marigold_training.data.mixture import Batch, LatentBatch
from marigold_training.data.simulated_points import draw_points
from marigold_training.objectives.adapters import OWN
from marigold_training.objectives.noise import Draws
import numpy as np
import torch
from torch import nn
from torch.nn import functional

ENCODED_PIXELS = 2**19  # at once, by the frozen encoder
Loss = Callable[[Any, Any, Draws], torch.Tensor]


class TrainedModule(nn.Module):
    """What the training loop needs of the networks that it trains."""

    def forward(self, loss: Loss, batch: Any, draws: Draws) -> torch.Tensor:
        """Return the loss of a batch; a call, so that wrappers for several processes see it."""
        return loss(self, batch, draws)

    def choose_trained(self, names: Iterable[str]) -> None:
        """Train these networks, or their adapters where they have some, and freeze all else."""
        self.requires_grad_(False)
        for name in names:
            network = self.get_submodule(name)
            adapters = [p for key, p in network.named_parameters() if OWN in key]
            for weight in adapters or network.parameters():
                weight.requires_grad_(True)

    def checkpoint_gradients(self, wanted: bool) -> None:
        """Enable or disable gradient checkpointing, which saves memory and costs time."""

    def settings(self) -> dict[str, float]:
        """Return the numbers that belong to the weights."""
        return {}

    def restore(self, settings: Mapping[str, Any]) -> None:
        """Restore ``settings``; other entries are ignored."""


class TrainedModel(TrainedModule):
    """
    A model that predicts relative depth, of any family.

    Parameters
    ----------
    space : str
        Of the relative values; ``initial_space`` is that of a checkpoint that they start from.

    """

    def __init__(self, space: str) -> None:
        super().__init__()
        self.space = self.initial_space = space
        # The initial networks, frozen; in a tuple, so that they are no part of these.
        self.start: tuple[TrainedModel, ...] = ()

    def map_and_latent(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Predict the map (B, 1, H, W), not clamped, of images (B, 3, H, W) in [-1, 1].

        Beside it the depth latent, where there is one that can be compared with that of a truth.
        """
        raise NotImplementedError

    def parts(self) -> tuple[str, ...]:
        """Return what adapting trains of a large network; nothing: what the objective says."""
        return ()

    def image_features(self, rgb: torch.Tensor) -> torch.Tensor | None:
        """Return the features (B, F) of the domain gap; None if the family has none."""
        return None

    def relative(self, rgb: torch.Tensor) -> torch.Tensor:
        """Predict the map (B, 1, H, W), not clamped, of images (B, 3, H, W) in [-1, 1]."""
        return self.map_and_latent(rgb)[0].float()


class TrainedNetworks(TrainedModel):
    """
    The networks of a Marigold that are trained together, and their conditioning.

    Parameters
    ----------
    autoencoder, unet, scheduler
        As of a Marigold checkpoint.
    text : (1, L, D)
        Embedding of the empty prompt.
    space : str
        Of the relative values.
    noise, noise_strength : str, float
        Of the objective ``latent``, see noise.py.

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
        super().__init__(space)
        self.autoencoder, self.unet, self.scheduler = autoencoder, unet, scheduler
        self.register_buffer('text', text, persistent=False)
        self.noise, self.noise_strength = noise, noise_strength
        self.student: Any = None  # another autoencoder that learns from this one
        self.predicted = 'zeros'  # initial noise of what a student learns to decode; or gaussian
        self.prompt: PointPrompt | None = None
        self.raster: torch.Tensor | None = None  # (B, 2, H, W), the points of this batch

    def forward(self, loss: Loss, batch: Any, draws: Draws) -> torch.Tensor:
        """Return the loss of a batch, with points drawn from its depth if a prompt is trained."""
        weights = () if self.prompt is None else self.prompt.parameters()
        if any(weight.requires_grad for weight in weights) and isinstance(batch, Batch):
            self.raster = draw_prompts(batch.depth, self.space, draws)
        try:
            return loss(self, batch, draws)
        finally:
            self.raster = None

    def map_and_latent(self, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Predict in one step from zeros, through the decoder."""
        x0 = self.one_step(self.encode(rgb))
        # An encoder trained here sees colour only, so depth latents mean nothing; those of a
        # frozen U-Net learn nothing.
        trained = any(weight.requires_grad for weight in self.autoencoder.parameters())
        frozen = self.raster is not None and not x0.requires_grad
        return self.decode(x0), None if trained or frozen else x0

    def image_features(self, rgb: torch.Tensor) -> torch.Tensor:
        """Return the statistics of the images' latents."""
        return image_features(self.encode(rgb))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Encode images; see :func:`encode`."""
        return encode(self.autoencoder, image)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode latents; see :func:`decode`."""
        if self.prompt is None or self.raster is None:
            return decode(self.autoencoder, latent)
        scaled = latent / self.autoencoder.config.scaling_factor
        decoded = self.prompt.decode(self.autoencoder, scaled, self.raster)
        return (decoded.mean(1, keepdim=True) + 1.0) / 2.0

    def predict(
        self, rgb_latent: torch.Tensor, noisy: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        """Return the U-Net's output (B, C, h, w) for image and noisy depth latent."""
        text = self.text.to(rgb_latent).expand(len(rgb_latent), -1, -1)
        both = torch.cat([rgb_latent, noisy], 1)
        return self.unet(both, timestep, encoder_hidden_states=text).sample

    def one_step(
        self, rgb_latent: torch.Tensor, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Denoise zeros or a start (B, C, h, w) in one step at the last timestep."""
        (step,) = self.last_step.steps
        start = torch.zeros_like(rgb_latent) if start is None else start
        x0, _ = self.last_step.advance(step, self.predict(rgb_latent, start, step.timestep), start)
        return x0

    @cached_property
    def last_step(self) -> Schedule:
        """The single step of inference: training and inference agree."""
        return ddim_schedule(self.scheduler, 1, 'trailing')

    def checkpoint_gradients(self, wanted: bool) -> None:
        """Enable or disable gradient checkpointing of U-Net and autoencoder."""
        for network in (self.unet, self.autoencoder):
            if wanted:
                network.enable_gradient_checkpointing()
            else:
                network.disable_gradient_checkpointing()

    def settings(self) -> dict[str, float]:
        """Return the scale of the latents."""
        return {'scaling_factor': self.autoencoder.config.scaling_factor}

    def restore(self, settings: Mapping[str, Any]) -> None:
        """Restore the scale of the latents."""
        self.autoencoder.register_to_config(scaling_factor=settings['scaling_factor'])

    @torch.no_grad()
    def set_scaling_factor(self, batches: Iterable[Batch]) -> None:
        """Set the scaling factor so that latents have standard deviation 1."""
        latents = []
        for batch in batches:
            images = torch.cat([batch.rgb, as_image(batch.relative)])
            latents.append(self.autoencoder.encode(images).latent_dist.mode().flatten())
        self.autoencoder.register_to_config(scaling_factor=1.0 / torch.cat(latents).std().item())


def encode(autoencoder: Any, image: torch.Tensor) -> torch.Tensor:
    """Encode (B, 3, H, W) in [-1, 1] to the scaled mean of the latent (B, C, h, w)."""
    return mean_latent(autoencoder, image) * autoencoder.config.scaling_factor


def decode(autoencoder: Any, latent: torch.Tensor) -> torch.Tensor:
    """Decode a scaled latent to relative values (B, 1, H, W), not clamped."""
    decoded = autoencoder.decode(latent / autoencoder.config.scaling_factor).sample
    return (decoded.mean(1, keepdim=True) + 1.0) / 2.0


def draw_prompts(depth: torch.Tensor, space: str, draws: Draws) -> torch.Tensor:
    """
    Draw points from depth (B, 1, H, W) in metres, as sensors of many kinds see it, one set each.

    Returns rasters (B, 2, H, W) of :func:`rasterise`, empty where there are no usable points.
    """
    rasters = []
    for image, generator in zip(depth[:, 0].cpu().numpy(), draws.generators, strict=True):
        raster = torch.zeros(1, 2, *image.shape)
        with suppress(AlignmentError):
            if (np.isfinite(image) & (image > 0)).any():
                rng = np.random.default_rng([generator.initial_seed(), 1])
                raster = rasterise(draw_points(rng, image), space, image.shape, image.shape)
        rasters.append(raster)
    return torch.cat(rasters).to(depth.device)


def as_image(relative: torch.Tensor) -> torch.Tensor:
    """Repeat (B, 1, H, W) in [0, 1] to the (B, 3, H, W) in [-1, 1] that the encoder takes."""
    return (relative * 2.0 - 1.0).expand(-1, 3, -1, -1)


def latents_of(
    chain: TrainedNetworks, batch: Batch | LatentBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return latents of images and depth without gradient, and their mask."""
    if isinstance(batch, LatentBatch):
        return batch.rgb_latent, batch.depth_latent, batch.mask
    both = torch.cat([batch.rgb, as_image(batch.relative)])
    # Large images one by one, to limit the peak of memory.
    count = max(1, ENCODED_PIXELS // (both.shape[-2] * both.shape[-1]))
    with torch.no_grad():
        latents = torch.cat([chain.encode(part).float() for part in both.split(count)])
    rgb_latent, depth_latent = latents.chunk(2)
    return rgb_latent, depth_latent, latent_mask(batch, rgb_latent.shape[-2:])


def latent_mask(batch: Batch, size: torch.Size | tuple[int, int]) -> torch.Tensor:
    """Return 1 for latent cells (B, 1, h, w) all of whose pixels are known or sky, else 0."""
    unknown = (~(batch.valid | batch.sky)).float()
    return 1.0 - functional.adaptive_max_pool2d(unknown, tuple(size))
