# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What one frame offers to fusion: sound points, candidates, and the input of the network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
_GOOD_MAP, _FEW = 0.5, 0.01
# A map has no share unless it errs less than this part of what interpolation does at points that
# are held out; below this error interpolation proves nothing.
_VETO, _VETO_FLOOR = 0.8, 0.05
# From this part on it is no fit either, for a frame without points to hold.
_CONTRADICTION = 3.0
# Its error among the points proves little beyond them, where it must be below this part.
_BEYOND = 0.6
# Log ratio that counts at most, so that a single outlier decides nothing.
_LARGEST = 1.5


@dataclass(frozen=True)
class Evidence:
    """
    Points, candidates and network input of one frame.

    ``sound`` (M,) bool are the points that were used, ``sparse``; ``fitted`` is the map, None if
    it has no fit.
    """

    sound: np.ndarray
    sparse: SparseDepth
    candidates: Candidates
    fitted: MapCandidate | None
    channels: np.ndarray  # (17, rows, columns), see `fusion_channels`


def gather_evidence(
    sparse: SparseDepth, rgb: np.ndarray | None, fit: Alignment | None, shape: tuple[int, int]
) -> Evidence:
    """
    Gather what points, image (H, W, 3) uint8 and a fitted map of ``shape`` (H, W) say.

    ``sparse`` has at least one point, all of positive depth; ``fit`` counts if its state is
    ``fitted`` and it was scored at these points. Image and map may be None.
    """
    sound = sound_points(sparse.u, sparse.v, sparse.z)
    evidence = _gather(sparse, sound, rgb, fit, shape)
    if evidence.fitted is None or fit is None or not np.isfinite(evidence.fitted.held_out).any():
        return evidence
    assert fit.held_out is not None
    of_map, of_points = _errors(evidence)
    if of_map < _GOOD_MAP * of_points:
        contradicted = sound & ~consistent_points(sparse.u, sparse.v, fit.held_out)
        if np.count_nonzero(contradicted) > _FEW * len(sparse):
            return _gather(sparse, sound & ~contradicted, rgb, fit, shape)
    return evidence


def _gather(
    sparse: SparseDepth,
    sound: np.ndarray,
    rgb: np.ndarray | None,
    fit: Alignment | None,
    shape: tuple[int, int],
) -> Evidence:
    """Gather the evidence of the sound points (M,) among ``sparse``."""
    known = SparseDepth(sparse.u[sound], sparse.v[sound], sparse.z[sound])
    fold = checkerboard_fold(known.u, known.v, shape)
    candidates = point_candidates(known, fold, rgb, work_grid(shape))
    fitted = None
    if fit is not None and fit.state == 'fitted' and fit.metric is not None:
        held_out = np.full(len(sparse), np.nan) if fit.held_out is None else fit.held_out
        log_map = log_depth_on_grid(fit.metric, candidates.linear)
        fitted = MapCandidate(log_map, held_out[sound])
    return Evidence(sound, known, candidates, fitted, network_input(candidates, known, fitted))


def judge_map(evidence: Evidence) -> tuple[Evidence, str]:
    """Return the evidence, without a map that gains nothing at held-out points, and why or ''."""
    if evidence.fitted is None:
        return evidence, ''
    of_map, of_points = _errors(evidence)
    part = of_map / max(of_points, _VETO_FLOOR)
    if part <= _BEYOND:
        return evidence, ''
    if part <= _VETO:
        return _without_map_at(evidence, ~evidence.candidates.inside), ''
    return without_map(evidence), (
        f'at points held out the map errs by {of_map:.0%}, interpolation by {of_points:.0%}'
    )


def is_map_contradicted(evidence: Evidence) -> bool:
    """Return whether the map errs three times as much as interpolation at held-out points."""
    if evidence.fitted is None:
        return False
    of_map, of_points = _errors(evidence)
    return of_map > _CONTRADICTION * max(of_points, _VETO_FLOOR)


def _errors(evidence: Evidence) -> tuple[float, float]:
    """Return the mean relative errors of map and interpolation at points that were held out."""
    assert evidence.fitted is not None
    both = (evidence.fitted.held_out, evidence.candidates.held_out)
    of_map, of_points = (relative_error(ratio, np.mean) for ratio in both)
    return of_map, of_points


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
