# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a DiffusionDepth: resize, features once, all DDIM steps from seeded noise, resize back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.models.diffusion_depth.checkpoint import (
    DiffusionDepthFacts,
    load_network,
    read_facts,
    SPACE,
    WEIGHTS,
)
from marigold_ros.models.diffusion_depth.features import SIDE
from marigold_ros.models.diffusion_depth.network import DiffusionDepth
from marigold_ros.models.one_pass import OnePassModel, refuse_autoencoder
from marigold_ros.models.resizing import (
    fit_image,
    size_by_area,
    size_by_edge,
    upsample_bilateral,
    upsample_bilinear,
)
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import compile_network, set_channels_last
import numpy as np
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


class DiffusionDepthModel(OnePassModel):
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
    acting = (*OnePassModel.acting, 'upsampling')
    space = SPACE

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
        if self.runtime.backend == 'openvino':
            raise ConfigurationError(
                f'runtime.backend is {self.runtime.backend}, and only torch runs {folder.name}, a '
                'DiffusionDepth; set it to torch'
            )
        self.facts, self.denoising_steps = facts, network.architecture.steps
        self.parameters = sum(p.numel() for p in network.parameters())
        self.arithmetic = choose_dtype(dtype, device, self.parameters)
        network.to(device, self.arithmetic)
        set_channels_last((network,), self.runtime.channels_last)
        compile_network(network, device, self.runtime)
        self._network = network

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size at which the network sees an image; None as in predict."""
        if processing_resolution is None:
            return size_by_area(height, width, self.facts.pixels)
        return size_by_edge(height, width, processing_resolution)

    def _weight_files(self) -> list[Path]:
        return [self.folder / WEIGHTS]

    def _facts(self) -> dict[str, Any]:
        return {
            'kind': f'DiffusionDepth in {self.denoising_steps} steps',
            'max_depth': self.facts.max_depth,
            'processing_pixels': self.facts.pixels,
        }

    def _run(
        self, rgbs: Sequence[np.ndarray], longest: int | None, seed: int, options: EngineConfig
    ) -> list[Prediction]:
        shape = rgbs[0].shape[0], rgbs[0].shape[1]
        size = self.processing_size(*shape, longest)
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        image = torch.stack(images).to(self.device).permute(0, 3, 1, 2).float() / 255.0
        seen = fit_image(image, size, SIDE)
        # The same for every image: neither the batch nor the last frame may change an answer.
        generator = torch.Generator().manual_seed(seed)
        own = torch.randn(self._network.noise_shape(*seen.shape[-2:]), generator=generator)
        noise = own.to(self.device).expand(len(rgbs), -1, -1, -1)
        depth = self._network(seen.to(self.arithmetic), noise)
        maps = depth[..., : size[0], : size[1]].clamp(max=self.facts.max_depth)
        small = (seen[..., : size[0], : size[1]] + 1.0) / 2.0
        if options.upsampling == 'bilateral' and size != shape:
            pairs = zip(maps.split(1), small.split(1), image.split(1), strict=True)
            maps = torch.cat([upsample_bilateral(*one) for one in pairs])
        else:
            maps = upsample_bilinear(maps, shape)
        # What reaches the largest depth may lie beyond it.
        bounds = float('-inf'), 0.99 * self.facts.max_depth
        return [Prediction(one, None, SPACE, bounds) for one in maps[:, 0].cpu().numpy()]
