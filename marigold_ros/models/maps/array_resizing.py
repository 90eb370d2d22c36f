# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Resize images and maps in NumPy as ``models.resizing`` does by torch, up to rounding.

Letters: H, W image; PH, PW processing size.
"""

import cv2
from marigold_ros.kernels.resampling import resample, triangle_weights
import numpy as np


def fit_image(rgb: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """
    Resize (H, W, 3) uint8 and pad it right and below to (1, 3, PPH, PPW) float32 in [-1, 1].

    Both padded sides are multiples of ``factor``.
    """
    weights = (triangle_weights(*side) for side in zip(rgb.shape, size, strict=False))
    image = resample(np.ascontiguousarray(rgb), *weights)
    below, right = (-side % factor for side in size)
    image = np.pad(image, ((0, below), (0, right), (0, 0)), mode='edge')
    seen = np.moveaxis(image, -1, 0)[None] * np.float32(2.0 / 255.0) - np.float32(1.0)
    return np.ascontiguousarray(seen)


def upsample_bilinear(relative: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (PH, PW) float32 to a size (H, W)."""
    if relative.shape == size:
        return relative
    return cv2.resize(relative, size[::-1], interpolation=cv2.INTER_LINEAR)
