# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Diffusers' MarigoldDepthPipeline over the networks of a checkpoint: the peer to compare with.

It runs with its own defaults (members one by one, its own merge), so that a figure against it is
one against what its users get.
"""

from __future__ import annotations

from diffusers import MarigoldDepthPipeline
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.checkpoint import Facts
from marigold_ros.models.marigold.denoiser import start_noise
from marigold_ros.models.marigold.resizing import size_by_edge
from marigold_ros.models.marigold.stages import NetworkStages
import numpy as np
import torch


class ReferencePipeline:
    """
    The reference implementation with the networks of a model.

    Parameters
    ----------
    model : NetworkStages
        Whose networks, schedule, device and arithmetic are taken over, unchanged.

    """

    def __init__(self, model: NetworkStages) -> None:
        self.facts: Facts = model.facts
        self.device, self.dtype = model.device, model.dtype
        self._factor = model.factor
        self.pipe = MarigoldDepthPipeline(
            unet=model.unet,
            vae=model.autoencoder,
            scheduler=type(model.scheduler).from_config(model.scheduler.config),
            text_encoder=None,
            tokenizer=None,
            prediction_type='disparity' if self.facts.space == 'disparity' else 'depth',
            scale_invariant=True,
            shift_invariant=True,
            default_denoising_steps=1,
            default_processing_resolution=768,
        )
        self.pipe.empty_text_embedding = model.text
        self.pipe.set_progress_bar_config(disable=True)

    def predict(
        self, rgb: np.ndarray, steps: int, members: int, resolution: int, seed: int = 0
    ) -> np.ndarray:
        """
        Predict a relative map (H, W) of an image (H, W, 3) uint8, as the pipeline's users do.

        Raises
        ------
        ConfigurationError
            If the resolution is no multiple of the autoencoder's factor, which the pipeline wants.

        """
        if resolution % self._factor:
            raise ConfigurationError(
                f'the processing resolution is {resolution}; diffusers takes multiples of '
                f'{self._factor}: choose one'
            )
        image: np.ndarray | torch.Tensor = rgb
        latents, generator = None, torch.Generator('cpu').manual_seed(seed)
        if self.facts.noise == 'zeros':
            size = size_by_edge(rgb.shape[0], rgb.shape[1], resolution)
            height, width = (-(-side // self._factor) for side in size)
            shape = (self.pipe.vae.config.latent_channels, height, width)
            # Beside latents it takes the sides of an array for (W, 3).
            image = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)  # (1, 3, H, W)
            latents = start_noise('zeros', members, shape, seed).to(self.device, self.dtype)
        output = self.pipe(
            image,
            num_inference_steps=steps,
            ensemble_size=members,
            processing_resolution=resolution,
            output_uncertainty=members > 1,
            latents=latents,
            generator=None if latents is not None else generator,
        )
        return output.prediction[0, :, :, 0]
