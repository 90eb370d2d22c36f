# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Training pairs: an image with its depth, and the protocol of their sources."""

from dataclasses import dataclass
from typing import Protocol

from marigold_ros.learning.parallel import never, Stop
import numpy as np


@dataclass(frozen=True)
class Pair:
    """
    An image with its depth.

    ``rgb`` (H, W, 3) uint8; ``depth`` (H, W) float32, metres along the optical axis, NaN unknown,
    inf sky.
    """

    rgb: np.ndarray
    depth: np.ndarray


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
