# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Resize between an image's own size and the networks': padding, upsampling.

Edges of a prediction are as wide as a cell of the processing size; joint bilateral upsampling
(Kopf et al. 2007) over the four cells around each pixel puts them where the image has them.
Letters: H, W image; PH, PW processing size; k maps.
"""

import torch
from torch.nn import functional

# Colour difference (0 to 1) over which a cell loses its weight; tuned on synthetic scenes.
COLOUR_SCALE = 0.05
# Where no cell around a pixel has its colour, their bilinear weights decide.
COLOUR_FLOOR = 1e-4


def fit_image(
    image: torch.Tensor, size: tuple[int, int], factor: int, least: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """
    Resize (1, 3, H, W) and pad it right and below to (1, 3, PPH, PPW), in the range that it has.

    Both padded sides are multiples of ``factor``, the pixels per latent cell, and at least
    ``least`` (height, width), multiples as well. The image's memory layout decides the last bit of
    the result: keep it as it came.
    """
    if tuple(image.shape[-2:]) != size:
        image = functional.interpolate(image, size, mode='bilinear', antialias=True)
    padded = [max(side + -side % factor, low) for side, low in zip(size, least, strict=True)]
    below, right = padded[0] - size[0], padded[1] - size[1]
    return functional.pad(image, (0, right, 0, below), mode='replicate')


def upsample_bilinear(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (1, k, PH, PW) to a size, as the reference does."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps, size, mode='bilinear', antialias=False)


def upsample_bilateral(
    maps: torch.Tensor, small: torch.Tensor, image: torch.Tensor
) -> torch.Tensor:
    """
    Upsample maps (1, k, PH, PW), which share one set of weights, so that edges follow the image's.

    ``small`` (1, 3, PH, PW) and ``image`` (1, 3, H, W) are the image in [0, 1] at both sizes.
    """
    count = maps.shape[1]
    stacked = torch.cat([maps, small], 1)  # (1, k + 3, PH, PW)
    rows = neighbours(image.shape[2], maps.shape[2], maps.device)
    columns = neighbours(image.shape[3], maps.shape[3], maps.device)
    total = weights = torch.zeros((), device=maps.device)
    for row, row_weight in rows:
        taken = stacked.index_select(2, row)
        for column, column_weight in columns:
            cell = taken.index_select(3, column)  # (1, k + 3, H, W)
            distance = (cell[:, count:] - image).square().sum(1, keepdim=True)
            colour = torch.exp(distance * (-0.5 / COLOUR_SCALE**2)) + COLOUR_FLOOR
            # The constant admits cells whose bilinear weight is 0.
            weight = colour * (row_weight[:, None] * column_weight + 1e-6)
            total = total + weight * cell[:, :count]
            weights = weights + weight
    return total / weights


def neighbours(
    length: int, cells: int, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return indices and bilinear weights of the two cells around each pixel along a side."""
    position = (torch.arange(length, device=device) + 0.5) * (cells / length) - 0.5
    first = position.floor()
    share = position - first
    low = first.clamp(0, cells - 1).long()
    high = (first + 1).clamp(0, cells - 1).long()
    return [(low, 1.0 - share), (high, share)]
