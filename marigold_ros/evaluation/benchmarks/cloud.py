# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
How well a cloud is cleaned, against true depth: flying pixels, good points lost, sky.

A point is flying if its depth lies between the nearest and the farthest true surface around its
pixel and is more than 5 % of itself away from every one of them; it is good if it is within 5 % of
the truth of its own pixel. Points that are simply wrong are neither. Where the surroundings hold
sky, nothing is judged: beyond an edge against the sky there is no surface to fly towards.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

TOLERANCE = 0.05


@dataclass
class Tally:
    """Numbers of points, summed over images."""

    flying: int = 0
    removed: int = 0
    good: int = 0
    lost: int = 0

    def add(self, depth: np.ndarray, truth: np.ndarray, mask: np.ndarray, reach: int) -> None:
        """Count what ``mask`` (H, W) takes out of ``depth``; see :func:`judge`."""
        flying, good = judge(depth, truth, reach)
        self.flying += int(flying.sum())
        self.removed += int((flying & mask).sum())
        self.good += int(good.sum())
        self.lost += int((good & mask).sum())

    def summary(self) -> dict[str, float]:
        """Flying points a good one before and after, share removed, share of good ones lost."""
        good, left = max(self.good, 1), max(self.good - self.lost, 1)
        return {
            'flying': self.flying / good,
            'flying_left': (self.flying - self.removed) / left,
            'removed': self.removed / max(self.flying, 1),
            'good_lost': self.lost / good,
        }


def judge(depth: np.ndarray, truth: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Tell which points are flying and which are good.

    Parameters
    ----------
    depth : (H, W) float, metres
        Depth of the points.
    truth : (H, W) float, metres
        True depth; +Inf is sky, NaN unknown.
    reach : int, pixels
        How far around a pixel true surfaces count: as far as ``depth`` is blurred.

    Returns
    -------
    flying, good : (H, W) bool

    """
    side = 2 * reach + 1
    surface = np.isfinite(truth)
    known = cv2.erode(surface.astype(np.uint8), np.ones((side, side))) > 0
    truth = np.where(surface, truth, 0).astype(np.float32)
    low, high = (f(truth, np.ones((side, side))) for f in (cv2.erode, cv2.dilate))
    margin = TOLERANCE * depth
    # The extremes are surfaces themselves, so few pixels are left to look around at.
    with np.errstate(invalid='ignore'):
        flying = known & (depth > low + margin) & (depth < high - margin)
    rows, columns = np.nonzero(flying)
    padded = np.pad(truth, reach, mode='edge')
    here, nearest_gap = depth[flying], np.full(len(rows), np.inf, np.float32)
    for down in range(side):
        for right in range(side):
            gap = np.abs(here - padded[rows + down, columns + right])
            np.fmin(nearest_gap, gap, out=nearest_gap)
    flying[rows, columns] = nearest_gap > margin[flying]
    return flying, known & (np.abs(depth - truth) <= TOLERANCE * truth)


def blurred(truth: np.ndarray, pixels: int, sky_depth: float) -> np.ndarray:
    """True depth with edges blurred, and the sky at some depth: what networks give."""
    return cv2.blur(
        np.where(np.isfinite(truth), truth, sky_depth).astype(np.float32), (pixels,) * 2
    )
