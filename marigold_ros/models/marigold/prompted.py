# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Load a Marigold, and predict metric depth with points where it was trained with them."""

import math
from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction, SparseDepth, UNBOUNDED
from marigold_ros.models.image_sizes import common_size
from marigold_ros.models.last_answer import LastAnswer
from marigold_ros.models.locate import find_autoencoder, PROMPT
from marigold_ros.models.marigold.checkpoint import load_networks, Networks
from marigold_ros.models.marigold.engine import MarigoldModel
from marigold_ros.models.marigold.guidance import affine_fit, LEAST_POINTS
from marigold_ros.models.marigold.prompt import PointPrompt, rasterise
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.spaces import from_metres, to_metres
import numpy as np
import torch
from torch.nn import functional


def load(
    folder: Path,
    device: torch.device,
    dtype: str,
    runtime: RuntimeConfig,
    vae: str | None = None,
) -> MarigoldModel:
    """Load a checkpoint's folder; arguments otherwise as in ``load_model``."""
    networks = load_networks(folder, None if vae is None else find_autoencoder(vae))
    arithmetic = choose_dtype(dtype, device, networks.parameters, runtime.backend)
    return new_model(networks, device, arithmetic, runtime)


def new_model(networks: Networks, *how: Any) -> MarigoldModel:
    """Return a model of networks that takes points if they do; arguments as of the engine."""
    return (MarigoldModel if networks.prompt is None else PromptedMarigold)(networks, *how)


class PromptedMarigold(MarigoldModel):
    """A Marigold whose decoder takes points; ``predict`` is the same as without its prompt."""

    def __init__(self, networks: Networks, *how: Any) -> None:
        super().__init__(networks, *how)
        # PyTorch runs this decoder, whatever runs the other networks.
        self._decoder: Any = networks.autoencoder
        prompt: Any = networks.prompt
        self._prompt: PointPrompt = prompt.to(self._decoder.device, self._decoder.dtype)
        self._encoded, self._denoised = LastAnswer(), LastAnswer()

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Encode images; once for all predictions of a frame."""
        return self._encoded(super().encode, image)

    def denoise(self, *given: Any) -> torch.Tensor:
        """Denoise latents; once for all predictions of a frame."""
        return self._denoised(super().denoise, *given)

    def predict_guided(self, *_: Any, **settings: Any) -> Prediction:
        """Refuse: the points enter once, by the prompt."""
        raise ConfigurationError(
            f'{self.facts.name} takes points by its prompt, so that they cannot guide it; set '
            f'guidance to none, or load a copy without {PROMPT}/'
        )

    def predict_prompted(
        self, rgb: np.ndarray, sparse: SparseDepth, *numbers: Any, **settings: Any
    ) -> Prediction:
        """
        Predict metric depth with points, to which the map is fitted by least squares.

        As :class:`FullDepthModel` says; disparity that falls to 0 or below is infinite depth.
        """
        options = PredictOptions(*numbers, **settings)
        if options.reference_exact:
            raise ConfigurationError(
                'reference_exact has no meaning with points, which the reference does not take; '
                'leave it out'
            )
        shape = common_size([rgb])
        u, v, z = sparse.as_input(shape, LEAST_POINTS, PROMPT)
        size = self.processing_size(*shape, options.processing_resolution)
        raster = rasterise(sparse, self.space, shape, size)  # (1, 2, PH, PW)

        def decode(latent: torch.Tensor, _: PredictOptions) -> torch.Tensor:
            height, width = (side * self.factor for side in latent.shape[-2:])
            points = functional.pad(raster, (0, width - size[1], 0, height - size[0]))
            scaled = latent / self._decoder.config.scaling_factor
            parts = scaled.to(self._decoder.device, self._decoder.dtype).split(1)

            def whole(_: int) -> torch.Tensor:
                return torch.cat([self._prompt.decode(self._decoder, x, points) for x in parts])

            shape = tuple(latent.shape[-2:])
            decoded = self.memory.run('decode with points', shape, 1, whole)
            # Not clipped, as in training.
            return (decoded.float().mean(1, keepdim=True).to(self.device) + 1.0) / 2.0

        found = self.predict_by(decode, [rgb], [self.new_stream()], options)[0].relative
        known = torch.from_numpy(found[v, u]), torch.from_numpy(from_metres(z, self.space))
        scale, shift = affine_fit(*known)
        with np.errstate(divide='ignore'):
            metric = to_metres(scale * found + shift, self.space, math.inf)
        return Prediction(metric.astype(np.float32), None, 'metric', UNBOUNDED)
