# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A Marigold checkpoint as one module: encode, denoise one member from its start noise, decode."""

from typing import Any

from diffusers import LCMScheduler
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.autoencoder import mean_latent
from marigold_ros.models.image_sizes import up_to_multiple
from marigold_ros.models.marigold.denoiser import denoise, start_noise
from marigold_ros.models.marigold.schedule import choose_spacing, ddim_schedule
from marigold_ros.models.onnx_export import ImageNetwork
import torch


def single_network(model: Any, height: int, width: int) -> ImageNetwork:
    """
    Return the networks of a ``MarigoldModel`` as one, for images of a size.

    It denoises in the checkpoint's own steps from the noise of seed 0. Raises ConfigurationError
    for a checkpoint that draws noise in between.
    """
    facts, scheduler, autoencoder = model.facts, model.scheduler, model.autoencoder
    if isinstance(scheduler, LCMScheduler):
        raise ConfigurationError(
            f'{facts.name} is an LCM checkpoint, which draws new noise at each step, and ONNX '
            'holds no such draws; export a v1-0, v1-1 or E2E-FT checkpoint'
        )
    size = up_to_multiple(model.processing_size(height, width, None), model.factor)
    cells = size[0] // model.factor, size[1] // model.factor
    noise = start_noise(facts.noise, 1, (autoencoder.config.latent_channels, *cells), 0)
    steps, factor = facts.denoising_steps, autoencoder.config.scaling_factor
    schedule = ddim_schedule(scheduler, steps, choose_spacing(scheduler, steps), model.device)

    def run(image: torch.Tensor) -> torch.Tensor:
        latent = mean_latent(autoencoder, image * 2.0 - 1.0) * factor
        latent = denoise(model.unet, model.text, latent, noise, schedule)
        decoded = autoencoder.decode(latent / factor, return_dict=False)[0]
        return (decoded.mean(1, keepdim=True).clamp(-1.0, 1.0) + 1.0) / 2.0

    return ImageNetwork(size, (model.unet, autoencoder), run)
