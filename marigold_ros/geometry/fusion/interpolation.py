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
import numpy as np

# Cells; places of points are exact to this.
_ROUNDING = 1e-9
# Pixels; points are inserted band by band, so that each is close to the one before.
_BAND = 16
# Weights of the 4 x 4 cells that a cell of half the resolution is made of, along one axis.
_PULL = np.array([0.25, 0.75, 0.75, 0.25], np.float32)


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
    values = [np.where(count > 0, mean, 0).astype(np.float32)]
    weights = [(count > 0).astype(np.float32)]
    while max(weights[-1].shape) > 1:
        weight = _pulled(weights[-1])
        total = _pulled(values[-1] * weights[-1])
        values.append(total / np.maximum(weight, np.float32(1e-9)))
        weights.append(np.asarray(np.minimum(weight, np.float32(1.0))))
    filled: np.ndarray = values[-1]
    for value, weight in zip(values[-2::-1], weights[-2::-1], strict=True):
        rows, columns = value.shape
        size = 2 * filled.shape[1], 2 * filled.shape[0]
        pushed = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR)[:rows, :columns]
        filled = pushed + weight * (value - pushed)
    return filled


def _pulled(image: np.ndarray) -> np.ndarray:
    """Sum over 4 x 4 cells around each cell of half the resolution."""
    rows, columns = image.shape
    even = cv2.copyMakeBorder(image, 1, 2 + rows % 2, 1, 2 + columns % 2, cv2.BORDER_CONSTANT)
    summed = cv2.sepFilter2D(even, -1, _PULL, _PULL, anchor=(0, 0))
    return np.ascontiguousarray(summed[: rows + rows % 2 : 2, : columns + columns % 2 : 2])


def _triangulate(u: np.ndarray, v: np.ndarray, values: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """Interpolate in Delaunay triangles; NaN outside, everywhere if there is no triangle."""
    first, second = _edges(u, v, values, grid.shape)
    place = grid.place(u, v)
    linear = np.full((grid.rows, grid.columns), np.nan)
    row, column, value = _crossings(first, second, place, values, grid.rows)
    if len(row) == 0:
        return linear
    # Along a row of cells the surface is linear from edge to edge. All rows make one long line.
    length = 2.0 * grid.columns
    along = row * length + column
    order = np.argsort(along)
    along = along[order]
    starts = np.arange(grid.rows + 1) * length
    ends = np.searchsorted(along, starts - 0.5 * grid.columns)
    crossed = np.flatnonzero(np.diff(ends))
    left, right = along[ends[crossed]], along[ends[crossed + 1] - 1]
    cells = starts[crossed, None] + np.arange(grid.columns)
    inside = (cells >= left[:, None] - _ROUNDING) & (cells <= right[:, None] + _ROUNDING)
    linear[crossed] = np.where(inside, np.interp(cells, along, value[order]), np.nan)
    return linear


def _edges(
    u: np.ndarray, v: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends (n,) of the edges of Delaunay triangles, as indices of points."""
    # Four points on a circle have two triangulations: which one must not depend on their order.
    band = v // _BAND
    along = np.where(band % 2 == 0, u, -u)
    order = np.lexsort((values, v, along, band))
    subdivision = cv2.Subdiv2D((0, 0, shape[1], shape[0]))
    pixels = np.stack([u, v], axis=1)[order].astype(np.float32)
    subdivision.insert(pixels)  # type: ignore[call-overload]
    ends = np.asarray(subdivision.getEdgeList())
    # It begins with a triangle around the image.
    within = (ends >= 0).all(axis=1)
    within &= (ends[:, [0, 2]] < shape[1]).all(axis=1) & (ends[:, [1, 3]] < shape[0]).all(axis=1)
    x0, y0, x1, y1 = ends[within].T.astype(np.intp)
    index = np.empty(shape, np.intp)
    index[v[order], u[order]] = order
    return index[y0, x0], index[y1, x1]


def _crossings(
    first: np.ndarray, second: np.ndarray, place: np.ndarray, values: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find where edges cross the rows of cells; return row, column and value (n,)."""
    y, x = np.ascontiguousarray(place.T)
    upward = y[first] > y[second]
    first, second = np.where(upward, second, first), np.where(upward, first, second)
    top, bottom = y[first], y[second]
    start = np.maximum(np.ceil(top - _ROUNDING), 0.0)
    stop = np.minimum(np.floor(bottom + _ROUNDING), rows - 1.0)
    # The ends of an edge along a row belong to other edges too.
    count = np.where(bottom - top > _ROUNDING, np.maximum(stop - start + 1.0, 0.0), 0.0)
    count = count.astype(np.intp)
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) + (start - np.cumsum(count) + count)[edge]
    share = (row - top[edge]) / (bottom - top)[edge]
    first, second = first[edge], second[edge]
    column = x[first] + share * (x[second] - x[first])
    return row, column, values[first] + share * (values[second] - values[first])
