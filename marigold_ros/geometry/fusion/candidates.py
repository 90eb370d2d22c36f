# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The candidates of fusion that points and image edges give: log depth on one grid.

Disparity of a flat surface is linear in the image, so walls and roads come out exactly.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.around_points import hull_of
from marigold_ros.geometry.fusion.edge_aware import edge_weights, typical_weight
from marigold_ros.geometry.fusion.ground_bound import below_points, ground_bound
from marigold_ros.geometry.fusion.interpolation import (
    interpolate,
    nearest_points,
    NearestPoints,
)
from marigold_ros.geometry.fusion.work_grid import CELLS, WorkGrid
from marigold_ros.geometry.median import median
from marigold_ros.kernels.grid_solver import solve_on_grid
import numpy as np

# Points of which many lie in each cell: then their places in it do not matter.
_DENSE = 50_000
# Weight of a point against the edges: a deviation of 3 % counts as much as a step of 17 %.
_POINT_WEIGHT = 33.0
# Weight of the linear interpolation, with which depth stays far from all points and behind edges.
# Times the square of the typical weight between cells: else points would reach much farther in a
# smooth image than in a textured one. Of a cell of the coarse grid: on a finer one it is divided
# among more, and points reach as far in the image.
_LINEAR_WEIGHT = 0.02
# Points that are triangulated one by one, which costs a microsecond or two each, for depth and for
# its proof. Triangles that the grid shows cost less, and are worse where points are far apart:
# more than a few are close if cells among them are on average so few cells from the nearest.
_TRIANGULATED, _PROVING, _FEW, _CLOSE = 14000, 3000, 2000, 2.0
# Points of a fold at which interpolation is scored, at least half as many of more.
_SCORED = 4000
# Depth of the border, of which the farther part is among the points, in median distances beyond.
_BORDER = 1.6
# The error of the nearest point grows with its distance: from the border to beyond it at most by
# this factor.
_MOST_FARTHER = 1.6
# Share of the points from which too few are left of those at the border.
_MOST_HELD_OUT = 0.8
# Window of the range of depth around a cell, in distances of its nearest point, and at least.
_RANGE_REACH, _RANGE_LEAST = 1.5, 2.0


@dataclass(frozen=True)
class GridPoints:
    """
    Sound points on a grid: pixels and disparity (M,), their mean in each cell, what is nearest.

    ``fold`` (M,) bool splits them for cross-validation. ``close`` are many points near each other.
    """

    u: np.ndarray
    v: np.ndarray
    disparity: np.ndarray  # float64
    fold: np.ndarray
    grid: WorkGrid
    mean: np.ndarray  # (rows, columns), 0 without a point
    nearest: NearestPoints
    close: bool


@dataclass(frozen=True)
class Surfaces:
    """
    Log of depth in metres by triangles and image, (rows, columns) float32.

    ``linear`` interpolates disparity, ``smooth`` follows the image's edges; ``inside`` is the
    points' hull, and ``image`` (rows, columns, 3) is the image on the grid, 0 to 255, or None.
    """

    image: np.ndarray | None  # float32
    linear: np.ndarray
    smooth: np.ndarray
    inside: np.ndarray  # bool
    border: np.ndarray  # (M,) bool, points at the border of the hull
    held_border: np.ndarray  # (M,) log ratio of these to the nearest of the others, NaN elsewhere
    farther: float  # distance of cells beyond from points, over that of these from others


@dataclass(frozen=True)
class Surroundings:
    """
    Log of depth in metres of the points around, (rows, columns) float32.

    ``nearest`` is the nearest point's, ``low`` and ``high`` bound the points around; ``below`` are
    the cells below the points, where ``ground`` bounds depth, None if they show none.
    """

    nearest: np.ndarray
    low: np.ndarray
    high: np.ndarray
    below: np.ndarray  # bool
    ground: np.ndarray | None


@dataclass(frozen=True)
class Candidates(Surfaces, Surroundings):
    """The candidates on their grid, where the points are, and their proof among the points."""

    grid: WorkGrid
    points: NearestPoints
    held_out: np.ndarray  # (M,) log ratio of each point to an interpolation without its fold


def points_on_grid(sparse: SparseDepth, fold: np.ndarray, grid: WorkGrid) -> GridPoints:
    """Return sound points, at least one, with what all candidates need of them."""
    u, v, disparity = sparse.u, sparse.v, 1.0 / sparse.z.astype(np.float64)
    mean, count = grid.mean_in_cells(u, v, disparity)
    nearest = nearest_points(count)
    close = len(u) > _FEW and float(nearest.distance[hull_of(count)].mean()) < _CLOSE
    return GridPoints(u, v, disparity, fold, grid, mean, nearest, close)


def point_candidates(points: GridPoints, rgb: np.ndarray | None) -> Candidates:
    """
    Return the candidates from points.

    ``rgb`` (H, W, 3) uint8 is the image of the grid, or None: then edges are not known and
    ``smooth`` is a membrane.
    """
    return join_candidates(
        points, surfaces(points, rgb), surroundings(points), hold_out_points(points)
    )


def join_candidates(
    points: GridPoints, across: Surfaces, around: Surroundings, held_out: np.ndarray
) -> Candidates:
    """Join the parts, which several threads may have made."""
    parts = {**vars(across), **vars(around)}
    parts['low'] = np.minimum(around.low, across.linear)
    parts['high'] = np.maximum(around.high, across.linear)
    return Candidates(**parts, grid=points.grid, points=points.nearest, held_out=held_out)


def surfaces(points: GridPoints, rgb: np.ndarray | None) -> Surfaces:
    """Interpolate between the points, along the edges of the image."""
    u, v, disparity, grid = points.u, points.v, points.disparity, points.grid
    most = _FEW if points.close else _TRIANGULATED
    plane, inside = interpolate(u, v, disparity, grid, most, points.nearest)
    linear = -np.log(plane)
    image = None if rgb is None else grid.mean_colour(rgb)
    border = border_points(u, v, inside, points.nearest.distance, grid)
    held_border, distance = _held_border(u, v, disparity, border, grid.halved())
    beyond = float(points.nearest.distance[~inside].mean()) if border.any() else 0.0
    return Surfaces(
        image,
        linear,
        _smooth(u, v, -np.log(disparity), linear, image, grid),
        inside,
        border,
        held_border,
        float(np.clip(beyond / max(2.0 * distance, 1.0), 1.0, _MOST_FARTHER)),
    )


def surroundings(points: GridPoints) -> Surroundings:
    """Return the nearest point of each cell, the range of those around it, and the ground."""
    with np.errstate(divide='ignore'):
        known = -np.log(points.mean)
    low, high = depth_range(known, points.nearest)
    u, v, grid = points.u, points.v, points.grid
    below = below_points(u, v, grid)
    ground = ground_bound(u, v, points.disparity, below, grid)
    return Surroundings(points.nearest.spread(known), low, high, below, ground)


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
    beside = half.sample(start, u, v) if len(u) < _DENSE else start[half.cell_of(u, v)]
    missed, count = half.mean_in_cells(u, v, log_depth - beside)
    small = None if image is None else half.shrink(image)
    edges = edge_weights(small, start.shape)
    weight = _POINT_WEIGHT * count
    of_cell = _LINEAR_WEIGHT * min(1.0, CELLS[0] / (grid.rows * grid.columns))
    weight += np.float32(of_cell * typical_weight(edges) ** 2)
    missed *= _POINT_WEIGHT * count / weight
    change = solve_on_grid(start + missed, weight, edges, start) - start
    return linear + grid.refine(change)


def hold_out_points(points: GridPoints) -> np.ndarray:
    """Log ratio (M,) of each point to an interpolation of the other fold; NaN without any."""
    u, v, disparity, grid = points.u, points.v, points.disparity, points.grid.halved()
    ratio = np.full(len(u), np.nan)
    folds = np.flatnonzero(points.fold), np.flatnonzero(~points.fold)
    for known, scored in (folds, folds[::-1]):
        if len(known) == 0 or len(scored) == 0:
            continue
        scored = scored[:: max(1, len(scored) // _SCORED)]
        most = _FEW if points.close else _PROVING
        expected, _ = interpolate(u[known], v[known], disparity[known], grid, most)
        ratio[scored] = np.log(grid.sample(expected, u[scored], v[scored]) / disparity[scored])
    return ratio


def border_points(
    u: np.ndarray, v: np.ndarray, inside: np.ndarray, distance: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """
    Select the points (M,) that are held out for claims beyond the convex hull, (M,) bool.

    Half of the cells beyond (rows, columns) are farther from a point than some reach; the border
    is within 1.6 times that of these cells, and about two thirds of all points at most. There is
    none where nothing is beyond, or hardly a point would be left.
    """
    if inside.all() or not inside.any():
        return np.zeros(len(u), dtype=bool)
    reach = max(median(distance[~inside]), 1.0)
    near = (inside | (distance < reach)).astype(np.uint8)
    at_points = cv2.distanceTransform(near, cv2.DIST_L2, 3)[grid.cell_of(u, v)]
    border = at_points <= min(_BORDER * reach, float(np.quantile(at_points, 2 / 3)))
    return border if border.mean() < _MOST_HELD_OUT else np.zeros(len(u), dtype=bool)


def _held_border(
    u: np.ndarray, v: np.ndarray, disparity: np.ndarray, border: np.ndarray, grid: WorkGrid
) -> tuple[np.ndarray, float]:
    """
    Log ratio (M,) of points at the border to the nearest point that is not; NaN elsewhere.

    Also returns their mean distance from these in cells, 0 without any.
    """
    ratio = np.full(len(u), np.nan)
    if not border.any() or border.all():
        return ratio, 0.0
    mean, count = grid.mean_in_cells(u[~border], v[~border], disparity[~border])
    nearest, cell = nearest_points(count), grid.cell_of(u[border], v[border])
    ratio[border] = np.log(nearest.spread(mean)[cell] / disparity[border])
    return ratio, float(nearest.distance[cell].mean())


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
