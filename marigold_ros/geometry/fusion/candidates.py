# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The candidates of fusion that points and image edges give: log depth on one grid.

Interpolation is by triangles in disparity, by natural neighbours, and by the nearest point.
Disparity of a flat surface is linear in the image, so walls and roads come out exactly. Many
points are triangulated thinned out, and what that misses is added by natural neighbours.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.alignment.kriging_field import representatives
from marigold_ros.geometry.fusion.edge_aware import edge_weights, solve_edge_aware
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Weight of a point against the edges: a deviation of 3 % counts as much as a step of 17 %.
_POINT_WEIGHT = 33.0
# Triangulated points; their cost is about 6 us each.
_TRIANGULATED = 1500
# Radii of natural neighbours grow by this factor; above this radius the grid is coarser.
_GROWTH, _RADIUS = 1.41, 2.5
# Cells; places of points are exact to this.
_ROUNDING = 1e-9
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

    @cached_property
    def rings(self) -> list[tuple[np.ndarray, float]]:
        """Cells (rows, columns), 1 or 0 float32, by classes of their distance, and its middle."""
        rings = []
        low, high = 0.0, 0.5
        farthest = float(self.distance.max())
        while low <= farthest:
            member = (self.distance >= low) & (self.distance < high)
            if member.any():
                rings.append((member.astype(np.float32), 0.5 * (low + high) if low else 0.0))
            low, high = high, max(high * _GROWTH, high + 0.9)
        return rings

    @cached_property
    def coverage(self) -> np.ndarray:
        """Weight (rows, columns) of all discs that reach each cell, float32."""
        total = np.zeros_like(self.distance)
        for ring, radius in self.rings:
            total += _spread_discs(ring, radius)
        return total


@dataclass(frozen=True)
class Candidates:
    """
    Log of depth in metres by each way, (rows, columns) float32, and where the points are.

    ``linear`` interpolates disparity, ``smooth`` follows the image's edges, ``nearest`` is the
    nearest point's, ``low`` and ``high`` bound the points around; ``inside`` is the points' hull,
    and ``image`` (rows, columns, 3) is the image on the grid, 0 to 255, or None.
    """

    grid: WorkGrid
    image: np.ndarray | None  # float32
    linear: np.ndarray
    smooth: np.ndarray
    nearest: np.ndarray
    low: np.ndarray
    high: np.ndarray
    inside: np.ndarray  # bool
    points: NearestPoints
    held_out: np.ndarray  # (M,) log ratio of each point to an interpolation without its fold


def point_candidates(
    sparse: SparseDepth, fold: np.ndarray, rgb: np.ndarray | None, grid: WorkGrid
) -> Candidates:
    """
    Return the candidates from sound points, of at least one.

    ``fold`` (M,) bool splits them for cross-validation; ``rgb`` (H, W, 3) uint8 is the image of
    the grid, or None: then edges are not known and ``smooth`` is a membrane.
    """
    u, v, disparity = sparse.u, sparse.v, 1.0 / sparse.z.astype(np.float64)
    mean, count = grid.mean_in_cells(u, v, disparity)
    points = nearest_points(count)
    plane, inside = interpolate_disparity(u, v, disparity, grid, points)
    linear = -np.log(plane)
    log_depth = -np.log(disparity)
    with np.errstate(divide='ignore'):
        known = -np.log(mean)
    low, high = depth_range(known, points)
    # As floats: averaged again for half the resolution, without rounding in between.
    image = None if rgb is None else grid.shrink(rgb.astype(np.float32))
    return Candidates(
        grid,
        image,
        linear,
        _smooth(u, v, log_depth, linear, image, grid),
        points.spread(known),
        np.minimum(low, linear),
        np.maximum(high, linear),
        inside,
        points,
        _held_out(u, v, disparity, fold, grid.halved()),
    )


def _smooth(
    u: np.ndarray,
    v: np.ndarray,
    log_depth: np.ndarray,
    linear: np.ndarray,
    image: np.ndarray | None,
    grid: WorkGrid,
) -> np.ndarray:
    """Follow the image's edges from the linear interpolation, at half the resolution."""
    half = grid.halved()
    start = half.shrink(linear)
    # Relative to the interpolation, a cell's mean does not depend on where in it a point lies.
    missed, count = half.mean_in_cells(u, v, log_depth - half.sample(start, u, v))
    small = None if image is None else half.shrink(image)
    edges = edge_weights(small, start.shape)
    change = solve_edge_aware(start + missed, _POINT_WEIGHT * count, edges, start) - start
    return linear + grid.refine(change)


def _held_out(
    u: np.ndarray, v: np.ndarray, disparity: np.ndarray, fold: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """Log ratio (M,) of each point to natural neighbours of the other fold; NaN without any."""
    ratio = np.full(len(u), np.nan)
    folds = np.flatnonzero(fold), np.flatnonzero(~fold)
    for known, scored in (folds, folds[::-1]):
        if len(known) == 0 or len(scored) == 0:
            continue
        mean, count = grid.mean_in_cells(u[known], v[known], disparity[known])
        expected = natural_neighbours(mean, nearest_points(count))
        ratio[scored] = np.log(grid.sample(expected, u[scored], v[scored]) / disparity[scored])
    return ratio


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
    spread = nearest.spread(values)
    total = np.zeros_like(spread)
    for ring, radius in nearest.rings:
        total += _spread_discs(ring * spread, radius)
    return total / nearest.coverage


def _spread_discs(images: np.ndarray, radius: float) -> np.ndarray:
    """Sum over discs of a radius in cells; large ones on a coarser grid."""
    if radius == 0.0:
        return images
    rows, columns = images.shape
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
    # Four points on a circle have two triangulations: which one must not depend on their order.
    chosen = chosen[np.lexsort((disparity[chosen], u[chosen], v[chosen]))]
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
    from scipy.spatial import Delaunay, QhullError

    linear = np.full((grid.rows, grid.columns), np.nan)
    try:
        mesh = Delaunay(place)
    except (QhullError, ValueError):
        return linear
    row, column, value = _crossings(mesh.simplices, mesh.neighbors, place, values, grid.rows)
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


def _crossings(
    triangles: np.ndarray, beside: np.ndarray, place: np.ndarray, values: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find where edges of triangles cross the rows of cells; return row, column and value (n,).

    ``beside`` (m, 3) is the triangle beyond the edge opposite to each corner.
    """
    # Two triangles share an edge; the later one counts it.
    own = beside < np.arange(len(beside))[:, None]
    first, second = triangles[:, [1, 2, 0]][own], triangles[:, [2, 0, 1]][own]
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
