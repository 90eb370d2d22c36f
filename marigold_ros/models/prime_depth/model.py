# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a PrimeDepth: encode, read the frozen U-Net once, refine, resize."""

from pathlib import Path
from typing import Any

from marigold_ros.config import EngineConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import UNBOUNDED
from marigold_ros.models.facts import read_own
from marigold_ros.models.maps.network_map_model import NetworkMapModel
from marigold_ros.models.prime_depth.checkpoint import (
    facts_of,
    FrozenBase,
    load_refiner,
    PrimeDepthFacts,
)
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.resizing import upsample_bilinear
import torch

MOST_IMAGES = 8  # at once, unless engine.batch_limit says otherwise


def load(folder: Path, *settings: Any) -> 'PrimeDepthModel':
    """Load a checkpoint's folder; ``settings`` are device, dtype and runtime of the model."""
    facts = facts_of(*read_own(folder))
    return PrimeDepthModel(folder, facts, Chain(*load_refiner(folder)), *settings)


class Chain(torch.nn.Module):
    """All networks as one, from images (B, 3, H, W) in [-1, 1] to maps (B, 1, H, W)."""

    def __init__(self, base: FrozenBase, refiner: Refiner) -> None:
        super().__init__()
        self.base = (base,)  # not a module: its networks are the two below
        self.autoencoder, self.unet, self.refiner = base.autoencoder, base.unet, refiner

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Map images, whose sides are multiples of the latent's cells, to maps, not clamped."""
        maps = self.refiner(self.base[0].preimage(image, self.refiner.text, noise))
        return upsample_bilinear(maps, (image.shape[-2], image.shape[-1]))


class PrimeDepthModel(NetworkMapModel):
    """A frozen U-Net and its refiner on their device; parameters and errors as of the base."""

    family = 'prime_depth'
    censored = UNBOUNDED

    def __init__(self, folder: Path, facts: PrimeDepthFacts, chain: Chain, *settings: Any) -> None:
        (self.base,), self.refiner = chain.base, chain.refiner
        self.longest = facts.longest
        self.side = self.base.factor
        self.kind = f"PrimeDepth on the frozen U-Net of '{self.base.name}'"
        super().__init__(folder, facts, chain, *settings)

    def _prepared(self, network: torch.nn.Module) -> Any:
        if self.runtime.compile != 'off':
            raise ConfigurationError(
                f'runtime.compile is {self.runtime.compile}, and the hooks that read the frozen '
                f'U-Net of {self.name} cannot be compiled by torch: set it to off'
            )
        return super()._prepared(network)

    def _weight_files(self) -> list[Path]:
        return [*super()._weight_files(), self.base.folder / 'unet', self.base.folder / 'vae']

    def _facts(self) -> dict[str, Any]:
        base = {'name': self.base.name, 'sha256': self.base.sha256}
        return {'base': base, 'unbounded': True, **super()._facts()}

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        if processing_resolution is None and self.longest:
            processing_resolution = min(self.longest, max(height, width))
        return super().processing_size(height, width, processing_resolution)

    def _noise_shape(self, height: int, width: int) -> tuple[int, ...]:
        return self.base.noise_shape(height, width)

    def _answer(self, seen: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        return self._network(seen.to(self._dtype), *noise).float()

    def _most_at_once(self, count: int, engine: EngineConfig) -> int:
        return engine.batch_limit or MOST_IMAGES
