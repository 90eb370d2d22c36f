# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The frame that the benchmark runs: its arguments and its image."""

from __future__ import annotations

from dataclasses import dataclass

from marigold_ros.errors import ConfigurationError
import numpy as np

# Frames of one measurement where the caller gives no number: as many as fill this time.
SECONDS = 15.0
FEWEST, MOST = 3, 50


@dataclass(frozen=True)
class Work:
    """One frame: size of the image, and the arguments of ``predict``; None: the checkpoint's."""

    height: int = 480
    width: int = 640
    steps: int | None = None
    members: int | None = None
    resolution: int | None = None
    seed: int = 0


def benchmark_image(height: int, width: int) -> np.ndarray:
    """Draw an image (H, W, 3) uint8 with structure at all scales; always the same."""
    if height < 1 or width < 1:
        raise ConfigurationError(f'the image is {height}x{width}; give at least 1x1')
    rng = np.random.default_rng(0)
    image = np.zeros((height, width, 3))
    for cell in (4, 16, 64):
        coarse = rng.random((height // cell + 1, width // cell + 1, 3))
        image += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width] / 3.0
    return (255.0 * image).astype(np.uint8)


def runs_for(frame_ms: float) -> int:
    """Choose how many frames to time, from the time of one."""
    return int(min(MOST, max(FEWEST, 1e3 * SECONDS / frame_ms)))
