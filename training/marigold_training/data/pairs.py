# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training pairs: an image with its depth or a scan, and the protocol of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marigold_ros.frame import SparseDepth
from marigold_ros.processes import never, Stop
import numpy as np


@dataclass(frozen=True)
class Pair:
    """
    An image with its depth.

    ``rgb`` (H, W, 3) uint8; ``depth`` (H, W) float32, metres along the optical axis, NaN unknown,
    inf sky; ``labels`` (H, W, 2) float32 or None, a teacher's depth where there is none, and its
    weight in [0, 1], NaN unknown.
    """

    rgb: np.ndarray
    depth: np.ndarray
    labels: np.ndarray | None = None

    def cut(self, rows: slice, columns: slice) -> Pair:
        """Return a part of the image."""
        labels = None if self.labels is None else self.labels[rows, columns]
        return Pair(self.rgb[rows, columns], self.depth[rows, columns], labels)


@dataclass(frozen=True)
class LidarPair:
    """
    An image with the points of a scan and their scan lines.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    points : SparseDepth
        The nearest point of each pixel, in metres.
    visible : (M,) bool
        Which points pass the occlusion test of the whole scan.
    line, azimuth : (M,) int
        Scan line and block of azimuth of each point.

    """

    rgb: np.ndarray
    points: SparseDepth
    visible: np.ndarray
    line: np.ndarray
    azimuth: np.ndarray

    def chosen(self, points: np.ndarray) -> LidarPair:
        """Return the image with some of the points, by a mask (M,)."""
        kept = self.points.chosen(points)
        own = (part[points] for part in (self.visible, self.line, self.azimuth))
        return LidarPair(self.rgb, kept, *own)

    def pair(self) -> Pair:
        """Return the visible points as a depth image."""
        depth = np.full(self.rgb.shape[:2], np.nan, np.float32)
        seen, points = self.visible, self.points
        depth[points.v[seen], points.u[seen]] = points.z[seen]
        return Pair(self.rgb, depth)


class PairSource(Protocol):
    """Pairs by index, read on demand."""

    name: str

    def __len__(self) -> int:
        """Return the number of pairs."""

    def read(self, index: int) -> Pair:
        """Return one pair; raises InputError naming a broken file."""

    def fingerprint(self) -> str:
        """Return a text that changes whenever a pair does, for caches derived from them."""

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Render or verify all pairs before the first step, in several processes.

        Raises InputError listing every broken file, and Stopped once ``stop`` returns true.
        """
