# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The backbones: a small one, the residual one that DiffusionDepth publishes, and Swin, MPViT, ….

Letters: B images, H, W image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marigold_ros.errors import brief, ConfigurationError
from marigold_ros.models.diffusion_depth.mpvit import HEADS, MPViT
from marigold_ros.models.unet.network import are_sizes, convolution, Residual
import torch
from torch import nn
from torch.nn import functional

SIDE = 2  # pixels of a block: sides of an image are multiples
RESNET, MPVIT = 'diffusion_depth_resnet', 'mpvit'  # model types that transformers has not
_LISTS = {
    **dict.fromkeys((None, RESNET), {'channels', 'blocks'}),
    MPVIT: {'stages', 'layers', 'paths', 'ratios'},
}


def build_backbone(values: Mapping[str, Any]) -> Any:
    """
    Build a backbone with random weights; its ``channels`` are those of its features.

    ``values`` are ``{channels: […], blocks: […]}`` of the small encoder, the same with
    ``model_type: diffusion_depth_resnet``, ``{model_type: mpvit, stages: […], layers: […], paths:
    […], ratios: […]}``, or the configuration of a backbone of transformers. Raises
    ConfigurationError if transformers does not know it.
    """
    own = {key: value for key, value in values.items() if key != 'model_type'}
    kinds = {None: SmallEncoder, RESNET: ResNet, MPVIT: MPViT}
    kind: Any = kinds.get(values.get('model_type'))
    return kind(**own) if kind else Backbone(values)


def is_backbone(values: Any) -> bool:
    """Return whether values are those of a backbone, as far as can be seen without building."""
    own = dict(values) if isinstance(values, Mapping) else {}
    kind = own.pop('model_type', None)
    if not isinstance(kind, str | None):
        return False
    if kind not in _LISTS:
        return True  # of transformers, or unknown to it
    if set(own) != _LISTS[kind] or not all(isinstance(one, (list, tuple)) for one in own.values()):
        return False
    if kind is None:
        return are_sizes(own['channels'], own['blocks'])
    numbers = [number for one in own.values() for number in one]
    whole = all(type(number) is int and number > 0 for number in numbers)
    equal = len({len(one) for one in own.values()}) == 1 and bool(numbers)
    return whole and equal and all(x % sum(HEADS) == 0 for x in own.get('stages', ()))


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


class ResNet(nn.Module):
    """
    Blocks of two convolutions, without a stem; features at 1/2, 1/4, … of the image.

    ``channels`` and ``blocks`` at each level, as published [64, 128, 256, 512] and [3, 4, 6, 3].
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        levels = zip((3, *channels), channels, blocks, strict=False)
        self.levels = nn.ModuleList(
            nn.Sequential(_Block(fine, own, 2), *(_Block(own, own, 1) for _ in range(count - 1)))
            for fine, own, count in levels
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map images (B, 3, H, W) to features, fine to coarse."""
        found = []
        for level in self.levels:
            image = level(image)
            found.append(image)
        return found


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        # Of 3x3, where other residual networks have 1x1 and a norm.
        self.skip = nn.Conv2d(inputs, outputs, 3, 2, 1) if stride == 2 else nn.Identity()

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(seen) + self.skip(seen))


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
