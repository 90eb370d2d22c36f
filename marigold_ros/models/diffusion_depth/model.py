# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a DiffusionDepth: resize, features once, all DDIM steps from seeded noise, resize back."""

from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.diffusion_depth.checkpoint import (
    DiffusionDepthFacts,
    load_network,
    read_facts,
    SPACE,
    WEIGHTS,
)
from marigold_ros.models.diffusion_depth.features import SIDE
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_ros.models.map_model import MapModel
from marigold_ros.models.one_pass import refuse_autoencoder
from marigold_ros.models.onnx_export import ImageNetwork, up_to_multiple
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import compile_network, set_channels_last
import torch


def load(
    folder: Path,
    device: torch.device,
    dtype: str = 'auto',
    vae: str | None = None,
    runtime: RuntimeConfig | None = None,
) -> 'DiffusionDepthModel':
    """Load a checkpoint's folder and warm it up; arguments otherwise as in ``load_model``."""
    refuse_autoencoder(folder, vae)
    facts, network = read_facts(folder), load_network(folder)
    model = DiffusionDepthModel(folder, facts, network, device, dtype, runtime)
    model.warm_up()
    return model


class DiffusionDepthModel(MapModel):
    """
    A DiffusionDepth on its device, ready to predict metres.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for its name.
    facts : DiffusionDepthFacts
    network : DiffusionDepth
        Taken over.
    device, dtype, runtime
        As in ``load_model``.

    Raises
    ------
    ConfigurationError
        If the runtime cannot run it.

    """

    family = 'diffusion_depth'
    space, side = SPACE, SIDE

    def __init__(
        self,
        folder: Path,
        facts: DiffusionDepthFacts,
        network: DiffusionDepth,
        device: torch.device,
        dtype: str = 'auto',
        runtime: RuntimeConfig | None = None,
    ) -> None:
        super().__init__(folder, device, runtime)
        if self.runtime.converted:
            raise ConfigurationError(
                f'runtime.backend is {self.runtime.backend}, and only torch runs {folder.name}, a '
                'DiffusionDepth; set it to torch'
            )
        self.max_depth, self.pixels = facts.max_depth, facts.pixels
        # What reaches the largest depth may lie beyond it.
        self.censored = float('-inf'), 0.99 * facts.max_depth
        self.denoising_steps = network.architecture.steps
        self.parameters = sum(p.numel() for p in network.parameters())
        self.arithmetic = choose_dtype(dtype, device, self.parameters)
        network.to(device, self.arithmetic)
        set_channels_last((network,), self.runtime.channels_last)
        compile_network(network, device, self.runtime)
        self._network = network

    def _weight_files(self) -> list[Path]:
        return [self.folder / WEIGHTS]

    def _facts(self) -> dict[str, Any]:
        return {
            'kind': f'DiffusionDepth in {self.denoising_steps} steps',
            'max_depth': self.max_depth,
            'processing_pixels': self.pixels,
        }

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
        shape = self._network.noise_shape(height, width)
        return torch.randn(shape, generator=generator).to(self.device)

    def _metres(self, seen: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        several = noise.expand(len(seen), -1, -1, -1)
        return self._network(seen.to(self.arithmetic), several).clamp(max=self.max_depth)
