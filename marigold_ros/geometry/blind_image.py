# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images that show nothing, or nothing new: what a model makes of them is no measurement."""

import numpy as np

_SAMPLES = 64  # rows and columns that are sampled
_BLACK, _WHITE = 5, 250  # grey values of 255
# Equal images in a row that mean a frozen camera: noise changes every image of a live one.
_FROZEN = 10
_SHARE = 0.9  # of the sampled pixels that must be so dark, or so bright


def sample_pixels(rgb: np.ndarray) -> np.ndarray:
    """Return a few thousand pixels (h, w, 3) of an image (H, W, 3), spread evenly; a copy."""
    rows, columns = (max(1, side // _SAMPLES) for side in rgb.shape[:2])
    return rgb[rows // 2 :: rows, columns // 2 :: columns].copy()


def why_blind(rgb: np.ndarray) -> str:
    """Return why an image (H, W, 3) uint8, or pixels of it, show nothing; empty if they do."""
    if np.mean(rgb.max(axis=2) <= _BLACK) > _SHARE:
        return 'the image is black: lens cap, exposure, or light?'
    if np.mean(rgb.min(axis=2) >= _WHITE) > _SHARE:
        return 'the image is white: exposure or glare?'
    return ''


class ImageHealth:
    """Detects a blind or frozen camera from a few thousand pixels of each image."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._equal = 0

    def check(self, rgb: np.ndarray) -> str:
        """Return what is wrong with an image, (H, W, 3) uint8; empty if nothing."""
        sampled = sample_pixels(rgb)
        same = self._last is not None and np.array_equal(sampled, self._last)
        self._last, self._equal = sampled, self._equal + 1 if same else 0
        if why := why_blind(sampled):
            return why
        if self._equal >= _FROZEN:
            return f'the last {self._equal + 1} images are equal: has the camera stopped?'
        return ''
