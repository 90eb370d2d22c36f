# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a PrimeDepth: encode, read the frozen U-Net once, refine, resize."""

from pathlib import Path
from typing import Any

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.facts import MapFacts
from marigold_ros.models.map_model import MapModel
from marigold_ros.models.prime_depth.checkpoint import (
    FrozenBase,
    load_refiner,
    read_facts,
    WEIGHTS,
)
from marigold_ros.models.prime_depth.refiner import Refiner
from marigold_ros.models.resizing import upsample_bilinear
from marigold_ros.models.runtime.compiled_networks import compiled_network
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import set_channels_last
import torch

MOST_IMAGES = 8  # at once, unless engine.batch_limit says otherwise


def load(
    folder: Path,
    device: torch.device,
    dtype: str = 'auto',
    vae: str | None = None,
    runtime: RuntimeConfig | None = None,
) -> 'PrimeDepthModel':
    """Load a checkpoint's folder and warm it up; arguments otherwise as in ``load_model``."""
    if vae is not None:
        raise ConfigurationError(
            f"vae is '{vae}', and {folder.name} was trained on the latents of its base's own "
            'autoencoder: leave it empty'
        )
    model = PrimeDepthModel(
        folder, read_facts(folder), *load_refiner(folder), device, dtype, runtime
    )
    model.warm_up()
    return model


class Chain(torch.nn.Module):
    """All networks as one, from images (B, 3, H, W) in [-1, 1] to maps (B, 1, H, W)."""

    def __init__(self, base: FrozenBase, refiner: Refiner) -> None:
        super().__init__()
        self.base = (base,)  # not a module: its networks are the two below
        self.autoencoder, self.unet, self.refiner = base.autoencoder, base.unet, refiner

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images, whose sides are multiples of the latent's cells, to maps, not clamped."""
        maps = self.refiner(self.base[0].preimage(image, self.refiner.text))
        return upsample_bilinear(maps, (image.shape[-2], image.shape[-1]))


class PrimeDepthModel(MapModel):
    """
    A frozen U-Net and its refiner on their device, ready to predict.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for its name.
    facts : MapFacts
    base, refiner
        Taken over.
    device, dtype, runtime
        As in ``load_model``.

    Raises
    ------
    ConfigurationError
        If the runtime cannot run it.

    """

    family = 'prime_depth'

    def __init__(
        self,
        folder: Path,
        facts: MapFacts,
        base: FrozenBase,
        refiner: Refiner,
        device: torch.device,
        dtype: str = 'auto',
        runtime: RuntimeConfig | None = None,
    ) -> None:
        super().__init__(folder, device, runtime)
        if self.runtime.compile != 'off':
            raise ConfigurationError(
                f'runtime.compile is {self.runtime.compile}, and the hooks that read the frozen '
                f'U-Net of {folder.name} cannot be compiled by torch: set it to off'
            )
        self.space, self.pixels, self.side = facts.space, facts.pixels, base.factor
        self.base, self.refiner = base, refiner
        self.parameters = base.parameters + sum(p.numel() for p in refiner.parameters())
        self.arithmetic = choose_dtype(dtype, device, self.parameters, self.runtime.backend)
        self._network = self._prepared(Chain(base, refiner))

    def _prepared(self, chain: Chain) -> Any:
        """Move the networks to their device and prepare them as the runtime settings say."""
        if self.runtime.converted:
            self._dtype = torch.float32
            return compiled_network(chain, self.device, self.arithmetic, self.runtime)
        self._dtype = self.arithmetic
        chain.to(self.device, self.arithmetic)
        set_channels_last((chain,), self.runtime.channels_last)
        return chain

    def _weight_files(self) -> list[Path]:
        return [self.folder / WEIGHTS, self.base.folder / 'unet', self.base.folder / 'vae']

    def _facts(self) -> dict[str, Any]:
        return {
            'kind': f"PrimeDepth on the frozen U-Net of '{self.base.name}'",
            'base': {'name': self.base.name, 'sha256': self.base.sha256},
            'processing_pixels': self.pixels,
        }

    def _most_at_once(self, count: int, engine: EngineConfig) -> int:
        return engine.batch_limit or MOST_IMAGES

    def _maps(self, seen: torch.Tensor, seed: int) -> torch.Tensor:
        return self._network(seen.to(self._dtype)).float().clamp(0.0, 1.0)
