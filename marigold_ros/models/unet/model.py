# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Run a plain U-Net: resize, one pass, resize back."""

from pathlib import Path
from typing import Any

from marigold_ros.models.maps.network_map_model import NetworkMapModel
from marigold_ros.models.unet.checkpoint import load_network
from marigold_ros.models.unet.folder import deciding_files, read_facts, SIDE


def load(folder: Path, *settings: Any) -> 'UNetModel':
    """Load a checkpoint's folder; ``settings`` are device, dtype and runtime of the model."""
    return UNetModel(folder, read_facts(folder), load_network(folder), *settings)


class UNetModel(NetworkMapModel):
    """A plain U-Net on its device, ready to predict; parameters and errors as of the base."""

    family, kind = 'unet', 'plain U-Net'
    side = SIDE

    def _deciding_files(self) -> list[Path]:
        return deciding_files(self.folder)
