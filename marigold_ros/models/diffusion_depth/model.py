# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a DiffusionDepth: resize, features once, all DDIM steps from seeded noise, resize back."""

from pathlib import Path
from typing import Any

from marigold_ros.models.diffusion_depth.backbones import SIDE
from marigold_ros.models.diffusion_depth.checkpoint import (
    DiffusionDepthFacts,
    load_network,
    read_facts,
)
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_ros.models.map_model import MapModel
from marigold_ros.models.onnx_export import ImageNetwork, up_to_multiple
import torch


def load(folder: Path, *settings: Any) -> 'DiffusionDepthModel':
    """Load a checkpoint's folder; ``settings`` are device, dtype and runtime of the model."""
    return DiffusionDepthModel(folder, read_facts(folder), load_network(folder), *settings)


class DiffusionDepthModel(MapModel):
    """A DiffusionDepth on its device, ready to predict metres; the rest as of the base."""

    family = 'diffusion_depth'
    side = SIDE

    def __init__(
        self, folder: Path, facts: DiffusionDepthFacts, network: DiffusionDepth, *settings: Any
    ) -> None:
        self.architecture = network.architecture
        super().__init__(folder, facts, network, *settings)
        self.max_depth, self.denoising_steps = facts.max_depth, network.architecture.steps
        self.kind = f'DiffusionDepth in {self.denoising_steps} steps'
        # What reaches the largest depth may lie beyond it.
        self.censored = float('-inf'), 0.99 * facts.max_depth

    def _facts(self) -> dict[str, Any]:
        return {'max_depth': self.max_depth, **super()._facts()}

    def as_network(self, height: int, width: int) -> ImageNetwork:
        """Return one module for images of a size, with the noise of seed 0."""
        size = up_to_multiple(self.processing_size(height, width, None), self.side)
        noise = self._noise(*size, 0)
        return ImageNetwork(
            size, [self._network], lambda image: self._metres(image * 2.0 - 1.0, noise)
        )

    def _maps(self, seen: torch.Tensor, seed: int) -> torch.Tensor:
        # The same for every image: neither the batch nor the last frame may change an answer.
        return self._metres(seen, self._noise(seen.shape[-2], seen.shape[-1], seed))

    def _noise(self, height: int, width: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = self.architecture.noise_shape(height, width)
        return torch.randn(shape, generator=generator).to(self.device)

    def _metres(self, seen: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        several = noise.expand(len(seen), -1, -1, -1)
        return self._network(seen.to(self._dtype), several).clamp(max=self.max_depth)
