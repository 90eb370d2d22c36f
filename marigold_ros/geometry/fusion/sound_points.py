# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Sound points: those that their neighbours in the image do not contradict.

A doubtful point's log depth lies outside of its nearest neighbours', by more than these scatter.
Edges of objects pass, as either side has neighbours of its own. A clean scan has a few such
points, which are real (thin objects), so none is dropped unless there are more than a clean scan
has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
from marigold_ros.geometry.fusion.interpolation import pull_push
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

# Neighbours in the image that a point is compared to.
_NEIGHBOURS = 8
_INNER = (0.15, 0.85)  # quantiles of the neighbours' log depth
_MARGIN, _SCATTER = 0.1, 0.5  # log depth; share of the quartile range
# Share that is doubtful in clean scans at most.
_CLEAN = 0.05
# The inner quantiles lie just inside of the second value from either end, by less than the scatter
# that they add to the margin.
_ENOUGH = 2
# The radius of close points: median distance of this neighbour, at so many samples.
_TYPICAL, _SAMPLES = 4, 200
# Points above which they are compared to the cells around them instead of their neighbours.
_MANY, _AROUND = 24000, np.ones((5, 5), np.uint8)
# Mean number of points within the radius above which pairs are too many.
_DENSEST = 30


def sound_points(u: np.ndarray, v: np.ndarray, z: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """
    Select the points (M,) that agree with their neighbours in the image; (M,) bool.

    Pixels ``u``, ``v`` and depth ``z`` in metres, positive. All are selected where fewer are
    doubtful than a clean scan may have, or where there are no more than eight.
    """
    count = len(z)
    if count <= _NEIGHBOURS:
        return np.ones(count, dtype=bool)
    log_depth = np.log(z)
    if count > _MANY:
        return _sound_of_many(u, v, log_depth, grid)
    from scipy.spatial import cKDTree

    place = np.stack([u, v], axis=1).astype(np.float64)
    tree = cKDTree(place, compact_nodes=False, balanced_tree=False)
    expected = _CLEAN * count
    most = expected + 2.0 * np.sqrt(expected)
    doubtful = np.flatnonzero(~_clearly_sound(tree, log_depth))
    if len(doubtful) > most:
        # Threads take 0.3 ms to start.
        workers = -1 if len(doubtful) > 2000 else 1
        _, near = tree.query(place[doubtful], k=_NEIGHBOURS + 1, workers=workers)
        doubtful = doubtful[_outside(log_depth[doubtful], log_depth[near[:, 1:]])]
    sound = np.ones(count, dtype=bool)
    if len(doubtful) > most:
        sound[doubtful] = False
    return sound


def _sound_of_many(
    u: np.ndarray, v: np.ndarray, log_depth: np.ndarray, grid: WorkGrid
) -> np.ndarray:
    """Select the points (M,) within the range of the medians around their cells, (M,) bool."""
    mean, known = grid.mean_in_cells(u, v, log_depth)
    typical = cv2.medianBlur(pull_push(mean, known), 5)
    low, high = (
        extreme(typical, _AROUND)[grid.cell_of(u, v)] for extreme in (cv2.erode, cv2.dilate)
    )
    margin = _MARGIN + _SCATTER * (high - low)
    return (log_depth >= low - margin) & (log_depth <= high + margin)


def _clearly_sound(tree: cKDTree, log_depth: np.ndarray) -> np.ndarray:
    """
    Whether points (M,) pass for certain, from pairs of close ones: much faster than neighbours.

    Points within a radius are all among the nearest eight if they are no more than eight. Two of
    the eight that are above it by the margin at most keep a point from being too low, and vice
    versa.
    """
    count = len(log_depth)
    samples = tree.data[:: -(-count // _SAMPLES)]
    distance, _ = tree.query(samples, k=[_TYPICAL + 1])
    radius = float(np.median(distance))
    if tree.query_ball_point(samples, radius, return_length=True).mean() > _DENSEST:
        return np.zeros(count, dtype=bool)
    first, second = np.ascontiguousarray(tree.query_pairs(radius, output_type='ndarray').T)
    rise = log_depth[second] - log_depth[first]
    low, high = rise <= _MARGIN, rise >= -_MARGIN
    reached = np.bincount(first, minlength=count) + np.bincount(second, minlength=count)
    below = np.bincount(first[low], minlength=count) + np.bincount(second[high], minlength=count)
    above = np.bincount(first[high], minlength=count) + np.bincount(second[low], minlength=count)
    return (reached <= _NEIGHBOURS) & (below >= _ENOUGH) & (above >= _ENOUGH)


def _outside(values: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Whether values (n,) lie outside of their neighbours' (n, 8), by more than their scatter."""
    ordered = np.sort(around, axis=1)
    low, first, third, high = (
        _quantile(ordered, share) for share in (_INNER[0], 0.25, 0.75, _INNER[1])
    )
    margin = _MARGIN + _SCATTER * (third - first)
    return (values < low - margin) | (values > high + margin)


def _quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    """Interpolate a quantile of sorted rows."""
    place = share * (ordered.shape[1] - 1)
    low = int(place)
    return ordered[:, low] + (place - low) * (ordered[:, low + 1] - ordered[:, low])
