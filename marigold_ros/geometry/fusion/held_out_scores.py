# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The candidates of one frame with their scores at held-out points: who has earned a share.

Points that their neighbours contradict are left out first, with no map to compare to: their log
depth lies outside of their nearest neighbours', by more than these scatter. Edges of objects pass,
as either side has neighbours of its own. A clean scan has a few such points, which are real (thin
objects), so none is dropped unless there are more than a clean scan has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TYPE_CHECKING

from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, consistent_points
from marigold_ros.geometry.fusion.candidates import Candidates, point_candidates
from marigold_ros.geometry.fusion.mixing import (
    LARGEST_LOG_RATIO,
    log_depth_on_grid,
    MapCandidate,
    network_input,
)
from marigold_ros.geometry.fusion.work_grid import work_grid
from marigold_ros.reasons import Reason
import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

# Limits on the error of a map, chosen on the development data of docs/fusion.md: synthetic
# scenes, real RGB-D images, a real drive. They are parts of what interpolation errs.
# A map that errs less than this judges single points, too; a few
# that it contradicts may be things that it does not show.
_GOOD_MAP, _FEW = 0.5, 0.03
# A map has no share unless it errs less than this at points that are held out; below this error
# interpolation proves nothing.
_VETO, _VETO_FLOOR = 0.8, 0.05
# From this part on it is no fit either, for a frame without points to hold.
_NO_FIT = 3.0
# Its error among the points proves little beyond them, where it must be below this part.
_BEYOND = 0.6
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
# Mean number of points within the radius above which pairs are too many.
_DENSEST = 30


@dataclass(frozen=True)
class ScoredPoints:
    """
    The candidates of points and image, scored before there is any map.

    Of the points of the frame, ``given``, those that ``sound`` (M,) bool selects are used,
    ``sparse``.
    """

    given: SparseDepth
    sound: np.ndarray
    sparse: SparseDepth
    candidates: Candidates


@dataclass(frozen=True)
class ScoredCandidates:
    """The candidates of points, image and map; ``fitted`` is the map, None without a fit."""

    points: ScoredPoints
    fitted: MapCandidate | None
    channels: np.ndarray  # (17, rows, columns), see `fusion_channels`

    @cached_property
    def errors(self) -> tuple[float, float]:
        """Mean relative errors of map and interpolation at points held out; 0 if not known."""
        of_map = np.array([]) if self.fitted is None else self.fitted.held_out
        of_points = self.points.candidates.held_out
        return relative_error(of_map, np.mean), relative_error(of_points, np.mean)

    @property
    def is_map_scored(self) -> bool:
        """Whether the map's error is known at any point that was held out."""
        return self.fitted is not None and bool(np.isfinite(self.fitted.held_out).any())

    @property
    def map_error(self) -> float:
        """The map's error as a part of interpolation's, of which little proves nothing."""
        of_map, of_points = self.errors
        return of_map / max(of_points, _VETO_FLOOR)


def score_points(
    sparse: SparseDepth, rgb: np.ndarray | None, shape: tuple[int, int]
) -> ScoredPoints:
    """
    Score what points and an image (H, W, 3) uint8 of ``shape`` (H, W), or None, give.

    ``sparse`` has at least one point, all of positive depth.
    """
    return _scored(sparse, sound_points(sparse.u, sparse.v, sparse.z), rgb, shape)


def score_map(
    points: ScoredPoints, rgb: np.ndarray | None, fit: Alignment | None
) -> ScoredCandidates:
    """
    Add a fitted map.

    ``fit`` counts if its state is ``fitted`` and it was scored at the points given. A good map
    that contradicts some of them leaves them out.
    """
    if fit is None or fit.state != 'fitted' or fit.metric is None:
        return _with_map(points, None, None)
    given = points.given
    held_out = np.full(len(given), np.nan) if fit.held_out is None else fit.held_out
    scored = _with_map(points, fit.metric, held_out)
    of_map, of_points = scored.errors
    if scored.is_map_scored and of_map < _GOOD_MAP * of_points:
        contradicted = points.sound & ~consistent_points(given.u, given.v, held_out)
        if np.count_nonzero(contradicted) > _FEW * len(given):
            shape = points.candidates.grid.shape
            points = _scored(given, points.sound & ~contradicted, rgb, shape)
            return _with_map(points, fit.metric, held_out)
    return scored


def judge_map(scored: ScoredCandidates) -> tuple[ScoredCandidates, Reason | None]:
    """Return the candidates, without a map that gains nothing at held-out points, and why."""
    if scored.fitted is None or scored.map_error <= _BEYOND:
        return scored, None
    if scored.map_error <= _VETO:
        return _without_map_at(scored, ~scored.points.candidates.inside), None
    of_map, of_points = scored.errors
    refusal = Reason('map_gains_nothing', {'of_map': of_map, 'of_points': of_points})
    return without_map(scored), refusal


def is_map_contradicted(scored: ScoredCandidates) -> bool:
    """Return whether the map errs three times as much as interpolation at held-out points."""
    return scored.map_error > _NO_FIT


def relative_error(ratio: np.ndarray, combine: Callable[[np.ndarray], Any]) -> float:
    """Combine absolute log ratios (M,), of which some are NaN, to a relative error."""
    known = np.minimum(np.abs(ratio[np.isfinite(ratio)]), LARGEST_LOG_RATIO)
    return float(np.expm1(combine(known))) if len(known) else 0.0


def without_map(scored: ScoredCandidates) -> ScoredCandidates:
    """Return the candidates of points and image alone."""
    return replace(_without_map_at(scored, slice(None)), fitted=None)


def _scored(
    sparse: SparseDepth, sound: np.ndarray, rgb: np.ndarray | None, shape: tuple[int, int]
) -> ScoredPoints:
    known = sparse.chosen(sound)
    fold = checkerboard_fold(known.u, known.v, shape)
    candidates = point_candidates(known, fold, rgb, work_grid(shape))
    return ScoredPoints(sparse, sound, known, candidates)


def _with_map(
    points: ScoredPoints, metric: np.ndarray | None, held_out: np.ndarray | None
) -> ScoredCandidates:
    """Add a map (H, W), metres, with its held-out log ratios at all points given (M,)."""
    fitted = None
    if metric is not None and held_out is not None:
        log_map = log_depth_on_grid(metric, points.candidates.linear)
        fitted = MapCandidate(log_map, held_out[points.sound])
    channels = network_input(points.candidates, points.sparse, fitted)
    return ScoredCandidates(points, fitted, channels)


def _without_map_at(scored: ScoredCandidates, cells: np.ndarray | slice) -> ScoredCandidates:
    channels = scored.channels.copy()
    for name in ('map', 'has_map', 'map_proof'):
        channels[CHANNELS.index(name)][cells] = 0.0
    return replace(scored, channels=channels)


def sound_points(u: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
    """
    Select the points (M,) that agree with their neighbours in the image; (M,) bool.

    Pixels ``u``, ``v`` and depth ``z`` in metres, positive. All are selected where fewer are
    doubtful than a clean scan may have, or where there are no more than eight.
    """
    count = len(z)
    if count <= _NEIGHBOURS:
        return np.ones(count, dtype=bool)
    from scipy.spatial import cKDTree

    log_depth = np.log(z)
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
