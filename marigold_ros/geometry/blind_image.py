# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images that show nothing: what a model makes of them is no measurement."""

import numpy as np

_SAMPLES = 64  # rows and columns that are sampled
_BLACK, _WHITE = 5, 250  # grey values of 255
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
