# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a plain U-Net: resize, one pass, resize back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.frame import Prediction
from marigold_ros.models.one_pass import OnePassModel, refuse_autoencoder
from marigold_ros.models.resizing import (
    fit_image,
    size_by_area,
    size_by_edge,
    upsample_bilateral,
    upsample_bilinear,
)
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.disk_cache import cache_folder
from marigold_ros.models.runtime.openvino_networks import CompiledNetwork, require_openvino
from marigold_ros.models.runtime.prepare import compile_network, set_channels_last
from marigold_ros.models.unet.checkpoint import load_network, read_facts, UNetFacts, WEIGHTS
from marigold_ros.models.unet.network import DepthUNet, SIDE
import numpy as np
import torch


def load(
    folder: Path,
    device: torch.device,
    dtype: str = 'auto',
    vae: str | None = None,
    runtime: RuntimeConfig | None = None,
) -> 'UNetModel':
    """Load a checkpoint's folder and warm it up; arguments otherwise as in ``load_model``."""
    refuse_autoencoder(folder, vae)
    model = UNetModel(folder, read_facts(folder), load_network(folder), device, dtype, runtime)
    model.warm_up()
    return model


class UNetModel(OnePassModel):
    """
    A plain U-Net on its device, ready to predict.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for its name.
    facts : UNetFacts
    network : DepthUNet
        Taken over.
    device, dtype, runtime
        As in ``load_model``.

    Raises
    ------
    ConfigurationError
        If the runtime cannot run it.

    """

    family = 'unet'
    acting = (*OnePassModel.acting, 'upsampling')

    def __init__(
        self,
        folder: Path,
        facts: UNetFacts,
        network: DepthUNet,
        device: torch.device,
        dtype: str = 'auto',
        runtime: RuntimeConfig | None = None,
    ) -> None:
        super().__init__(folder, device, runtime)
        self.facts, self.space = facts, facts.space
        self.parameters = sum(p.numel() for p in network.parameters())
        self.arithmetic = choose_dtype(dtype, device, self.parameters, self.runtime.backend)
        self._network = self._prepared(network)

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
        return {'kind': 'plain U-Net', 'processing_pixels': self.facts.pixels}

    def _prepared(self, network: DepthUNet) -> Any:
        """Move the network to its device and prepare it as the runtime settings say."""
        if self.runtime.backend == 'openvino':
            require_openvino(self.device, self.arithmetic)
            cache = cache_folder(self.runtime.cache_dir)
            compiled = CompiledNetwork(network, self.arithmetic, cache)
            self._dtype = torch.float32
            return compiled
        self._dtype = self.arithmetic
        network.to(self.device, self.arithmetic)
        set_channels_last((network,), self.runtime.channels_last)
        compile_network(network, self.device, self.runtime)
        return network

    def _run(
        self, rgbs: Sequence[np.ndarray], longest: int | None, seed: int, options: EngineConfig
    ) -> list[Prediction]:
        shape = rgbs[0].shape[0], rgbs[0].shape[1]
        size = self.processing_size(*shape, longest)
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        image = torch.stack(images).to(self.device).permute(0, 3, 1, 2).float() / 255.0
        seen = fit_image(image, size, SIDE)
        maps = self._network(seen.to(self._dtype)).float()
        maps = maps[..., : size[0], : size[1]].clamp(0.0, 1.0)
        small = (seen[..., : size[0], : size[1]] + 1.0) / 2.0
        if options.upsampling == 'bilateral' and size != shape:
            pairs = zip(maps.split(1), small.split(1), image.split(1), strict=True)
            maps = torch.cat([upsample_bilateral(*one) for one in pairs])
        else:
            maps = upsample_bilinear(maps, shape)
        return [Prediction(one, None, self.space) for one in maps[:, 0].cpu().numpy()]
