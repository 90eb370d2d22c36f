# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Scores the cleaning of clouds: flying pixels removed, and good points lost."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
from marigold_ros.evaluation.metrics.surfaces import flying_and_good
import numpy as np


@dataclass
class CleaningCounts:
    """Numbers of points, summed over images."""

    flying: int = 0
    removed: int = 0
    good: int = 0
    lost: int = 0

    def add(self, depth: np.ndarray, truth: np.ndarray, mask: np.ndarray, reach: int) -> None:
        """Count the points of ``depth`` that ``mask`` (H, W) removes; see `flying_and_good`."""
        flying, good = flying_and_good(depth, truth, reach)
        self.flying += int(flying.sum())
        self.removed += int((flying & mask).sum())
        self.good += int(good.sum())
        self.lost += int((good & mask).sum())

    def summary(self) -> dict[str, float]:
        """Return flying points per good one before and after, shares removed and lost."""
        good, kept = max(self.good, 1), max(self.good - self.lost, 1)
        return {
            'flying': self.flying / good,
            'flying_left': (self.flying - self.removed) / kept,
            'removed': self.removed / max(self.flying, 1),
            'good_lost': self.lost / good,
        }


def blurred(truth: np.ndarray, pixels: int, sky_depth: float) -> np.ndarray:
    """Return true depth with edges blurred and the sky at some depth, as networks predict it."""
    filled = np.where(np.isfinite(truth), truth, sky_depth).astype(np.float32)
    return cv2.blur(filled, (pixels,) * 2)
