# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What families share whose network turns a resized image into a map of its size.

A family derives its model from :class:`MapModel` and says what the network answers.
"""

from collections.abc import Sequence
from typing import Any

from marigold_ros.config import EngineConfig
from marigold_ros.frame import Prediction
from marigold_ros.models.one_pass import OnePassModel
from marigold_ros.models.onnx_export import ImageNetwork, up_to_multiple
from marigold_ros.models.protocol import PredictOptions
from marigold_ros.models.resizing import (
    fit_image,
    size_by_area,
    size_by_edge,
    upsample_bilateral,
    upsample_bilinear,
)
import numpy as np
import torch


class MapModel(OnePassModel):
    """A one-pass model of an image that is resized to an area and padded; families say how."""

    acting = (*OnePassModel.acting, 'upsampling')
    censored: tuple[float, float] = Prediction.censored

    pixels: int  # of an image at the network, unless the caller chooses its size
    side: int  # of which the network takes multiples
    _network: Any

    def _maps(self, seen: torch.Tensor, seed: int) -> torch.Tensor:
        """Predict float32 maps (B, 1, PH, PW) of images (B, 3, PH, PW) in [-1, 1]."""
        raise NotImplementedError

    def _most_at_once(self, count: int, engine: EngineConfig) -> int:
        """Return how many of ``count`` images the network may see at once."""
        return count

    def as_network(self, height: int, width: int) -> ImageNetwork:
        """Return one module for images of a size, as :meth:`predict` answers for seed 0."""
        size = up_to_multiple(self.processing_size(height, width, None), self.side)
        return ImageNetwork(size, [self._network], lambda image: self._maps(image * 2.0 - 1.0, 0))

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """Return the size at which the network sees an image; None as in predict."""
        if processing_resolution is None:
            return size_by_area(height, width, self.pixels)
        return size_by_edge(height, width, processing_resolution)

    def _run(self, rgbs: Sequence[np.ndarray], options: PredictOptions) -> list[Prediction]:
        shape = rgbs[0].shape[0], rgbs[0].shape[1]
        size = self.processing_size(*shape, options.processing_resolution)
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        found: list[np.ndarray] = []
        for part in torch.stack(images).split(self._most_at_once(len(rgbs), options.engine)):
            image = part.to(self.device).permute(0, 3, 1, 2).float() / 255.0
            seen = fit_image(image, size, self.side)
            maps = self._maps(seen, options.seed)[..., : size[0], : size[1]]
            if options.engine.upsampling == 'bilateral' and size != shape:
                small = (seen[..., : size[0], : size[1]] + 1.0) / 2.0
                pairs = zip(maps.split(1), small.split(1), image.split(1), strict=True)
                maps = torch.cat([upsample_bilateral(*one) for one in pairs])
            else:
                maps = upsample_bilinear(maps, shape)
            found.extend(maps[:, 0].cpu().numpy())
        return [Prediction(one, None, self.space, self.censored) for one in found]
