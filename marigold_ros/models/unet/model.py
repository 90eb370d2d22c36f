# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a plain U-Net: resize, one pass, resize back."""

from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.models.facts import MapFacts
from marigold_ros.models.map_model import MapModel
from marigold_ros.models.one_pass import refuse_autoencoder
from marigold_ros.models.runtime.compiled_networks import compiled_network
from marigold_ros.models.runtime.devices import choose_dtype
from marigold_ros.models.runtime.prepare import compile_network, set_channels_last
from marigold_ros.models.unet.checkpoint import load_network, read_facts, WEIGHTS
from marigold_ros.models.unet.network import DepthUNet, SIDE
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


class UNetModel(MapModel):
    """
    A plain U-Net on its device, ready to predict.

    Parameters
    ----------
    folder : Path
        Of the checkpoint, for its name.
    facts : MapFacts
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
    side = SIDE

    def __init__(
        self,
        folder: Path,
        facts: MapFacts,
        network: DepthUNet,
        device: torch.device,
        dtype: str = 'auto',
        runtime: RuntimeConfig | None = None,
    ) -> None:
        super().__init__(folder, device, runtime)
        self.space, self.pixels = facts.space, facts.pixels
        self.parameters = sum(p.numel() for p in network.parameters())
        self.arithmetic = choose_dtype(dtype, device, self.parameters, self.runtime.backend)
        self._network = self._prepared(network)

    def _weight_files(self) -> list[Path]:
        return [self.folder / WEIGHTS]

    def _facts(self) -> dict[str, Any]:
        return {'kind': 'plain U-Net', 'processing_pixels': self.pixels}

    def _prepared(self, network: DepthUNet) -> Any:
        """Move the network to its device and prepare it as the runtime settings say."""
        if self.runtime.converted:
            self._dtype = torch.float32
            return compiled_network(network, self.device, self.arithmetic, self.runtime)
        self._dtype = self.arithmetic
        network.to(self.device, self.arithmetic)
        set_channels_last((network,), self.runtime.channels_last)
        compile_network(network, self.device, self.runtime)
        return network

    def _maps(self, seen: torch.Tensor, seed: int) -> torch.Tensor:
        return self._network(seen.to(self._dtype)).float().clamp(0.0, 1.0)
