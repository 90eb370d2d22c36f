# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The candidates of fusion: log depth from points, image edges and the map, on one grid."""

from dataclasses import dataclass

from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.fusion.edge_aware import edge_weights, solve_edge_aware
from marigold_ros.geometry.fusion.interpolation import (
    depth_range,
    interpolate_disparity,
    natural_neighbours,
    nearest_points,
    NearestPoints,
)
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Weight of a point against the edges: a deviation of 3 % counts as much as a step of 17 %.
_POINT_WEIGHT = 33.0


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
