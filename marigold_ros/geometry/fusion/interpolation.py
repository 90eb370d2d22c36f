# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Interpolation of scattered values on the work grid: in triangles, by pull-push, by the nearest.

Triangles are exact for what is linear in the image. Those of many points are found by the cells to
which each point is nearest, in a few milliseconds; pull-push takes one at any density.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.geometry.around_points import hull_of
from marigold_ros.geometry.fusion.work_grid import WorkGrid
from marigold_ros.kernels.pull_push import pull_push
from marigold_ros.kernels.triangles import between_points, scan_edges
import numpy as np

# Pixels; points are inserted band by band, so that each is close to the one before.
_BAND = 16
# Share of cells with points from which pull-push is hardly worse than triangles, and costs less.
_FULL = 0.6


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

    Returns (rows, columns) float32, and where it is interpolated, (rows, columns) bool; elsewhere
    it is the nearest point's. Of more than ``most`` points the means in cells span the triangles,
    or pull-push fills a grid on which most cells have points, everywhere within their convex hull.
    ``nearest`` are those of the grid, if they are known.
    """
    mean, count = grid.mean_in_cells(u, v, values)
    nearest = nearest or nearest_points(count)
    spread = nearest.spread(mean)
    if len(u) <= most:
        found = _triangulate(u, v, values, grid)
        inside = np.isfinite(found)
    elif np.count_nonzero(count) > _FULL * count.size:
        found, inside = pull_push(mean, count), hull_of(count)
    else:
        places = [grid.mean_in_cells(u, v, side)[0].ravel() for side in grid.place(u, v).T]
        found, inside = between_points(nearest.cell, np.stack(places, axis=1), mean.ravel())
        np.copyto(found, spread, where=~inside)  # few, where triangles are missing
        if inside.any():  # not all on one line
            inner = hull_of(count)[1:-1, 1:-1]  # cells at the border may be beyond all pixels
            inside[1:-1, 1:-1] |= inner
    return np.where(inside, found, spread).astype(np.float32), inside


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
    return scan_edges(np.asarray(subdivision.getEdgeList()), of_pixel, grid.rows, grid.columns)
