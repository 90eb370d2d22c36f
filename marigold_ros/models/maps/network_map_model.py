# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What families share whose network turns a resized image into a map of its size.

A family derives its model from :class:`NetworkMapModel` and says what the network answers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import brief, InputError, MarigoldError
from marigold_ros.frame import Prediction
from marigold_ros.models.facts import MapFacts
from marigold_ros.models.image_sizes import up_to_multiple
from marigold_ros.models.maps.map_model import MapModel
from marigold_ros.models.onnx_export import ImageNetwork
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.resizing import fit_image, upsample_bilateral, upsample_bilinear
from marigold_ros.models.runtime.compiled_networks import choose_compiler, CompiledNetwork
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import compile_network, set_channels_last
from marigold_ros.models.weights import count_parameters
import numpy as np
import torch
from torch import nn


class NetworkMapModel(MapModel):
    """
    A network of our own, taken over, on its device; ``dtype`` is as in ``load_model``.

    Raises ConfigurationError if the runtime cannot run it.
    """

    def __init__(
        self,
        folder: Path,
        facts: MapFacts,
        network: nn.Module,
        device: torch.device,
        dtype: str = 'auto',
        runtime: RuntimeConfig | None = None,
    ) -> None:
        super().__init__(folder, facts, device, runtime)
        self.parameters = count_parameters(network)
        # Bfloat16 would round in each of several steps, which moves the map.
        weighed = self.parameters if self.denoising_steps == 1 else 0
        self.arithmetic = choose_dtype(dtype, device, weighed, self.runtime.backend)
        # Of images at the network: those of another runtime are float32.
        self._dtype = torch.float32 if self.runtime.converted else self.arithmetic
        self._network = self._prepared(network)

    def _prepared(self, network: nn.Module) -> Any:
        """Move the network to its device and prepare it as the runtime settings say."""
        if self.runtime.converted:
            files = self._deciding_files()
            compiler = choose_compiler(self.device, self.arithmetic, self.runtime, files)
            return CompiledNetwork(network, compiler)
        network.to(self.device, self.arithmetic)
        set_channels_last((network,), self.runtime.channels_last)
        compile_network(network, self.device, self.runtime)
        return network

    def _deciding_files(self) -> list[Path]:
        """Return whatever decides the network, if files alone do; see ``KeptNetworks``."""
        return []

    def _answer(self, seen: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        """Predict float32 maps (B, 1, PH, PW) of images (B, 3, PH, PW) in [-1, 1]."""
        return self._network(seen.to(self._dtype)).float().clamp(0.0, 1.0)

    def _noise_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape (1, …) of the noise for images of a size; () where there is none."""
        return ()

    def _noise(self, height: int, width: int, seed: int) -> list[torch.Tensor]:
        """Return what the network takes beside the images, whatever the batch or last frame."""
        shape = self._noise_shape(height, width)
        if not shape:
            return []
        return [torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)]

    def _most_at_once(self, count: int, engine: EngineConfig) -> int:
        """Return how many of ``count`` images the network may see at once."""
        return count

    def as_network(self, height: int, width: int) -> ImageNetwork:
        """Return one module for images of a size, as :meth:`predict` answers for seed 0."""
        size = up_to_multiple(self.processing_size(height, width, None), self.side)
        noise = self._noise(*size, 0)
        return ImageNetwork(
            size, [self._network], lambda image: self._answer(image * 2.0 - 1.0, *noise)
        )

    @torch.inference_mode()
    def _run(self, rgbs: Sequence[np.ndarray], options: PredictOptions) -> list[Prediction]:
        shape = rgbs[0].shape[0], rgbs[0].shape[1]
        size = self.processing_size(*shape, options.processing_resolution)
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        found: list[np.ndarray] = []
        for part in torch.stack(images).split(self._most_at_once(len(rgbs), options.engine)):
            image = part.to(self.device).permute(0, 3, 1, 2).float() / 255.0
            seen = fit_image(image, size, self.side) * 2.0 - 1.0
            noise = self._noise(seen.shape[-2], seen.shape[-1], options.seed)
            try:
                maps = self._answer(seen, *noise)[..., : size[0], : size[1]]
            except MarigoldError:
                raise
            except ValueError as error:  # of a norm that gets a single value
                raise InputError(
                    f'an image of {shape[1]}x{shape[0]} is too small for {self.name} at '
                    f'{size[1]}x{size[0]} ({brief(error)}); give a larger image or '
                    'processing_resolution',
                    cause='shape',
                ) from error
            if options.engine.upsampling == 'bilateral' and size != shape:
                small = (seen[..., : size[0], : size[1]] + 1.0) / 2.0
                pairs = zip(maps.split(1), small.split(1), image.split(1), strict=True)
                maps = torch.cat([upsample_bilateral(*one) for one in pairs])
            else:
                maps = upsample_bilinear(maps, shape)
            found.extend(maps[:, 0].cpu().numpy())
        return [Prediction(one, None, self.space, self.censored) for one in found]
