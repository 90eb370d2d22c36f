# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What the image says: a backbone's features at several scales, merged from coarse to fine.

Letters: B images, H, W image, h, w the finest features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.models.locate import brief
from marigold_ros.models.unet.network import convolution, Residual
import torch
from torch import nn
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SIDE = 2  # pixels of a block: sides of an image are multiples


class SmallEncoder(nn.Module):
    """
    A residual encoder for a CPU; features at 1/2, 1/4, … of the image.

    ``channels`` at each level, multiples of 8; ``blocks`` at each level but the first.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.first = nn.Sequential(convolution(3 * SIDE * SIDE, channels[0]), nn.ReLU())
        levels = zip(channels, channels[1:], blocks, strict=False)
        self.levels = nn.ModuleList(
            nn.Sequential(
                convolution(fine, coarse, 2), nn.ReLU(), *(Residual(coarse) for _ in range(count))
            )
            for fine, coarse, count in levels
        )
        self.whole = nn.Linear(channels[-1], channels[-1])

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map images (B, 3, H, W) to features, fine to coarse."""
        found = [self.first(functional.pixel_unshuffle(image, SIDE))]
        for level in self.levels:
            found.append(level(found[-1]))
        # The scene as a whole: what a receptive field may not reach.
        found[-1] = found[-1] + self.whole(found[-1].mean((2, 3)))[..., None, None]
        return found


class Backbone(nn.Module):
    """A backbone of transformers with random weights; ``config`` is that of its library."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from marigold_ros.models.transformers_networks import network_config
        from transformers import AutoBackbone

        try:
            self.network = AutoBackbone.from_config(network_config(config, 'backbone'))
        except Exception as error:  # transformers raises many kinds
            raise ConfigurationError(
                f'backbone {config} cannot be built by transformers ({brief(error)}); correct its '
                'configuration'
            ) from error
        self.channels = tuple(self.network.channels)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map images (B, 3, H, W) to features, fine to coarse."""
        return list(self.network(image).feature_maps)


class Neck(nn.Module):
    """
    HAHI (Li et al., DepthFormer) as DiffusionDepth releases it: with its attention off.

    What is left projects each scale and fuses it with the projection.
    """

    def __init__(self, channels: Sequence[int], embedded: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_normed(width, width, 1) for width in channels[1:])
        self.project = nn.ModuleList(_normed(width, embedded, 1) for width in channels)
        self.fuse = nn.ModuleList(_normed(width + embedded, width, 3) for width in channels)

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Map features to features of the same shapes."""
        coarse = zip(self.lateral, features[1:], strict=True)
        seen = [features[0], *(lateral(one) for lateral, one in coarse)]
        parts = zip(self.project, self.fuse, seen, strict=True)
        return [fuse(torch.cat([one, project(one)], 1)) for project, fuse, one in parts]


class Pyramid(nn.Module):
    """Features of all scales, added from coarse to fine at a common width."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_normed(own, width, 3) for own in channels)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(width, width, 2, 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for _ in channels[1:]
        )

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Merge features, fine to coarse, to (B, width, h, w)."""
        merged = self.lateral[-1](features[-1])
        steps = zip(self.lateral, self.up, features, strict=False)
        for lateral, up, one in reversed(list(steps)):
            height, width = one.shape[-2:]
            merged = lateral(one) + functional.adaptive_avg_pool2d(up(merged), (height, width))
        return merged


def _normed(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class ImageFeatures(nn.Module):
    """
    Backbone, neck and pyramid.

    Parameters
    ----------
    backbone : mapping
        ``{channels: […], blocks: […]}`` of the small encoder, or the configuration of a backbone
        of transformers, with ``model_type``.
    neck : int
        Embedding of the neck; 0 is none.
    width : int
        Channels of the result.

    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, backbone: Mapping[str, Any], neck: int, width: int) -> None:
        super().__init__()
        kind: Any = Backbone(backbone) if 'model_type' in backbone else SmallEncoder(**backbone)
        self.backbone = kind
        self.neck = Neck(kind.channels, neck) if neck else nn.Identity()
        self.pyramid = Pyramid(kind.channels, width)
        for name, value in (('mean', MEAN), ('deviation', DEVIATION)):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to features (B, width, h, w)."""
        normalised = ((image + 1.0) / 2.0 - self.mean) / self.deviation
        return self.pyramid(self.neck(self.backbone(normalised)))
