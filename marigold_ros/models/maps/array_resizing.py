# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Resize images and maps in NumPy as ``models.resizing`` does by torch, up to rounding.

Letters: H, W image; PH, PW processing size.
"""

from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_array


def fit_image(rgb: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """
    Resize (H, W, 3) uint8 and pad it right and below to (1, 3, PPH, PPW) float32 in [-1, 1].

    Both padded sides are multiples of ``factor``.
    """
    image = rgb.astype(np.float32)
    if image.shape[:2] != size:
        (rows, columns), (height, width) = size, image.shape[:2]
        image = triangle_weights(height, rows) @ image.reshape(height, -1)
        across = image.reshape(rows, width, 3).swapaxes(0, 1).reshape(width, -1)
        image = triangle_weights(width, columns) @ across
        image = image.reshape(columns, rows, 3).swapaxes(0, 1)
    below, right = (-side % factor for side in size)
    image = np.pad(image, ((0, below), (0, right), (0, 0)), mode='edge')
    seen = np.moveaxis(image, -1, 0)[None] * np.float32(2.0 / 255.0) - np.float32(1.0)
    return np.ascontiguousarray(seen)


@lru_cache(maxsize=16)
def triangle_weights(length: int, cells: int) -> csr_array:
    """
    Return the weights (cells, length) of pixels in each cell of a resized side.

    A triangle around the middle of the cell, as wide as two cells, but never below two pixels: the
    antialiased bilinear resampling of Pillow and torch.
    """
    step = length / cells
    reach = max(step, 1.0)
    middle = (np.arange(cells) + 0.5) * step
    pixel = np.floor(middle - reach)[:, None] + np.arange(int(2 * reach) + 3)
    weight = np.maximum(1.0 - np.abs(pixel + 0.5 - middle[:, None]) / reach, 0.0)
    weight[(pixel < 0) | (pixel >= length)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    cell, place = np.nonzero(weight)
    pixels = pixel[cell, place].astype(np.int32)
    values = weight[cell, place].astype(np.float32)
    return csr_array((values, (cell, pixels)), shape=(cells, length))


def upsample_bilinear(relative: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (PH, PW) float32 to a size (H, W)."""
    if relative.shape == size:
        return relative
    resized: np.ndarray = cv2.resize(relative, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized
