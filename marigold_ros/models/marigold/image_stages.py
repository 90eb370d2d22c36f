# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The stages around the networks: upload, resize and pad, merge members, resize back.

Letters: N images of one size; H, W image; PH, PW processing size; PPH, PPW padded to multiples
of the autoencoder's factor; E members.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.marigold.ensemble import merge_members
from marigold_ros.models.marigold.reference_merge import merge_reference
from marigold_ros.models.marigold.resizing import (
    fit_image,
    size_by_area,
    size_by_edge,
    upsample_bilateral,
    upsample_bilinear,
)
from marigold_ros.models.marigold.stages import NetworkStages
import numpy as np
import torch


class ImageStages(NetworkStages):
    """What happens to images and maps; see :class:`NetworkStages` for its arguments."""

    def processing_size(
        self, height: int, width: int, processing_resolution: int | None
    ) -> tuple[int, int]:
        """
        Size at which the networks see an image.

        Marigold's rule is the longest edge, rounded down; a checkpoint that states a number of
        pixels instead gets the edge that comes nearest to it, both sides multiples of 8.

        """
        if processing_resolution is None:
            if self.facts.processing_pixels:
                return size_by_area(height, width, self.facts.processing_pixels)
            return size_by_edge(height, width, self.facts.processing_resolution)
        if not isinstance(processing_resolution, Integral):
            raise ConfigurationError(
                f'processing_resolution is {processing_resolution!r}; give a whole number of '
                'pixels, 0 is native'
            )
        return size_by_edge(height, width, int(processing_resolution))

    def upload(self, rgbs: Sequence[np.ndarray]) -> torch.Tensor:
        """Bring N of (H, W, 3) uint8 to the device as (N, 3, H, W) float32 in [0, 1]."""
        # Message buffers are often read-only, which torch cannot express.
        images = [torch.from_numpy(np.require(rgb, requirements=['C', 'W'])) for rgb in rgbs]
        if self.device.type == 'cuda':
            images = [image.pin_memory() for image in images]
        moved = [image.to(self.device, non_blocking=True)[None] for image in images]
        together = moved[0] if len(moved) == 1 else torch.cat(moved)
        return together.permute(0, 3, 1, 2).float() / 255.0

    def preprocess(
        self, image: torch.Tensor, size: tuple[int, int], reference_exact: bool = False
    ) -> torch.Tensor:
        """Resize and pad (N, 3, H, W) in [0, 1] to (N, 3, PPH, PPW) in [-1, 1]."""
        if not reference_exact:
            # A single cell has no variance to normalise by: tiny images get two.
            least = (self.coarsest, self.coarsest * (2 if max(size) <= self.coarsest else 1))
            # Half precision, which a CPU cannot resize in, would also lose bits of the image.
            return fit_image(image, size, self.factor, least).to(self.dtype)
        if self.device.type == 'cuda':
            image = image.to(self.dtype)
        return fit_image(image, size, self.factor).to(self.dtype)

    def merge(
        self, relative: torch.Tensor, members: int, reference_exact: bool = False
    ) -> torch.Tensor:
        """Merge (N E, 1, PH, PW) to relative and spread, (N, 2, PH, PW); single ones stay."""
        if members == 1:
            return relative
        merged = [self._merge_one(own, reference_exact) for own in relative.split(int(members))]
        return merged[0] if len(merged) == 1 else torch.cat(merged)

    def _merge_one(self, relative: torch.Tensor, reference_exact: bool) -> torch.Tensor:
        if reference_exact:
            from diffusers import MarigoldDepthPipeline

            merged = MarigoldDepthPipeline.ensemble_depth(relative, output_uncertainty=True)
        elif self.options.merge == 'reference':
            merged = merge_reference(relative)
        else:
            merged = merge_members(relative)
        return torch.cat(merged, dim=1)

    def postprocess(
        self,
        maps: torch.Tensor,
        image: torch.Tensor,
        preprocessed: torch.Tensor,
        reference_exact: bool = False,
    ) -> np.ndarray:
        """Bring (N, k, PH, PW) to the images' size and to the host: (N, k, H, W) float32."""
        resized = self.enlarge(maps, image, preprocessed, reference_exact)
        # The one place where the host waits for the device.
        return resized.contiguous().cpu().numpy()

    def enlarge(
        self,
        maps: torch.Tensor,
        image: torch.Tensor,
        preprocessed: torch.Tensor,
        reference_exact: bool = False,
    ) -> torch.Tensor:
        """Bring (N, k, PH, PW) to the images' size, (N, k, H, W) float32."""
        native = (int(image.shape[2]), int(image.shape[3]))
        maps = maps.float()
        height, width = maps.shape[-2:]
        larger = native[0] > height or native[1] > width
        if self.options.upsampling == 'bilateral' and larger and not reference_exact:
            small = (preprocessed[..., :height, :width].float() + 1.0) / 2.0
            return upsample_bilateral(maps, small, image)
        return upsample_bilinear(maps, native)
