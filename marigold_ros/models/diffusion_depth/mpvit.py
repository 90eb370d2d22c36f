# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
MPViT (Lee et al., CVPR 2022), as DiffusionDepth has it: a stem of stride 1, features from 1/2 on.

At each level convolutions in a row make patches of growing reach, every reach goes through
transformer layers of its own, and their results are joined with those of a convolutional path.
Letters: B images, C channels, h, w a level's size, N its pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

HEADS = (2, 3, 3)  # with windows of
WINDOWS = (3, 5, 7)  # pixels
LAYER_NORM = 1e-6


class MPViT(nn.Module):
    """
    The network.

    Parameters
    ----------
    stages : sequence of int
        Channels inside of each level, multiples of 8; a level hands the next one its number.
    layers, paths : sequence of int
        Transformer layers of a path, and paths, at each level.
    ratios : sequence of int
        Of hidden to outer channels of the layers, at each level.

    """

    def __init__(
        self,
        stages: Sequence[int],
        layers: Sequence[int],
        paths: Sequence[int],
        ratios: Sequence[int],
    ) -> None:
        super().__init__()
        self.channels = (*stages[1:], stages[-1])
        half = stages[0] // 2
        self.stem = nn.Sequential(normed(3, half, 3), normed(half, stages[0], 3))
        sizes = zip(stages, self.channels, layers, paths, ratios, strict=True)
        self.stages = nn.ModuleList(_Stage(*one) for one in sizes)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map images (B, 3, H, W) to features, fine to coarse."""
        found, seen = [], self.stem(image)
        for stage in self.stages:
            seen = stage(seen)
            found.append(seen)
        return found


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int, layers: int, paths: int, ratio: int) -> None:
        super().__init__()
        self.patches = nn.ModuleList(_patches(inputs, 1 if path else 2) for path in range(paths))
        self.local = nn.Sequential(
            *normed(inputs, inputs, 1),
            nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Hardswish(),
            *list(normed(inputs, inputs, 1))[:2],
        )
        self.paths = nn.ModuleList(_Path(inputs, layers, ratio) for _ in range(paths))
        self.join = normed(inputs * (paths + 1), outputs, 1)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        for patches, path in zip(self.patches, self.paths, strict=True):
            seen = patches(seen)
            if not found:
                found.append(seen + self.local(seen))
            found.append(path(seen))
        return self.join(torch.cat(found, 1))


class _Path(nn.Module):
    """Transformer layers, and the convolutions that tell all of them where a pixel is."""

    def __init__(self, channels: int, layers: int, ratio: int) -> None:
        super().__init__()
        self.position = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.shares = [heads * channels // sum(HEADS) for heads in HEADS]
        self.windows = nn.ModuleList(
            nn.Conv2d(width, width, window, 1, window // 2, groups=width)
            for width, window in zip(self.shares, WINDOWS, strict=True)
        )
        self.layers = nn.ModuleList(_Layer(channels, ratio) for _ in range(layers))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        layer: Any
        for layer in self.layers:
            image = image + self.position(image)
            tokens = image.flatten(2).transpose(1, 2)  # (B, N, C)
            query, key, value = layer.qkv(layer.norm1(tokens)).chunk(3, -1)
            # Of each channel: what a window around a pixel has of it.
            parts = _as_image(value, image).split(self.shares, 1)
            near = [window(part) for window, part in zip(self.windows, parts, strict=True)]
            local = query * torch.cat(near, 1).flatten(2).transpose(1, 2)
            tokens = tokens + layer.project(_factorised(query, key, value) + local)
            image = _as_image(tokens + layer.mlp(layer.norm2(tokens)), image)
        return image


class _Layer(nn.Module):
    """The weights of a transformer layer."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, LAYER_NORM)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, LAYER_NORM)
        self.mlp = nn.Sequential(
            nn.Linear(channels, ratio * channels),
            nn.GELU(),
            nn.Linear(ratio * channels, channels),
        )


def _factorised(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend (B, N, C) with keys normalised over pixels: linear in N (CoaT, Xu et al., 2021)."""
    query, key, value = (
        one.unflatten(-1, (sum(HEADS), -1)).transpose(1, 2) for one in (query, key, value)
    )
    found = query @ (key.softmax(2).transpose(2, 3) @ value) * query.shape[-1] ** -0.5
    return found.transpose(1, 2).flatten(2)


def _as_image(tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return tokens.transpose(1, 2).reshape(image.shape)


def _patches(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        *normed(channels, channels, 1),
    )


def normed(
    inputs: int, outputs: int, kernel: int, activation: type[nn.Module] = nn.Hardswish
) -> nn.Sequential:
    """Build a convolution without bias, its batch norm and its activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        activation(),
    )
