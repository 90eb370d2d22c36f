# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What one frame offers to fusion: sound points, candidates, and the input of the network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.fusion_channels import CHANNELS
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, consistent_points
from marigold_ros.geometry.fusion.candidates import Candidates, point_candidates
from marigold_ros.geometry.fusion.network_input import (
    log_depth_on_grid,
    MapCandidate,
    network_input,
)
from marigold_ros.geometry.fusion.sound_points import sound_points
from marigold_ros.geometry.fusion.work_grid import work_grid
import numpy as np

# A map that errs less than this part of what interpolation does judges single points, too; a few
# that it contradicts may be things that it does not show.
_GOOD_MAP, _FEW = 0.5, 0.03
# A map has no share unless it errs less than this part of what interpolation does at points that
# are held out; below this error interpolation proves nothing.
_VETO, _VETO_FLOOR = 0.8, 0.05
# From this part on it is no fit either, for a frame without points to hold.
_NO_FIT = 3.0
# Its error among the points proves little beyond them, where it must be below this part.
_BEYOND = 0.6
# Log ratio that counts at most, so that a single outlier decides nothing.
_LARGEST = 1.5


@dataclass(frozen=True)
class PointEvidence:
    """
    What points and image say before any map.

    Of the points of the frame, ``given``, those that ``sound`` (M,) bool selects are used,
    ``sparse``.
    """

    given: SparseDepth
    sound: np.ndarray
    sparse: SparseDepth
    candidates: Candidates


@dataclass(frozen=True)
class Evidence:
    """What points, image and map of one frame say; ``fitted`` is the map, None without a fit."""

    points: PointEvidence
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


def gather_points(
    sparse: SparseDepth, rgb: np.ndarray | None, shape: tuple[int, int]
) -> PointEvidence:
    """
    Gather what points and an image (H, W, 3) uint8 of ``shape`` (H, W), or None, say.

    ``sparse`` has at least one point, all of positive depth.
    """
    return _gather(sparse, sound_points(sparse.u, sparse.v, sparse.z), rgb, shape)


def gather_evidence(
    points: PointEvidence, rgb: np.ndarray | None, fit: Alignment | None
) -> Evidence:
    """
    Add what a fitted map says.

    ``fit`` counts if its state is ``fitted`` and it was scored at the points given. A good map
    that contradicts some of them leaves them out.
    """
    evidence = _with_map(points, fit)
    if not evidence.is_map_scored:
        return evidence
    assert fit is not None
    assert fit.held_out is not None
    of_map, of_points = evidence.errors
    if of_map < _GOOD_MAP * of_points:
        given = points.given
        contradicted = points.sound & ~consistent_points(given.u, given.v, fit.held_out)
        if np.count_nonzero(contradicted) > _FEW * len(given):
            shape = points.candidates.grid.shape
            return _with_map(_gather(given, points.sound & ~contradicted, rgb, shape), fit)
    return evidence


def _gather(
    sparse: SparseDepth, sound: np.ndarray, rgb: np.ndarray | None, shape: tuple[int, int]
) -> PointEvidence:
    known = sparse.chosen(sound)
    fold = checkerboard_fold(known.u, known.v, shape)
    candidates = point_candidates(known, fold, rgb, work_grid(shape))
    return PointEvidence(sparse, sound, known, candidates)


def _with_map(points: PointEvidence, fit: Alignment | None) -> Evidence:
    fitted = None
    if fit is not None and fit.state == 'fitted' and fit.metric is not None:
        held_out = np.full(len(points.given), np.nan) if fit.held_out is None else fit.held_out
        log_map = log_depth_on_grid(fit.metric, points.candidates.linear)
        fitted = MapCandidate(log_map, held_out[points.sound])
    return Evidence(points, fitted, network_input(points.candidates, points.sparse, fitted))


def judge_map(evidence: Evidence) -> tuple[Evidence, str]:
    """Return the evidence, without a map that gains nothing at held-out points, and why or ''."""
    if evidence.fitted is None:
        return evidence, ''
    if evidence.map_error <= _BEYOND:
        return evidence, ''
    if evidence.map_error <= _VETO:
        return _without_map_at(evidence, ~evidence.points.candidates.inside), ''
    of_map, of_points = evidence.errors
    return without_map(evidence), (
        f'at points held out the map errs by {of_map:.0%}, interpolation by {of_points:.0%}'
    )


def is_map_contradicted(evidence: Evidence) -> bool:
    """Return whether the map errs three times as much as interpolation at held-out points."""
    return evidence.map_error > _NO_FIT


def relative_error(ratio: np.ndarray, combine: Callable[[np.ndarray], Any]) -> float:
    """Combine absolute log ratios (M,), of which some are NaN, to a relative error."""
    known = np.minimum(np.abs(ratio[np.isfinite(ratio)]), _LARGEST)
    return float(np.expm1(combine(known))) if len(known) else 0.0


def without_map(evidence: Evidence) -> Evidence:
    """Return the evidence of points and image alone."""
    return replace(_without_map_at(evidence, slice(None)), fitted=None)


def _without_map_at(evidence: Evidence, cells: np.ndarray | slice) -> Evidence:
    channels = evidence.channels.copy()
    for name in ('map', 'has_map', 'map_proof'):
        channels[CHANNELS.index(name)][cells] = 0.0
    return replace(evidence, channels=channels)
