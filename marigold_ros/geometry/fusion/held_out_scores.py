# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The candidates of one frame with their scores at held-out points: who has earned a share.

Whoever has a share has proved it at points that nothing of it saw: in tiles among the points, at
their border beyond them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.fusion_channels import CHANNELS, level_of, OF_MAP
from marigold_ros.geometry.alignment.affine_fit import weighted_line
from marigold_ros.geometry.alignment.local_field import (
    checkerboard_fold,
    consistent_points,
    median_gap,
    REJECT_LOG,
)
from marigold_ros.geometry.fusion.candidates import (
    Candidates,
    GridPoints,
    point_candidates,
    points_on_grid,
)
from marigold_ros.geometry.fusion.interpolation import nearest_points
from marigold_ros.geometry.fusion.mixing import (
    LARGEST_LOG_RATIO,
    log_depth_on_grid,
    MapCandidate,
    network_input,
)
from marigold_ros.geometry.fusion.sound_points import sound_of_sources
from marigold_ros.geometry.fusion.work_grid import cells_needed, work_grid, WorkGrid
from marigold_ros.reasons import Reason
import numpy as np

# Limits on the error of a map as parts of interpolation's, chosen on the data of docs/fusion.md.
# A map that errs less than this judges single points, too; a few that it contradicts may be things
# that it does not show.
_GOOD_MAP, _FEW = 0.5, 0.03
# Share of the points from which on those that are sound are as far apart as all.
_NEARLY_ALL = 0.95
# Part of interpolation's error below which a map has a share among the points.
_GAINS = 0.6
# Beyond them its weight falls with the fourth power of its error over the nearest point's, times
# that over interpolation's among them, and that over a part of the deviation in blocks of points:
# maps of another scene leave .6 to 1 of it. Standard errors are added, as neighbours err alike;
# below the least weight it has no share, above the most depth without it has none.
_STEEPNESS, _UNEXPLAINED, _MARGIN = 4.0, 0.55, 3.0
_LEAST_WEIGHT, _MOST_WEIGHT = 0.3, 0.7
# Share of the image that points surround, from which what is beyond them is not worth a map.
_ALL_OVER = 0.98
# Added to the log error of the nearest point beyond the points, for what no border shows.
_UNSEEN = 0.06
# From this part on, of at least this error, it is no fit for a frame without points to hold.
_NO_FIT, _NO_FIT_LEAST = 3.0, 0.05
_EXACT = 1e-9  # as an error
# Powers of depth that are affine in a map of these spaces; 'log' is in its logarithm.
_POWER_OF_SPACE = {'depth': 1.0, 'disparity': -1.0}
# Points from which scale and shift are fitted anew.
_FEWEST_IN_FIT = 5
# Blocks of columns with as many points each, of which each is held out; points that are used.
_BLOCKS, _IN_BLOCKS = 4, 4000


@dataclass(frozen=True)
class ChosenPoints:
    """The points of a frame, ``given``, and on a grid those that are used, ``sparse``."""

    given: SparseDepth
    sound: np.ndarray  # (M,) bool, of those given the used ones
    sparse: SparseDepth
    on_grid: GridPoints

    def scored(self, candidates: Candidates) -> ScoredPoints:
        """Return the points with their candidates."""
        return ScoredPoints(**vars(self), candidates=candidates)


@dataclass(frozen=True)
class ScoredPoints(ChosenPoints):
    """The points with the candidates of them and the image, scored before there is any map."""

    candidates: Candidates


@dataclass(frozen=True)
class ScoredCandidates:
    """The candidates of points, image and map; ``fitted`` is the map, None without a fit."""

    points: ScoredPoints
    fitted: MapCandidate | None
    channels: np.ndarray  # (18, rows, columns), see `fusion_channels`
    saw_points: bool = False  # of the map, as of its Alignment
    map_weight: float = 1.0  # of the map beyond the points, against depth without it

    @cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Errors of log depth of map and interpolation, (n,) each, where both are known."""
        return self._errors('held_out', self.points.candidates.held_out)

    @cached_property
    def held_border(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of map and nearest point, at the border."""
        return self._errors('held_border', self.points.candidates.held_border)

    @cached_property
    def held_blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of map and median of all points, in blocks of columns."""
        z = self.points.sparse.z
        known = np.isfinite(getattr(self.fitted, 'held_blocks', np.full(len(z), np.nan)))
        log_depth = np.log(z, out=np.full_like(z, np.nan), where=known)
        return self._errors('held_blocks', log_depth - level_of(self.channels))

    @property
    def errors(self) -> tuple[float, float]:
        """Mean relative errors of map and interpolation at points held out; 0 if not known."""
        of_map, of_points = self.held_out
        return relative_error(of_map, np.mean), relative_error(of_points, np.mean)

    def _errors(self, name: str, of_points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_points = np.abs(of_points)
        of_map = np.abs(getattr(self.fitted, name, np.full(len(of_points), np.nan)))
        both = np.isfinite(of_map + of_points)
        most = LARGEST_LOG_RATIO
        return np.minimum(of_map[both], most), np.minimum(of_points[both], most)


def score_points(
    sparse: SparseDepth,
    rgb: np.ndarray | None,
    shape: tuple[int, int],
    cells: int | None = None,
) -> ScoredPoints:
    """
    Score what points and an image (H, W, 3) uint8 of ``shape`` (H, W), or None, give.

    ``sparse`` has at least one point, of positive depth; ``cells`` None are those it needs. Raises
    AlignmentError if a point lies outside of the image.
    """
    chosen = choose_points(sparse, shape, cells)
    return chosen.scored(point_candidates(chosen.on_grid, rgb))


def choose_points(
    sparse: SparseDepth, shape: tuple[int, int], cells: int | None = None
) -> ChosenPoints:
    """
    Choose the sound points and their grid; arguments as of `score_points`.

    Raises AlignmentError if a point lies outside of the image.
    """
    sparse.require_inside(shape)  # compiled functions do not look
    spacing = median_gap(sparse.u, sparse.v, shape, among=True)
    grid = work_grid(shape, cells or cells_needed(len(sparse), spacing[0], shape))
    sound = sound_of_sources(sparse, grid)
    return _chosen(sparse, sound, grid, spacing if sound.mean() > _NEARLY_ALL else None)


def score_map(
    points: ScoredPoints, rgb: np.ndarray | None, fit: Alignment | None
) -> ScoredCandidates:
    """
    Add a fitted map.

    ``fit`` counts if its state is ``fitted`` and it was scored at the points given. A good map
    that contradicts some of them leaves them out, unless it gains nothing at the others.
    """
    if fit is None or fit.state != 'fitted' or fit.metric is None:
        channels = network_input(points.candidates, points.sparse, None)
        return ScoredCandidates(points, None, channels)
    given = points.given
    held_out = np.full(len(given), np.nan) if fit.held_out is None else fit.held_out
    scored = _with_map(points, fit, held_out)
    known, (of_map, of_points) = np.isfinite(held_out), scored.errors
    if known.any() and of_map < _GOOD_MAP * of_points:
        contradicted = points.sound & known & ~consistent_points(given.u, given.v, held_out)
        sound = points.sound & ~contradicted
        if np.count_nonzero(contradicted) > _FEW * np.count_nonzero(known) and sound.any():
            agreeing = _chosen(given, sound, points.candidates.grid)
            again = agreeing.scored(point_candidates(agreeing.on_grid, rgb))
            of_agreeing = _with_map(again, fit, held_out)
            if _gains(*of_agreeing.held_out):
                return of_agreeing
    return scored


def judge_map(scored: ScoredCandidates) -> tuple[ScoredCandidates, Reason | None]:
    """
    Return the candidates with the map where it gains at held-out points, and why nowhere.

    Among the points it gains or not, by tiles of them. Beyond them it has a weight, by its error
    at their border over that of the nearest point. The latter grows with the distance, that of a
    map does not; but a border can be met by chance, and a single line has none, so that what a map
    errs among the points, and in blocks of them that it was not fitted to, counts as well. Of a
    map that saw points, those of the border are judged while it knows others of the border, and
    the nearest point does not: they can refute it only.
    """
    if scored.fitted is None:
        return scored, None
    among = _gains(*scored.held_out)
    inside = scored.points.candidates.inside
    unproved = scored.saw_points and not among
    weight = 0.0 if unproved or inside.mean() > _ALL_OVER else _weight_beyond(scored)
    if not among and not weight:
        return without_map(scored), no_gain(scored)
    proved = without_map(scored, ~np.where(inside, among, weight > 0.0))
    return replace(proved, map_weight=weight), None


def _weight_beyond(scored: ScoredCandidates) -> float:
    """Return the weight of the map beyond the points, 0 to 1."""
    among, of_points = scored.held_out
    in_blocks, deviation = scored.held_blocks
    at_border, of_nearest = scored.held_border
    if min(len(among), len(in_blocks)) < 2:
        return 0.0
    foretold = max(_UNEXPLAINED * deviation.mean(), _EXACT)
    expected, other = in_blocks, foretold
    if len(at_border) > 1:
        expected, other = at_border, scored.points.candidates.farther * of_nearest.mean()
    part = _at_most(among) / max(of_points.mean(), _EXACT)
    part *= in_blocks.mean() / foretold
    weight = 1.0 / (1.0 + (part * _at_most(expected) / (other + _UNSEEN)) ** _STEEPNESS)
    return float(weight) if _LEAST_WEIGHT < weight < _MOST_WEIGHT else float(weight > 0.5)


def _at_most(errors: np.ndarray) -> float:
    """Return what the mean of errors (n,) is not above, with some certainty."""
    return float(errors.mean() + _MARGIN * errors.std(ddof=1) / np.sqrt(len(errors)))


def _gains(of_map: np.ndarray, of_points: np.ndarray) -> bool:
    """Whether the mean error of a map is below a part of the points', by a standard error."""
    if len(of_map) < 2:
        return False
    excess = of_map - _GAINS * of_points
    return bool(excess.mean() + excess.std(ddof=1) / np.sqrt(len(excess)) < 0.0)


def no_gain(scored: ScoredCandidates) -> Reason:
    """Return that the map gains nothing, with the errors of map and interpolation."""
    of_map, of_points = scored.errors
    return Reason('map_gains_nothing', {'of_map': of_map, 'of_points': of_points})


def is_map_contradicted(scored: ScoredCandidates) -> bool:
    """Return whether a map that errs much errs three times as much as interpolation."""
    of_map, of_points = scored.errors
    return of_map > _NO_FIT * max(of_points, _NO_FIT_LEAST)


def relative_error(ratio: np.ndarray, combine: Callable[[np.ndarray], Any]) -> float:
    """Combine absolute log ratios (M,), of which some are NaN, to a relative error."""
    known = np.minimum(np.abs(ratio[np.isfinite(ratio)]), LARGEST_LOG_RATIO)
    return float(np.expm1(combine(known))) if len(known) else 0.0


def without_map(scored: ScoredCandidates, cells: np.ndarray | None = None) -> ScoredCandidates:
    """Return the candidates without the map, or without it at cells (rows, columns) bool."""
    channels = scored.channels.copy()
    for name in OF_MAP:
        channels[CHANNELS.index(name)][... if cells is None else cells] = 0.0
    return replace(scored, channels=channels, fitted=None if cells is None else scored.fitted)


def _chosen(
    sparse: SparseDepth,
    sound: np.ndarray,
    grid: WorkGrid,
    spacing: tuple[float, float] | None = None,
) -> ChosenPoints:
    known = sparse.chosen(sound)
    fold = checkerboard_fold(known.u, known.v, grid.shape, among=True, spacing=spacing)
    return ChosenPoints(sparse, sound, known, points_on_grid(known, fold, grid))


def _with_map(points: ScoredPoints, fit: Alignment, held_out: np.ndarray) -> ScoredCandidates:
    """Add a fitted map with its held-out log ratios at all points given (M,)."""
    assert fit.metric is not None
    candidates, known = points.candidates, points.sparse
    log_map = log_depth_on_grid(fit.metric, candidates.linear)
    affine = log_map
    if fit.field is not None:
        affine = log_map - np.log(candidates.grid.refine(fit.field))
    held_out = held_out[points.sound]
    if fit.saw_points:
        held_border = np.where(candidates.border, held_out, np.nan)
        held_blocks = held_out
    else:
        fitted = affine[candidates.grid.cell_of(known.u, known.v)].astype(np.float64)
        held_border = _held_border(fitted, fit.space, known, candidates)
        held_blocks = _held_blocks(fitted, fit.space, known)
    of_map = MapCandidate(log_map, affine, held_out, held_border, held_blocks)
    channels = network_input(candidates, known, of_map)
    return ScoredCandidates(points, of_map, channels, fit.saw_points)


def _held_border(
    fitted: np.ndarray, space: str, points: SparseDepth, candidates: Candidates
) -> np.ndarray:
    """
    Log ratio (M,) of points at the border to a map fitted to the others; NaN elsewhere.

    ``fitted`` (M,) is log depth by scale and shift of all points. What the nearest of the others
    misses is added, as the correction field does.
    """
    border, grid = candidates.border, candidates.grid.halved()
    ratio = np.full(len(points), np.nan)
    if not border.any():
        return ratio
    missed, used = _missed(fitted, space, np.log(points.z.astype(np.float64)), border)
    if used.any():
        mean, count = grid.mean_in_cells(points.u[used], points.v[used], missed[used])
        nearest = nearest_points(count).spread(mean)
        missed[border] -= nearest[grid.cell_of(points.u[border], points.v[border])]
    ratio[border] = missed[border]
    return ratio


def _held_blocks(fitted: np.ndarray, space: str, points: SparseDepth) -> np.ndarray:
    """
    Log ratio (M,) of points in each block of columns to a map fitted to the others.

    ``fitted`` (M,) as of `_held_border`; NaN where the others are too few, and at points of many
    that are left out.
    """
    ratio = np.full(len(points), np.nan)
    some = np.arange(0, len(points), max(1, len(points) // _IN_BLOCKS))
    fitted, u = fitted[some], points.u[some]
    log_depth = np.log(points.z[some].astype(np.float64))
    block = np.searchsorted(np.quantile(u, np.arange(1, _BLOCKS) / _BLOCKS), u)
    for left_out in (block == number for number in range(_BLOCKS)):
        missed, used = _missed(fitted, space, log_depth, left_out)
        if np.count_nonzero(used) >= _FEWEST_IN_FIT:
            ratio[some[left_out]] = missed[left_out]
    return ratio


def _missed(
    fitted: np.ndarray, space: str, log_depth: np.ndarray, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return what a map misses, fitted to points that are not left out, and which it used, (M,) each.

    ``fitted`` (M,) is log depth by scale and shift of all points.
    """
    used = ~left_out & (np.abs(log_depth - fitted) < REJECT_LOG)
    if space != 'metric' and np.count_nonzero(used) >= _FEWEST_IN_FIT:
        fitted = _refitted(fitted, log_depth, used, _POWER_OF_SPACE.get(space))
    return log_depth - fitted, used


def _refitted(
    fitted: np.ndarray, log_depth: np.ndarray, used: np.ndarray, power: float | None
) -> np.ndarray:
    """
    Log depth (M,) by scale and shift of the points that are used, of a map fitted to all of them.

    Least squares in the space of the map, weighted so that relative errors count.
    """
    if power is None:
        x, target, weight = fitted, log_depth, np.ones(len(fitted))
    else:
        x, target = np.exp(power * fitted), np.exp(power * log_depth)
        weight = 1.0 / target
    slope, offset = weighted_line(x[used], target[used], np.square(weight[used]))
    again = slope * x + offset
    if power is None:
        return np.asarray(again)
    return np.log(np.maximum(again, target * np.exp(-LARGEST_LOG_RATIO))) / power
