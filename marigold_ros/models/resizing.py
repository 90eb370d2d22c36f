# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Resize between an image's own size and the networks': size rules, padding, upsampling.

Edges of a prediction are as wide as a cell of the processing size; joint bilateral upsampling
(Kopf et al. 2007) over the four cells around each pixel puts them where the image has them.
Letters: H, W image; PH, PW processing size; k maps.
"""

from collections.abc import Sequence
from numbers import Integral

from marigold_ros.errors import ConfigurationError, InputError
import numpy as np
import torch
from torch.nn import functional

# Colour difference (0 to 1) over which a cell loses its weight; tuned on synthetic scenes.
COLOUR_SCALE = 0.05
# Where no cell around a pixel has its colour, their bilinear weights decide.
COLOUR_FLOOR = 1e-4


def common_size(rgbs: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return the size (H, W) of images; raises InputError for any other array or size."""
    for rgb in rgbs:
        shape, dtype = np.shape(rgb), getattr(rgb, 'dtype', None)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
            raise InputError(
                f'rgb has shape {shape} and dtype {dtype}; an image is (H, W, 3) uint8',
                cause='shape',
            )
    sizes = sorted({rgb.shape[:2] for rgb in rgbs})
    if len(sizes) != 1:
        raise InputError(
            f'{len(sizes)} sizes of image in one call: {", ".join(map(str, sizes))}; images that '
            'are predicted together must have one size',
            cause='shape',
        )
    return sizes[0]


def size_by_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Return Marigold's size: the longest edge as given, the other rounded down; 0 is native."""
    if not isinstance(edge, Integral) or edge < 0:
        raise ConfigurationError(
            f'processing_resolution is {edge!r}; give a whole number of pixels, 0 is native'
        )
    edge = int(edge)
    if edge == 0:
        return height, width
    size = height * edge // max(height, width), width * edge // max(height, width)
    if 0 in size:
        raise InputError(
            f'an image of {width}x{height} has no pixel left on one side at '
            f'processing_resolution {edge}; crop it or choose a larger resolution',
            cause='shape',
        )
    return size


def size_by_area(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Return the size of about as many pixels with the image's proportions, multiples of 8."""
    scale = (pixels / (height * width)) ** 0.5
    return max(8, 8 * round(height * scale / 8)), max(8, 8 * round(width * scale / 8))


def fit_image(
    image: torch.Tensor, size: tuple[int, int], factor: int, least: tuple[int, int] = (0, 0)
) -> torch.Tensor:
    """
    Resize (1, 3, H, W) in [0, 1] and pad it right and below to (1, 3, PPH, PPW) in [-1, 1].

    Both padded sides are multiples of ``factor``, the pixels per latent cell, and at least
    ``least`` (height, width), multiples as well. The image's memory layout decides the last bit of
    the result: keep it as it came.
    """
    if tuple(image.shape[-2:]) != size:
        image = functional.interpolate(image, size, mode='bilinear', antialias=True)
    padded = [max(side + -side % factor, low) for side, low in zip(size, least, strict=True)]
    below, right = padded[0] - size[0], padded[1] - size[1]
    pad = (0, right, 0, below)
    return functional.pad(image, pad, mode='replicate') * 2.0 - 1.0


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
