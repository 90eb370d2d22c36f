# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a DiffusionDepth: resize, features once, all DDIM steps from seeded noise, resize back."""

from pathlib import Path
from typing import Any

from marigold_ros.models.diffusion_depth.backbones import SIDE
from marigold_ros.models.diffusion_depth.checkpoint import (
    DiffusionDepthFacts,
    facts_of,
    load_network,
)
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_ros.models.facts import read_own
from marigold_ros.models.maps.network_map_model import NetworkMapModel
import torch


def load(folder: Path, *settings: Any) -> 'DiffusionDepthModel':
    """Load a checkpoint's folder; ``settings`` are device, dtype and runtime of the model."""
    facts = facts_of(*read_own(folder))
    return DiffusionDepthModel(folder, facts, load_network(folder), *settings)


class DiffusionDepthModel(NetworkMapModel):
    """A DiffusionDepth on its device, ready to predict metres; the rest as of the base."""

    family = 'diffusion_depth'
    side = SIDE

    def __init__(
        self, folder: Path, facts: DiffusionDepthFacts, network: DiffusionDepth, *settings: Any
    ) -> None:
        self.architecture = network.architecture
        self.max_depth, self.denoising_steps = facts.max_depth, network.architecture.steps
        super().__init__(folder, facts, network, *settings)
        self.kind = f'DiffusionDepth in {self.denoising_steps} steps'
        # What reaches the largest depth may lie beyond it.
        self.censored = float('-inf'), 0.99 * facts.max_depth

    def _facts(self) -> dict[str, Any]:
        return {'max_depth': self.max_depth, **super()._facts()}

    def _noise_shape(self, height: int, width: int) -> tuple[int, ...]:
        return self.architecture.noise_shape(height, width)

    def _answer(self, seen: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        several = noise[0].expand(len(seen), -1, -1, -1)
        return self._network(seen.to(self._dtype), several).clamp(max=self.max_depth)
