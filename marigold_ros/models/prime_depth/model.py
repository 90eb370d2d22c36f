# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a PrimeDepth: encode, read the frozen U-Net once, refine, resize."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marigold_ros.config import EngineConfig, RuntimeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.models.one_pass import OnePassModel
from marigold_ros.models.prime_depth.checkpoint import (
    FrozenBase,
    load_refiner,
    PrimeFacts,
    read_facts,
    WEIGHTS,
)
from marigold_ros.models.prime_depth.refiner import Refiner
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
from marigold_ros.models.runtime.prepare import set_channels_last
import numpy as np
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


class PrimeDepthModel(OnePassModel):
    """
    A frozen U-Net and its refiner on their device, ready to predict.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for its name.
    facts : PrimeFacts
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
    acting = (*OnePassModel.acting, 'upsampling')

    def __init__(
        self,
        folder: Path,
        facts: PrimeFacts,
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
        self.facts, self.space, self.base, self.refiner = facts, facts.space, base, refiner
        self.parameters = base.parameters + sum(p.numel() for p in refiner.parameters())
        self.arithmetic = choose_dtype(dtype, device, self.parameters, self.runtime.backend)
        self._network = self._prepared(Chain(base, refiner))

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size at which the networks see an image; None as in predict."""
        if processing_resolution is None:
            return size_by_area(height, width, self.facts.pixels)
        return size_by_edge(height, width, processing_resolution)

    def _prepared(self, chain: Chain) -> Any:
        """Move the networks to their device and prepare them as the runtime settings say."""
        if self.runtime.backend == 'openvino':
            require_openvino(self.device, self.arithmetic)
            self._dtype = torch.float32
            return CompiledNetwork(chain, self.arithmetic, cache_folder(self.runtime.cache_dir))
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
            'processing_pixels': self.facts.pixels,
        }

    def _run(
        self, rgbs: Sequence[np.ndarray], longest: int | None, seed: int, options: EngineConfig
    ) -> list[Prediction]:
        shape = rgbs[0].shape[0], rgbs[0].shape[1]
        size = self.processing_size(*shape, longest)
        found: list[np.ndarray] = []
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        for part in torch.stack(images).split(options.batch_limit or MOST_IMAGES):
            image = part.to(self.device).permute(0, 3, 1, 2).float() / 255.0
            seen = fit_image(image, size, self.base.factor)
            maps = self._network(seen.to(self._dtype)).float()
            maps = maps[..., : size[0], : size[1]].clamp(0.0, 1.0)
            small = (seen[..., : size[0], : size[1]] + 1.0) / 2.0
            if options.upsampling == 'bilateral' and size != shape:
                pairs = zip(maps.split(1), small.split(1), image.split(1), strict=True)
                maps = torch.cat([upsample_bilateral(*one) for one in pairs])
            else:
                maps = upsample_bilinear(maps, shape)
            found.extend(maps[:, 0].cpu().numpy())
        return [Prediction(one, None, self.space) for one in found]
