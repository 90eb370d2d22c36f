# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Interpolation of points over the image: triangles in disparity, natural neighbours, nearest.

Disparity of a flat surface is linear in the image, so walls and roads come out exactly. Many
points are triangulated thinned out, and what that misses is added by natural neighbours.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
from marigold_ros.geometry.alignment.kriging_field import representatives
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Triangulated points; their cost is about 6 us each.
_TRIANGULATED = 1500
# Radii of natural neighbours grow by this factor; above this radius the grid is coarser.
_GROWTH, _RADIUS = 1.41, 2.5
# Window of the range of depth around a cell, in distances of its nearest point, and at least.
_RANGE_REACH, _RANGE_LEAST = 1.5, 2.0


@dataclass(frozen=True)
class NearestPoints:
    """Of each cell (rows, columns): distance to the nearest cell with points, and that cell."""

    distance: np.ndarray  # float32, in cells
    cell: np.ndarray  # flat index, int

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the value (rows, columns) at the nearest cell with points."""
        return np.asarray(values.ravel()[self.cell])


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


def natural_neighbours(values: np.ndarray, nearest: NearestPoints) -> np.ndarray:
    """
    Interpolate values (rows, columns) of the cells with points: Sibson's method, discretely.

    Each cell's nearest value counts in a disc that reaches to that point (Park et al., 2006), here
    by classes of radii. The result lies within the range of the values.
    """
    spread, distance = nearest.spread(values), nearest.distance
    rows, columns = distance.shape
    total = np.zeros((rows, columns, 2), np.float32)
    low, high = 0.0, 0.5
    farthest = float(distance.max())
    while low <= farthest:
        member = (distance >= low) & (distance < high)
        if member.any():
            weight = member.astype(np.float32)
            both = cv2.merge([weight * spread, weight])
            total += both if low == 0.0 else _spread_discs(both, 0.5 * (low + high))
        low, high = high, max(high * _GROWTH, high + 0.9)
    return total[..., 0] / total[..., 1]


def _spread_discs(images: np.ndarray, radius: float) -> np.ndarray:
    """Sum over discs of a radius in cells; large ones on a coarser grid."""
    rows, columns = images.shape[:2]
    step = max(1, int(radius / _RADIUS))
    if step == 1:
        return cv2.filter2D(images, -1, _disc(radius), borderType=cv2.BORDER_CONSTANT)
    size = -(-columns // step), -(-rows // step)
    coarse = cv2.resize(images, size, interpolation=cv2.INTER_AREA)
    disc = _disc(radius / step) * np.float32(step * step)
    coarse = cv2.filter2D(coarse, -1, disc, borderType=cv2.BORDER_CONSTANT)
    return cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=256)
def _disc(radius: float) -> np.ndarray:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0).astype(np.float32)


def interpolate_disparity(
    u: np.ndarray, v: np.ndarray, disparity: np.ndarray, grid: WorkGrid, nearest: NearestPoints
) -> tuple[np.ndarray, np.ndarray]:
    """
    Interpolate disparity of points at pixels (M,) at every cell, within its range.

    Returns disparity (rows, columns) float32, by the nearest point outside of the points' convex
    hull, and the hull (rows, columns) bool. ``nearest`` is of the cells of all points.
    """
    chosen = representatives(u, v, disparity, _TRIANGULATED)
    linear = _triangulate(grid.place(u[chosen], v[chosen]), disparity[chosen], grid)
    inside = np.isfinite(linear)
    mean, _ = grid.mean_in_cells(u, v, disparity)
    linear = np.where(inside, linear, nearest.spread(mean)).astype(np.float32)
    if len(chosen) < len(u):
        missed = disparity - grid.sample(linear, u, v)
        linear += natural_neighbours(grid.mean_in_cells(u, v, missed)[0], nearest)
        linear = np.clip(linear, np.float32(disparity.min()), np.float32(disparity.max()))
    return linear, inside


def _triangulate(place: np.ndarray, values: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """Interpolate in Delaunay triangles; NaN outside, everywhere if there is no triangle."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    try:
        surface = LinearNDInterpolator(place, values)
    except (QhullError, ValueError):
        return np.full((grid.rows, grid.columns), np.nan)
    rows, columns = np.mgrid[0 : grid.rows, 0 : grid.columns].astype(np.float64)
    return np.asarray(surface(rows, columns))


def depth_range(values: np.ndarray, nearest: NearestPoints) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the least and greatest value of the points around each cell.

    ``values`` (rows, columns) of the cells with points; the window grows with the distance of the
    nearest.
    """
    spread = nearest.spread(values)
    wanted = _RANGE_REACH * nearest.distance + _RANGE_LEAST
    low, high = spread.copy(), spread.copy()
    least, greatest, reach, farthest = spread, spread, 0, float(wanted.max())
    step = int(_RANGE_LEAST)
    while reach < farthest:
        kernel = np.ones((2 * step + 1, 2 * step + 1), np.uint8)
        least, greatest = cv2.erode(least, kernel), cv2.dilate(greatest, kernel)
        reach += step
        # The widest window within the wanted reach counts.
        within = wanted >= reach
        np.copyto(low, least, where=within)
        np.copyto(high, greatest, where=within)
        step = reach // 2 + 1
    return low, high
