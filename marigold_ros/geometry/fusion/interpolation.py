# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Interpolation of scattered values on the work grid: in triangles, by pull-push, by the nearest.

Triangles are exact for what is linear in the image. Where most cells have points their means are
interpolated by pull-push (Gortler et al., 1996), which costs a millisecond at any density.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.geometry.fusion.work_grid import WorkGrid
from marigold_ros.geometry.hull import hull_of
from marigold_ros.kernels.compiled import compiled
import numpy as np

# Cells; places of points are exact to this.
_ROUNDING = 1e-9
# Pixels; points are inserted band by band, so that each is close to the one before.
_BAND = 16
# Weights of a cell in the nearer and the farther cell of half the resolution, along one axis.
_PULL = np.array([0.75, 0.25], np.float32)


@dataclass(frozen=True)
class NearestPoints:
    """Of each cell (rows, columns): distance to the nearest cell with points, and that cell."""

    distance: np.ndarray  # float32, in cells
    cell: np.ndarray  # flat index, int

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the value (rows, columns) at the nearest cell with points."""
        return values.ravel().take(self.cell)


def nearest_points(count: np.ndarray) -> NearestPoints:
    """Find the nearest cell with points, of at least one; ``count`` (rows, columns)."""
    empty = (count == 0).astype(np.uint8)
    distance, label = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known = np.flatnonzero(count)
    cell = np.zeros(int(label.max()) + 1, np.intp)
    cell[label.ravel()[known]] = known
    return NearestPoints(distance, cell[label])


def interpolate(
    u: np.ndarray,
    v: np.ndarray,
    values: np.ndarray,
    grid: WorkGrid,
    most: int,
    nearest: NearestPoints | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Interpolate values of points at pixels (M,), of at least one, at every cell.

    Returns (rows, columns) float32, by the nearest point outside of the triangles, and where there
    are triangles (rows, columns) bool. Of more than ``most`` points the means in cells are
    triangulated; of more than as many cells they are interpolated by pull-push, everywhere within
    the points' convex hull. ``nearest`` are those of the grid, if they are known.
    """
    mean, count = grid.mean_in_cells(u, v, values)
    if len(u) > most:
        if np.count_nonzero(count) > most:
            filled = pull_push(mean, count)
            return filled, hull_of(count)
        x, y = (grid.mean_in_cells(u, v, place)[0][count > 0] for place in (u, v))
        u, v, values = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp), mean[count > 0]
    linear = _triangulate(u, v, values, grid)
    inside = np.isfinite(linear)
    spread = (nearest or nearest_points(count)).spread(mean)
    return np.where(inside, linear, spread).astype(np.float32), inside


def pull_push(mean: np.ndarray, count: np.ndarray) -> np.ndarray:
    """
    Fill cells without points from coarser and coarser grids, (rows, columns) float32.

    ``mean`` (rows, columns) counts where ``count`` is above 0, in at least one cell.
    """
    known = (count > 0).astype(np.float32)
    return _filled(mean.astype(np.float32), known)


@compiled()
def _filled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fill values (rows, columns) where weights, 0 to 1, are below 1; both float32."""
    rows, columns = values.shape
    if max(rows, columns) == 1:
        return values
    high, wide = (rows + 1) // 2, (columns + 1) // 2
    coarse, pulled = np.zeros((high, wide), np.float32), np.zeros((high, wide), np.float32)
    for i in range(rows):
        # The cells of half the resolution in whose 4 x 4 this one is, the nearer one first.
        for k in range(2):
            row, down = i // 2 + k * (2 * (i % 2) - 1), _PULL[k]
            for j in range(columns if 0 <= row < high else 0):
                weight = down * weights[i, j]
                if weight == 0:
                    continue
                for m in range(2):
                    column = j // 2 + m * (2 * (j % 2) - 1)
                    if 0 <= column < wide:
                        pulled[row, column] += _PULL[m] * weight
                        coarse[row, column] += _PULL[m] * weight * values[i, j]
    for i in range(high):
        for j in range(wide):
            coarse[i, j] /= max(pulled[i, j], np.float32(1e-9))
            pulled[i, j] = min(pulled[i, j], np.float32(1))
    coarse = _filled(coarse, pulled)
    filled = np.empty_like(values)
    for i in range(rows):
        above, below = i // 2, min(max(i // 2 + 2 * (i % 2) - 1, 0), high - 1)
        for j in range(columns):
            left, right = j // 2, min(max(j // 2 + 2 * (j % 2) - 1, 0), wide - 1)
            near = _PULL[0] * coarse[above, left] + _PULL[1] * coarse[above, right]
            far = _PULL[0] * coarse[below, left] + _PULL[1] * coarse[below, right]
            pushed = _PULL[0] * near + _PULL[1] * far
            filled[i, j] = pushed + weights[i, j] * (values[i, j] - pushed)
    return filled


def _triangulate(u: np.ndarray, v: np.ndarray, values: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """Interpolate in Delaunay triangles; NaN outside, everywhere if there is no triangle."""
    height, width = grid.shape
    # Four points on a circle have two triangulations: which one must not depend on their order.
    band = v // _BAND
    along = np.where(band % 2 == 0, u, -u)
    order = np.lexsort((values, v, along, band))
    subdivision = cv2.Subdiv2D((0, 0, width, height))
    pixels = np.stack([u, v], axis=1)[order].astype(np.float32)
    subdivision.insert(pixels)  # type: ignore[call-overload]
    of_pixel = np.empty(grid.shape)
    of_pixel[v[order], u[order]] = values[order]
    edges = np.asarray(subdivision.getEdgeList())
    return _scan(edges, of_pixel, grid.rows, grid.columns)


@compiled()
def _scan(ends: np.ndarray, of_pixel: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """
    Interpolate between edges (n, 4), u and v of both ends, along rows of cells; NaN outside.

    Along a row the surface of triangles is linear from edge to edge. ``of_pixel`` (H, W) holds the
    values at the ends; edges that leave it belong to the triangle around the image.
    """
    height, width = of_pixel.shape
    # First and last row; place of the upper end and columns a row; value there and its rise a row.
    edges = np.empty((len(ends), 7))
    # Crossings are sorted by counting those in each cell, and by insertion within a cell.
    starts = np.zeros(rows * (columns + 1) + 1, np.int64)
    n = 0
    for u0, v0, u1, v1 in ends:
        if v0 > v1:
            u0, v0, u1, v1 = u1, v1, u0, v0
        if v0 < 0 or v1 >= height or min(u0, u1) < 0 or max(u0, u1) >= width:
            continue
        top, bottom = (v0 + 0.5) * rows / height - 0.5, (v1 + 0.5) * rows / height - 0.5
        # The ends of an edge along a row belong to other edges too.
        if bottom - top <= _ROUNDING:
            continue
        column = (u0 + 0.5) * columns / width - 0.5
        slope = ((u1 + 0.5) * columns / width - 0.5 - column) / (bottom - top)
        first = max(np.ceil(top - _ROUNDING), 0.0)
        last = min(np.floor(bottom + _ROUNDING), rows - 1.0)
        value = of_pixel[int(v0), int(u0)]
        rise = (of_pixel[int(v1), int(u1)] - value) / (bottom - top)
        edges[n] = first, last, top, column, slope, value, rise
        n += 1
        for row in range(int(first), int(last) + 1):
            cell = row * (columns + 1) + int(column + (row - top) * slope + 1.0)
            starts[cell + 1] += 1
    for cell in range(len(starts) - 1):
        starts[cell + 1] += starts[cell]
    ends_of_cells, crossings = starts[:-1].copy(), np.empty((starts[-1], 2))
    for edge in range(n):
        first, last, top, column, slope, value, rise = edges[edge]
        for row in range(int(first), int(last) + 1):
            at = column + (row - top) * slope
            cell = row * (columns + 1) + int(at + 1.0)
            place = ends_of_cells[cell]
            ends_of_cells[cell] += 1
            while place > starts[cell] and crossings[place - 1, 0] > at:
                crossings[place] = crossings[place - 1]
                place -= 1
            crossings[place] = at, value + (row - top) * rise
    linear = np.full((rows, columns), np.nan)
    for row in range(rows):
        left, end = starts[row * (columns + 1)], starts[(row + 1) * (columns + 1)]
        if left == end:
            continue
        first = max(np.ceil(crossings[left, 0] - _ROUNDING), 0.0)
        last = min(np.floor(crossings[end - 1, 0] + _ROUNDING), columns - 1.0)
        for column in range(int(first), int(last) + 1):
            while left + 1 < end and crossings[left + 1, 0] < column:
                left += 1
            at, value = crossings[left]
            if at < column and left + 1 < end:
                beyond, other = crossings[left + 1]
                value += (column - at) / (beyond - at) * (other - value)
            linear[row, column] = value
    return linear
