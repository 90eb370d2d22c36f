# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The reduced grid on which points, image and map are fused, and the way back to every pixel.

That is bilinear, and along the image's edges where depth steps: between two surfaces a bilinear
pixel lies on neither; there each of the four cells around counts by its colour as well (joint
bilateral upsampling, Kopf et al., 2007). The map has more detail than the grid, which its share
brings back.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.around_points import draw_to_points, range_around, spread_at
from marigold_ros.geometry.fusion.along_lines import between_neighbours
from marigold_ros.kernels.bilinear import sample_grid
from marigold_ros.kernels.cells import mean_in_cells
from marigold_ros.kernels.joint_bilateral import cells_before, place_by_colour
from marigold_ros.kernels.resampling import box_weights, resample
import numpy as np

# Cells of a grid for points far apart and close together: what is finer comes from measured
# pixels, colour and map at full size.
CELLS = (49152, 86016)
# Of fewer points the network sees farther on fewer cells.
_FEW, _CELLS_OF_FEW = 100, 32768
# Cells in the median distance to the nearest point, and for each point at most.
_CELLS_ON_WAY, _CELLS_OF_POINT = 2.5, 25
# Cells are halved four times by the network.
_MULTIPLE = 16
# Ratio of depths within 3 x 3 cells from which pixels are placed by colour.
_STEP = 1.1
# Points that count for no change around a measured pixel.
_PRIOR = 0.5
# Expected errors up to which a measured pixel is published as measured, and from which it is not.
_SOUND, _DOUBTFUL, _LEAST_NOISE = 3.0, 6.0, 0.02
# Share of the pixels that are measured from which those between are drawn to them.
_DENSE = 0.05
_WINDOW = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class WorkGrid:
    """Rows and columns over an image of ``shape`` (H, W)."""

    shape: tuple[int, int]
    rows: int
    columns: int

    def cell_of(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return row and column, (M,) int each, of the cells in which pixels lie."""
        row, column = self._of_pixels()
        return row[v], column[u]

    def mean_in_cells(
        self, u: np.ndarray, v: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of values (M,) at pixels in each cell, 0 where none, and their count."""
        row, column = self._of_pixels()
        size = self.rows, self.columns
        return mean_in_cells(u, v, np.asarray(values, np.float64), row, column, size)

    def _of_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of each row of pixels (H,), and the column of each column (W,)."""
        height, width = self.shape
        # By tables: dividing every point takes longer.
        row = (2 * np.arange(height) + 1) * self.rows // (2 * height)
        return row, (2 * np.arange(width) + 1) * self.columns // (2 * width)

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

    def mean_colour(self, rgb: np.ndarray) -> np.ndarray:
        """Average an image (H, W, 3) uint8 over the cells, float32: without rounding it."""
        sides = (self.shape[0], self.rows), (self.shape[1], self.columns)
        if any(cells > pixels for pixels, cells in sides):
            return self.shrink(rgb.astype(np.float32))
        return resample(np.ascontiguousarray(rgb), *(box_weights(*side) for side in sides))

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


def cells_needed(points: int, gap: float, shape: tuple[int, int]) -> int:
    """
    Return the cells that some points need, whose `median_gap` in an image (H, W) is given.

    One of `CELLS`, or less for a few points.
    """
    if points < _FEW:
        return _CELLS_OF_FEW
    wanted = min(shape[0] * shape[1] * (_CELLS_ON_WAY / gap) ** 2, _CELLS_OF_POINT * points)
    return min(CELLS, key=lambda cells: abs(float(np.log(wanted / cells))))


def work_grid(shape: tuple[int, int], cells: int = CELLS[0]) -> WorkGrid:
    """Return the grid of an image (H, W): its proportions, sides multiples of 16."""
    share = min(1.0, (cells / (shape[0] * shape[1])) ** 0.5)
    rows, columns = (max(1, round(side * share / _MULTIPLE)) * _MULTIPLE for side in shape)
    return WorkGrid((shape[0], shape[1]), rows, columns)


def enlarge_depth(
    depth: np.ndarray, rgb: np.ndarray | None, cells: np.ndarray | None, grid: WorkGrid
) -> np.ndarray:
    """
    Return depth (rows, columns) in metres at every pixel of the image, (H, W) float32.

    ``rgb`` (H, W, 3) uint8 and ``cells`` (rows, columns, 3) are the image and itself on the grid,
    0 to 255, or None.
    """
    whole = grid.enlarge(depth)
    if rgb is None or cells is None or depth.shape == whole.shape:
        return whole
    steps = cv2.dilate(depth, _WINDOW) > np.float32(_STEP) * cv2.erode(depth, _WINDOW)
    size = whole.shape[::-1]
    near = cv2.resize(steps.view(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    rows, columns = (cells_before(*side) for side in zip(whole.shape, depth.shape, strict=True))
    colours = np.ascontiguousarray(rgb), cells
    place_by_colour(whole, near, depth, colours, rows, columns)
    return whole


def with_detail(
    depth: np.ndarray, fitted: np.ndarray, change: np.ndarray, share: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """
    Give depth (H, W) the detail of a fitted map (H, W), by its share (rows, columns).

    ``change`` (rows, columns) is log depth relative to the map's on the grid: where the share is
    one, depth is the map with this change. Where the map is NaN nothing is done.
    """
    # In place: memory that is new costs more than the arithmetic.
    ratio = cv2.divide(fitted, depth)
    np.log(ratio, ratio)  # OpenCV's log of NaN is a number on ARM and without IPP
    cv2.add(ratio, grid.enlarge(change), ratio)
    cv2.multiply(ratio, grid.enlarge(share), ratio)
    cv2.patchNaNs(ratio, 0.0)
    return np.asarray(cv2.multiply(depth, cv2.exp(ratio, ratio), ratio))


def through_points(
    depth: np.ndarray, points: SparseDepth, error: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """
    Bring depth (H, W) in metres to what was measured, at the measured pixels and around them.

    ``error`` (rows, columns) is the relative error expected of depth: points that are farther off
    by several times as much, from all depth around, are doubtful, and change nothing.
    """
    known = SparseDepth.joined([points, between_neighbours(points, depth.shape[1])])
    measured = slice(len(points))  # these alone move pixels around them
    pixel = known.v * depth.shape[1] + known.u
    missed = np.log(known.z / depth.ravel()[pixel])
    noise = np.maximum(error[grid.cell_of(known.u, known.v)], np.float32(_LEAST_NOISE))
    sound = np.ones_like(missed)
    asked = np.flatnonzero(np.abs(missed) > _SOUND * noise)
    z, (least, largest) = known.z[asked], range_around(depth, known.u[asked], known.v[asked])
    off = np.log(np.maximum(np.maximum(z / largest, least / z), np.float32(1.0))) / noise[asked]
    sound[asked] = np.clip((_DOUBTFUL - off) / (_DOUBTFUL - _SOUND), 0.0, 1.0)
    missed *= sound
    change = spread_at(pixel[measured], missed[measured], depth.shape)
    weight = spread_at(pixel[measured], sound[measured], depth.shape)
    weight += np.float32(_PRIOR)
    cv2.divide(change, weight, change)
    of_pixels = change.ravel()
    of_pixels[pixel] = missed + (np.float32(1.0) - sound) * of_pixels[pixel]
    whole = np.asarray(cv2.multiply(depth, cv2.exp(change, change), change))
    if len(points) < _DENSE * whole.size:
        return whole
    return draw_to_points(whole, (points.u, points.v, points.z, sound[measured]), pixel)
