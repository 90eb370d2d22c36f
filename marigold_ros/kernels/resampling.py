# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Resample images by weights along columns and rows, in a third of the time that floats take."""

from functools import lru_cache

from marigold_ros.kernels.compiled import compiled
import numpy as np

# Of each cell of a side: the first of its pixels, and the weights of some of them, 0 at the end.
Weights = tuple[np.ndarray, np.ndarray]  # (cells,) int, (cells, most) float32


@lru_cache(maxsize=32)
def box_weights(length: int, cells: int) -> Weights:
    """Return the weights of the pixels of a side that are in each of no more cells: their mean."""
    edges = np.linspace(0.0, length, cells + 1)[:, None]
    pixel = np.floor(edges[:-1]) + np.arange(int(np.ceil(length / cells)) + 1)
    shared = np.minimum(pixel + 1.0, edges[1:]) - np.maximum(pixel, edges[:-1])
    return _weights(pixel, shared, length)


@lru_cache(maxsize=32)
def triangle_weights(length: int, cells: int) -> Weights:
    """
    Return the weights of the pixels of a side in a triangle around the middle of each cell.

    It is as wide as two cells, but never below two pixels: the antialiased bilinear resampling of
    Pillow and torch.
    """
    step = length / cells
    reach = max(step, 1.0)
    middle = (np.arange(cells)[:, None] + 0.5) * step
    pixel = np.floor(middle - reach) + np.arange(int(2 * reach) + 3)
    return _weights(pixel, 1.0 - np.abs(pixel + 0.5 - middle) / reach, length)


def _weights(pixel: np.ndarray, weight: np.ndarray, length: int) -> Weights:
    """Return the weights of pixels (cells, n) above 0 in a side; each row of them sums to 1."""
    most = min(pixel.shape[1], length)
    first = np.clip(pixel[:, 0], 0, length - most).astype(np.int64)
    known = np.zeros((len(pixel), most), np.float64)
    row, column = np.nonzero((weight > 0.0) & (pixel >= 0) & (pixel < length))
    known[row, pixel[row, column].astype(np.int64) - first[row]] = weight[row, column]
    known /= known.sum(axis=1, keepdims=True)
    return first, known.astype(np.float32)


@compiled(any_order=True)
def resample(image: np.ndarray, rows: Weights, columns: Weights) -> np.ndarray:
    """Resample an image (H, W, 3) uint8 to the cells of both sides, (h, w, 3) float32."""
    (tops, downs), (lefts, rights) = rows, columns
    pixels = image.reshape(image.shape[0], -1)
    line = np.empty(pixels.shape[1], np.float32)
    found = np.empty((len(tops), len(lefts), 3), np.float32)
    for i in range(len(tops)):
        line[:] = 0.0
        for k in range(downs.shape[1]):
            weight, above = downs[i, k], pixels[tops[i] + k]
            for j in range(len(line)):
                line[j] += weight * np.float32(above[j])
        for j in range(len(lefts)):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for k in range(rights.shape[1]):
                weight, at = rights[j, k], 3 * (lefts[j] + k)
                red += weight * line[at]
                green += weight * line[at + 1]
                blue += weight * line[at + 2]
            found[i, j, 0], found[i, j, 1], found[i, j, 2] = red, green, blue
    return found
