# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What models of maps say of themselves, whatever runs their network; imports no torch."""

from pathlib import Path
from typing import Any

from marigold_ros.config import RuntimeConfig
from marigold_ros.frame import Prediction
from marigold_ros.models.facts import MapFacts, WEIGHTS
from marigold_ros.models.image_sizes import size_by_area, size_by_edge
from marigold_ros.models.one_pass import OnePassModel


class MapModel(OnePassModel):
    """A model whose image is resized to an area and padded; arguments otherwise as of the base."""

    acting = (*OnePassModel.acting, 'upsampling')
    censored: tuple[float, float] = Prediction.censored

    side: int  # of which the network takes multiples

    def __init__(
        self, folder: Path, facts: MapFacts, device: Any, runtime: RuntimeConfig | None
    ) -> None:
        super().__init__(folder, device, runtime)
        self.space, self.pixels = facts.space, facts.pixels

    def _weight_files(self) -> list[Path]:
        return [self.folder / WEIGHTS]

    def _facts(self) -> dict[str, Any]:
        return {'processing_pixels': self.pixels}

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        if processing_resolution is None:
            return size_by_area(height, width, self.pixels)
        return size_by_edge(height, width, processing_resolution)
