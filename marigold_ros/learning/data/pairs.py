# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What training reads: images with depth, and what every source of them offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marigold_ros.learning.parallel import never, Stop
import numpy as np


@dataclass(frozen=True)
class Pair:
    """
    An image with its depth.

    ``rgb`` (H, W, 3) uint8; ``depth`` (H, W) float32, metres along the optical axis, NaN where it
    is not known, inf for the sky.
    """

    rgb: np.ndarray
    depth: np.ndarray


class Source(Protocol):
    """Pairs by number; nothing is read before it is asked for."""

    name: str

    def __len__(self) -> int:
        """Return how many pairs there are."""

    def read(self, index: int) -> Pair:
        """Return one pair; raises InputError naming the file where it is broken."""

    def fingerprint(self) -> str:
        """Return what changes when an image does, so that what was made of them is told."""

    def prepare(self, workers: int = 1, stop: Stop = never) -> None:
        """
        Make or check all pairs before the first step, on several processes.

        Raises InputError with a list of every file that is broken, and Stopped once ``stop`` is
        true.
        """
