# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The reduced grid on which points, image and map are fused."""

from dataclasses import dataclass

import cv2
from marigold_ros.geometry.alignment.local_field import sample_grid
import numpy as np

# As many as 256 x 192: a larger grid costs time and gains nothing.
_CELLS = 49152
# Cells are halved four times by the network.
_MULTIPLE = 16


@dataclass(frozen=True)
class WorkGrid:
    """Rows and columns over an image of ``shape`` (H, W)."""

    shape: tuple[int, int]
    rows: int
    columns: int

    def mean_in_cells(
        self, u: np.ndarray, v: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of values (M,) at pixels in each cell, 0 where none, and their count."""
        height, width = self.shape
        row, column = (
            (2 * v + 1) * self.rows // (2 * height),
            (2 * u + 1) * self.columns // (2 * width),
        )
        cell = row * self.columns + column
        size = self.rows * self.columns
        count = np.bincount(cell, minlength=size).astype(np.float32)
        total = np.bincount(cell, values, size).astype(np.float32)
        mean = total / np.maximum(count, np.float32(1.0))
        return mean.reshape(self.rows, self.columns), count.reshape(self.rows, self.columns)

    def sample(self, values: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Interpolate a map of any size over the image at pixels, (M,)."""
        return sample_grid(values, u, v, self.shape)

    def place(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return pixels as row and column in cells, (M, 2) float; 0 is the middle of a cell."""
        y, x = (v + 0.5) * self.rows / self.shape[0], (u + 0.5) * self.columns / self.shape[1]
        return np.stack([y, x], axis=1) - 0.5

    def shrink(self, image: np.ndarray) -> np.ndarray:
        """Average an image of any type over the cells."""
        size = (self.columns, self.rows)
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def enlarge(self, values: np.ndarray) -> np.ndarray:
        """Interpolate a grid at every pixel of the image."""
        size = self.shape[::-1]
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))

    def refine(self, values: np.ndarray) -> np.ndarray:
        """Interpolate a coarser grid in the middle of every cell."""
        size = (self.columns, self.rows)
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))

    def halved(self) -> 'WorkGrid':
        """Return the grid of half as many rows and columns."""
        return WorkGrid(self.shape, self.rows // 2, self.columns // 2)


def work_grid(shape: tuple[int, int], coarser: int = 1) -> WorkGrid:
    """
    Return the grid of an image (H, W): its proportions, sides multiples of 16.

    ``coarser`` divides the number of cells.
    """
    share = min(1.0, (_CELLS / (shape[0] * shape[1])) ** 0.5) / coarser**0.5
    rows, columns = (max(1, round(side * share / _MULTIPLE)) * _MULTIPLE for side in shape)
    return WorkGrid((shape[0], shape[1]), rows, columns)
