# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Which points of a frame agree with their neighbours, by depth and place in the image.

A doubtful point has hardly a neighbour of its depth, and lies outside of the range of those that
have some. Clean scans have such points too, thin objects, and more where surfaces are small beside
the distance of points. So points are dropped only from that depth on beyond the range from which
more are found than a clean scan would have, after Benjamini and Hochberg (1995).
"""

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.around_points import some_of, spacing_of
from marigold_ros.geometry.fusion.interpolation import nearest_points
from marigold_ros.geometry.fusion.work_grid import WorkGrid
from marigold_ros.geometry.median import median
from marigold_ros.kernels.compiled import compiled
from marigold_ros.kernels.neighbours import nearest_neighbours, sorted_in_tiles
from marigold_ros.kernels.pull_push import pull_push
import numpy as np

# Neighbours in the image that a point is compared to, and how many of its depth are enough.
_NEIGHBOURS, _ENOUGH = 8, 2
# Difference in log depth up to which two points are of one depth.
_AGREE = 0.1
# Part of the range around that points may lie beyond it, as on a slope.
_BEYOND = 0.1
# Points with fewer neighbours of their depth than this are at edges. A clean scan has this part of
# their number doubtful, more if it has but a few points, and by e fewer for each so much log depth
# beyond the range. Chosen on five real images and twelve synthetic ones.
_AT_EDGES = 5
_DOUBTFUL, _FEW, _FALLING = 0.3, 100, 0.35
# The radius of close points: median distance of this neighbour, at so many samples.
_TYPICAL, _SAMPLES = 6, 400
# Points of three tiles in a row that are looked at.
_DENSEST = 60
# Of fewer points than `_FEW`, and of more than this, each is compared to most of what is around
# it: to inner quantiles of its neighbours, and to the medians of cells.
_MANY, _AROUND = 24000, np.ones((5, 5), np.uint8)
_QUANTILES = (0.15, 0.25, 0.75, 0.85)
_MARGIN, _SCATTER = 0.1, 0.5  # log depth; share of the range around
# Share of a few points that is doubtful in clean scans at most.
_CLEAN = 0.05
# Points are alone farther from all other sources than so many median distances of their points.
_ALONE = 3.0


def sound_of_sources(sparse: SparseDepth, grid: WorkGrid) -> np.ndarray:
    """
    Select the sound points (M,) of one source or of several; (M,) bool.

    Where one alone has points, as landmarks beyond the range of a depth camera, those of the
    others do not judge them: they are compared to their own.
    """
    u, v, z = sparse.u, sparse.v, sparse.z
    sound = sound_points(u, v, z, grid)
    if sparse.part is None or sound.all():
        return sound
    for part in np.unique(sparse.part):
        own = np.flatnonzero(sparse.part == part)
        alone = own[_far_from(sparse.chosen(sparse.part != part), u[own], v[own], grid)]
        if not sound[alone].all():
            agreeing = np.zeros(len(z), dtype=bool)
            agreeing[own] = sound_points(u[own], v[own], z[own], grid)
            sound[alone] |= agreeing[alone]
    return sound


def _far_from(others: SparseDepth, u: np.ndarray, v: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """Select the pixels (n,) beyond the reach of other points, (n,) bool; none where one is."""
    if len(others) < 2:  # which hardly judged them
        return np.zeros(len(u), dtype=bool)
    taken = np.zeros((grid.rows, grid.columns), np.uint8)
    taken[grid.cell_of(others.u, others.v)] = 1
    distance = nearest_points(taken).distance[grid.cell_of(u, v)]
    spacing = spacing_of(others.u, others.v)
    return distance * grid.shape[1] > _ALONE * spacing * grid.columns


def sound_points(u: np.ndarray, v: np.ndarray, z: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """
    Select the points (M,) that agree with their neighbours in the image; (M,) bool.

    Pixels ``u``, ``v`` and depth ``z`` in metres, positive. All are selected where no more are
    doubtful than in a clean scan, or where there are no more than eight.
    """
    count = len(z)
    if count <= _NEIGHBOURS:
        return np.ones(count, dtype=bool)
    log_depth = np.log(z)
    if count > _MANY:
        return _sound_of_many(u, v, log_depth, grid)
    if count < _FEW:
        return _sound_of_few(u, v, log_depth)
    some, sound = some_of(u, v, _SAMPLES), np.ones(count, dtype=bool)
    near = _neighbours_among(sound, u, v, some)
    across, down = (side[near[:, _TYPICAL]] - side[near[:, 0]] for side in (u, v))
    radius = median(np.hypot(across, down))
    tiles = sorted_in_tiles(u, v, max(radius, 1.0))
    rest = np.flatnonzero(~clearly_sound(u, v, log_depth, radius, tiles))
    for _ in range(2):  # without the worst, neighbours are better judges, and fewer seem at edges
        away = _beyond_range((u, v), log_depth, sound, rest)
        dropped = _more_than_expected(away, _doubtful_if_clean(log_depth[near], sound))
        if not dropped.any():
            break
        sound = np.ones(count, dtype=bool)
        sound[rest[dropped]] = False
        near = _neighbours_among(sound, u, v, some[sound[some]])
    return sound


def _neighbours_among(
    chosen: np.ndarray, u: np.ndarray, v: np.ndarray, some: np.ndarray
) -> np.ndarray:
    """
    Return the indices of the chosen points nearest to some points (n,), (n, 1 + neighbours).

    ``chosen`` (M,) is bool; each of them is its own nearest.
    """
    known, places = np.flatnonzero(chosen), (u[some], v[some])
    return known[nearest_neighbours((u[known], v[known]), places, _NEIGHBOURS + 1)]


def _doubtful_if_clean(log_depth: np.ndarray, sound: np.ndarray) -> float:
    """Return how many of the sound would be doubtful, by log depth of some (n, 1 + neighbours)."""
    count = np.count_nonzero(sound)
    at_edges = float(np.mean(_agreeing(log_depth[:, 1:] - log_depth[:, :1]) < _AT_EDGES))
    return _DOUBTFUL * count * (1.0 + (_FEW / count) ** 2) * at_edges


def _sound_of_few(u: np.ndarray, v: np.ndarray, log_depth: np.ndarray) -> np.ndarray:
    """Select the points (M,) within most of their neighbours, or all in a clean scan."""
    near = nearest_neighbours((u, v), (u, v), _NEIGHBOURS + 1)
    low, first, third, high = np.quantile(log_depth[near[:, 1:]], _QUANTILES, axis=1)
    margin = _MARGIN + _SCATTER * (third - first)
    sound = (log_depth >= low - margin) & (log_depth <= high + margin)
    expected = _CLEAN * len(sound)
    few = np.count_nonzero(~sound) <= expected + 2.0 * np.sqrt(expected)
    return np.ones_like(sound) if few else sound


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


def _agreeing(rise: np.ndarray) -> np.ndarray:
    """Count the neighbours of one depth, by differences in log depth (n, neighbours)."""
    return np.count_nonzero(np.abs(rise) < _AGREE, axis=1)


@compiled()
def clearly_sound(
    u: np.ndarray,
    v: np.ndarray,
    log_depth: np.ndarray,
    radius: float,
    tiles: tuple[np.ndarray, np.ndarray, np.ndarray, int, int],
) -> np.ndarray:
    """
    Whether points (M,) agree with some of those within a radius: faster than the nearest.

    ``tiles`` are these points as `sorted_in_tiles`, of at least that side.
    """
    tile, starts, members, columns, rows = tiles
    sound = np.zeros(len(u), np.bool_)
    for i in range(len(u)):
        row, column = tile[i] // columns, tile[i] % columns
        agreeing = 0
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            first = starts[r * columns + max(column - 1, 0)]
            last = starts[r * columns + min(column + 2, columns)]
            for j in members[first : min(last, first + _DENSEST)]:
                if agreeing >= _ENOUGH:
                    break
                across, down = u[j] - u[i], v[j] - v[i]
                if j != i and across * across + down * down <= radius * radius:
                    agreeing += abs(log_depth[j] - log_depth[i]) < _AGREE
        sound[i] = agreeing >= _ENOUGH
    return sound


def _beyond_range(
    pixels: tuple[np.ndarray, np.ndarray],
    log_depth: np.ndarray,
    judges: np.ndarray,
    rest: np.ndarray,
) -> np.ndarray:
    """
    Log depth (n,) by which points are beyond the range around them; 0 for those that agree.

    ``rest`` (n,) are their indices among all, at ``pixels`` u, v (M,). They are compared to the
    nearest of those that ``judges`` (M,) bool selects; the range is that of those of one depth
    with neighbours.
    """
    near = _neighbours_among(judges, *pixels, rest)
    # A judge is its own nearest.
    near = np.where(judges[rest, None], near[:, 1:], near[:, :-1])
    rise = log_depth[near] - log_depth[rest, None]
    agreeing = np.ones(len(log_depth), dtype=bool)
    agreeing[rest] = _agreeing(rise) >= _ENOUGH
    least = np.where(agreeing[near], rise, np.inf).min(axis=1, initial=np.inf)
    greatest = np.where(agreeing[near], rise, -np.inf).max(axis=1, initial=-np.inf)
    judged = ~agreeing[rest] & np.isfinite(least)
    away = np.zeros(len(rest))
    least, greatest = least[judged], greatest[judged]
    away[judged] = np.maximum(least, -greatest) - _BEYOND * (greatest - least)
    return away


def _more_than_expected(away: np.ndarray, expected: float) -> np.ndarray:
    """Select of points beyond the range (n,) those that are more than a clean scan would have."""
    order = np.argsort(-away)
    beyond = away[order]
    more = expected * np.exp(beyond / -_FALLING) <= np.arange(1, len(away) + 1)
    more &= beyond > _AGREE
    selected = np.zeros(len(away), dtype=bool)
    selected[order[: np.flatnonzero(more).max(initial=-1) + 1]] = True
    return selected
