# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What the image says: a backbone's features at several scales, merged from coarse to fine.

Letters: B images, H, W image, h, w the finest features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marigold_ros.models.diffusion_depth.backbones import build_backbone
from marigold_ros.models.diffusion_depth.mpvit import normed
import torch
from torch import nn
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class Neck(nn.Module):
    """
    HAHI (Li et al., DepthFormer) as DiffusionDepth releases it: with its attention off.

    What is left projects each scale and fuses it with the projection, which comes first at the
    finest scale and last at the others.
    """

    def __init__(self, channels: Sequence[int], embedded: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(normed(width, width, 1, nn.ReLU) for width in channels)
        self.project = nn.ModuleList(normed(width, embedded, 1, nn.ReLU) for width in channels)
        self.fuse = nn.ModuleList(
            normed(width + embedded, width, 3, nn.ReLU) for width in channels
        )

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Map features to features of the same shapes."""
        found: list[torch.Tensor] = []
        parts = zip(self.lateral, self.project, self.fuse, features, strict=True)
        for lateral, project, fuse, one in parts:
            seen = lateral(one)
            pair = (seen, project(seen)) if found else (project(seen), seen)
            found.append(fuse(torch.cat(pair, 1)))
        return found


class Pyramid(nn.Module):
    """Features of all scales, added from coarse to fine at a common width."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(normed(own, width, 3, nn.ReLU) for own in channels)
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


class ImageFeatures(nn.Module):
    """
    Backbone, neck and pyramid.

    ``backbone`` is as of ``build_backbone``, ``neck`` the embedding of the neck, 0 for none,
    ``width`` the channels of the result.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, backbone: Mapping[str, Any], neck: int, width: int) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.neck = Neck(self.backbone.channels, neck) if neck else nn.Identity()
        self.pyramid = Pyramid(self.backbone.channels, width)
        for name, value in (('mean', MEAN), ('deviation', DEVIATION)):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to features (B, width, h, w)."""
        normalised = ((image + 1.0) / 2.0 - self.mean) / self.deviation
        return self.pyramid(self.neck(self.backbone(normalised)))
