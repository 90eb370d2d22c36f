# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Calibrate the sigma of fused depth by points that are held out, in frames so far.

In some frames half of the points, in tiles, are predicted from the other half on a coarser grid.
Errors over the sigma stated there are counted by depth, older frames less; the 68.3 % quantile of
a range is the factor of sigma in it (conformal prediction).
"""

from dataclasses import dataclass, replace

import cv2
from marigold_ros.frame import Alignment, SparseDepth
from marigold_ros.geometry.alignment.fitted_depth import log_ratio
from marigold_ros.geometry.alignment.local_field import checkerboard_fold
from marigold_ros.geometry.fusion.candidates import point_candidates
from marigold_ros.geometry.fusion.mixing import FusionModel, mix
from marigold_ros.geometry.fusion.network_input import network_input
from marigold_ros.geometry.fusion.work_grid import work_grid
import numpy as np

_ONE_SIGMA = 0.6827
# Depths in metres in the middle of the ranges; between them the factor is interpolated.
_DEPTHS = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
_EDGES = np.sqrt(np.multiply(_DEPTHS[1:], _DEPTHS[:-1]))
# Errors over sigma are counted on a logarithmic scale.
_RATIOS = np.geomspace(0.02, 50.0, 69)
# One frame in so many is scored; what it says decays by this factor with each further one.
_EVERY, _FORGETTING = 4, 0.8
# Points that all ranges together count for as the prior of one.
_PRIOR_POINTS = 50.0
# The grid is coarser than that of the frame by this factor in cells.
_COARSER = 4
_FEWEST = 20
_TABLE = 512


@dataclass(frozen=True)
class SigmaScale:
    """Counts of errors over sigma by depth, (ranges, steps) float64, and the frames so far."""

    counts: np.ndarray
    frames: int = 1


def score_sigma(
    before: SigmaScale | None,
    alignment: Alignment,
    sparse: SparseDepth | None,
    rgb: np.ndarray,
    network: FusionModel | None,
) -> SigmaScale | None:
    """
    Score sigma at held-out points of a frame that was fused, if it is its turn.

    ``before`` is None after a reset. Returns ``before`` for other frames, and None until a frame
    had enough points.
    """
    if sparse is None or alignment.inlier is None or alignment.sigma is None:
        return before
    if before is not None and before.frames % _EVERY:
        return replace(before, frames=before.frames + 1)
    points = sparse.chosen(alignment.inlier)
    fold = checkerboard_fold(points.u, points.v, rgb.shape[:2])
    if min(np.count_nonzero(fold), np.count_nonzero(~fold)) < _FEWEST:
        return before
    fresh = np.zeros((len(_DEPTHS), len(_RATIOS) + 1))
    z, ratio = _held_out_ratios(points.chosen(fold), points.chosen(~fold), rgb, network)
    np.add.at(fresh, (np.searchsorted(_EDGES, z), np.searchsorted(_RATIOS, ratio)), 1.0)
    if before is None:
        return SigmaScale(fresh)
    return SigmaScale(_FORGETTING * before.counts + fresh, before.frames + 1)


def with_scaled_sigma(
    alignment: Alignment, scale: SigmaScale | None, sparse: SparseDepth | None
) -> Alignment:
    """
    Multiply sigma of a fused alignment, if it has one, by the factor at its depth.

    Beyond the points of the frame, of which held-out ones say nothing, sigma does not shrink.
    """
    sigma, metric = alignment.sigma, alignment.metric
    if sigma is None or metric is None or scale is None:
        return alignment
    # A table over log depth is faster than interpolation, and exact to a hundredth of an octave.
    low, high = np.log(_DEPTHS[0]), np.log(_DEPTHS[-1])
    places = np.linspace(low, high, _TABLE)
    table = np.interp(places, np.log(_DEPTHS), _factors(scale.counts)).astype(np.float32)
    with np.errstate(invalid='ignore', divide='ignore'):
        place = (np.log(metric) - np.float32(low)) * np.float32((_TABLE - 1) / (high - low))
    place = np.nan_to_num(np.clip(place, 0, _TABLE - 1)).astype(np.intp)
    factor = table[place]
    if sparse is not None and alignment.inlier is not None:
        beyond = _beyond(sparse.chosen(alignment.inlier), metric.shape)
        np.maximum(factor, np.float32(1.0), out=factor, where=beyond)
    return replace(alignment, sigma=sigma * factor)


def _beyond(points: SparseDepth, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels outside of the points' convex hull, (H, W) bool."""
    outside = np.ones(shape, np.uint8)
    if len(points):
        place = np.stack([points.u, points.v], axis=1).astype(np.int32)
        cv2.fillConvexPoly(outside, cv2.convexHull(place), 0)
    return outside > 0


def _factors(counts: np.ndarray) -> np.ndarray:
    """Quantile of each range, with all together as its prior."""
    everything = counts.sum(axis=0)
    share = counts + _PRIOR_POINTS * everything / everything.sum()
    cumulated = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=1)
    step = np.argmax(cumulated >= _ONE_SIGMA, axis=1)
    return _RATIOS[np.minimum(step, len(_RATIOS) - 1)]


def _held_out_ratios(
    known: SparseDepth, scored: SparseDepth, rgb: np.ndarray, network: FusionModel | None
) -> tuple[np.ndarray, np.ndarray]:
    """Predict points from others; return their depth, and errors over sigma, both (n,)."""
    shape = (rgb.shape[0], rgb.shape[1])
    grid = work_grid(shape, _COARSER)
    fold = checkerboard_fold(known.u, known.v, shape)
    candidates = point_candidates(known, fold, rgb, grid)
    mixture = mix(network_input(candidates, known, None), network)
    predicted = np.exp(grid.sample(mixture.log_depth, scored.u, scored.v))
    sigma = np.exp(grid.sample(mixture.log_error, scored.u, scored.v))
    return scored.z, np.abs(log_ratio(scored.z.astype(np.float64), predicted)) / sigma
