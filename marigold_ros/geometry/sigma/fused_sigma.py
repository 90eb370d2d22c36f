# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One standard deviation of metric depth, and what it says of depth that is held.

Methods that do not state it count their errors at held-out points, see ``counted_errors``.
Fusion states it, and in some frames half of the points, in tiles, and those at the border are
predicted from the others on a coarser grid: errors over the sigma stated there are counted by that
depth, among and beyond the points, older frames less, and the 68.3 % quantile of a range is the
factor of sigma in it (conformal prediction).
"""

from dataclasses import dataclass, replace
from functools import partial

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import (
    fit_target,
    fitted_depth,
    log_ratio,
    ONE_SIGMA,
    weighted_line,
)
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, median_gap
from marigold_ros.geometry.around_points import hull_of
from marigold_ros.geometry.blas_threads import one_blas_thread
from marigold_ros.geometry.fusion.candidates import border_points, point_candidates, points_on_grid
from marigold_ros.geometry.fusion.fuse import FusionGuide
from marigold_ros.geometry.fusion.interpolation import nearest_points
from marigold_ros.geometry.fusion.mixing import mix, network_input
from marigold_ros.geometry.fusion.work_grid import cells_needed, work_grid, WorkGrid
from marigold_ros.geometry.sigma.counted_errors import count_errors, ErrorCounts, sigma_map
from marigold_ros.geometry.sigma.unseen import widen_unseen
from marigold_ros.kernels.compiled import compiled
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import Reason
from marigold_ros.threads import side_by_side
import numpy as np

# Depths in metres in the middle of the ranges; between them the factor is interpolated.
_DEPTHS = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
_EDGES = np.sqrt(np.multiply(_DEPTHS[1:], _DEPTHS[:-1]))
# Errors over sigma are counted on a logarithmic scale.
_RATIOS = np.geomspace(0.02, 50.0, 69)
# One frame in so many is scored; what it says decays by this factor with each further one.
_EVERY, _FORGETTING = 6, 0.8
# Points that all ranges together count for as the prior of one.
_PRIOR_POINTS = 50.0
# The grid is coarser than that of the frame by this factor in cells.
_COARSER = 2
_FEWEST = 20
# Points form lines if their neighbours in a band of rows are closer than so many median gaps, and
# most pixels are empty; lines lie four such gaps apart.
_BAND, _CLOSE, _LINES, _FROM_LINE = 3, 1.2, 0.5, 4.0
# Factors are in a table by the upper bits of depth as float32: 128 steps an octave.
_SHIFT = 16
_FIRST, _LAST = (
    int(np.float32(depth).view(np.int32)) >> _SHIFT for depth in (_DEPTHS[0], _DEPTHS[-1])
)
_STEPS = np.arange(_FIRST, _LAST + 1, dtype=np.int32) << _SHIFT
_LOGS = np.log((_STEPS + (1 << (_SHIFT - 1))).view(np.float32))  # in the middle of each
# Points that may refuse a held depth, and by how many sigma it may be off at them in the median.
_JUDGES, _CONTRADICTED_SIGMA = 5, 3.0


@dataclass(frozen=True)
class SigmaScale:
    """Counts of errors over sigma (2, ranges, steps), among and beyond; and the frames so far."""

    counts: np.ndarray
    frames: int = 1

    @property
    def is_turn(self) -> bool:
        """Whether the next frame is scored, which takes as long as fusing it."""
        return self.frames % _EVERY == 0


@dataclass(frozen=True)
class SigmaHistory:
    """What frames leave to the sigma of later ones: errors of fits, errors of fused depth."""

    errors: ErrorCounts | None = None
    scale: SigmaScale | None = None


@dataclass(frozen=True)
class StatedDepth:
    """Metric depth with its sigma (H, W), metres, None where unknown; and the history after it."""

    alignment: Alignment
    sigma: np.ndarray | None
    history: SigmaHistory


def state_sigma(
    alignment: Alignment,
    prediction: Prediction,
    sparse: SparseDepth | None,
    guide: FusionGuide,
    config: AlignmentConfig,
    before: SigmaHistory,
) -> StatedDepth:
    """
    State the sigma of an alignment, by the errors of this frame and of those before.

    ``prediction`` is the one that was aligned, ``guide`` is the image with the network of method
    ``fused``. Of fused depth only the first frame is scored here: `score_sigma` of later ones can
    wait until they are published.
    """
    if alignment.sigma is None or alignment.metric is None:
        errors = count_errors(before.errors, prediction, sparse, alignment, config)
        sigma = sigma_map(errors, prediction, alignment, config, sparse)
        return StatedDepth(alignment, sigma, replace(before, errors=errors))
    if alignment.state == 'held':  # with the sigma of the previous depth
        aged = np.float32(config.hold_growth * alignment.age_ns / 1e9)
        sigma = np.hypot(alignment.sigma, aged * alignment.metric)
        return StatedDepth(alignment, sigma, before)
    scale = before.scale or score_sigma(None, alignment, sparse, guide)
    scaled = with_scaled_sigma(alignment, scale, sparse)
    return StatedDepth(scaled, scaled.sigma, replace(before, scale=scale))


def widen_sigma(
    sigma: np.ndarray | None,
    prediction: Prediction,
    alignment: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    dispute: float = 0.0,
) -> np.ndarray | None:
    """
    Widen sigma, (H, W) metres, by what held-out points cannot show of the kind of points.

    That is the tilt of the camera against the ground, what the sensor could not see, and
    ``dispute``, the relative difference between sources that disagree.
    """
    if sigma is None or sparse is None or alignment.state != 'fitted':
        return sigma
    if sparse.kind is PointKind.GROUND:
        return _with_pitch_error(sigma, prediction, alignment, sparse, config)
    sigma = widen_unseen(sigma, alignment, sparse)
    if dispute and alignment.metric is not None:
        sigma = np.hypot(sigma, np.float32(dispute) * alignment.metric)
    return sigma


def judge_held(
    alignment: Alignment,
    sigma: np.ndarray | None,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
) -> Alignment:
    """
    Refuse a held depth that the frame's own points, too few for a fit, contradict.

    ``sigma`` (H, W) is that of the held depth, metres. Only for method ``fused``.
    """
    if config.method != 'fused' or alignment.state != 'held' or sparse is None:
        return alignment
    if not sparse.kind.is_placed or alignment.metric is None or sigma is None:
        return alignment
    at = sparse.v, sparse.u
    of_points = 0.0 if sparse.sigma is None else sparse.sigma
    with np.errstate(invalid='ignore'):
        off = np.abs(sparse.z - alignment.metric[at]) / np.hypot(sigma[at], of_points)
    off = off[np.isfinite(off)]
    if len(off) < _JUDGES or np.median(off) <= _CONTRADICTED_SIGMA:
        return alignment
    contradicted = Reason('held_depth_off', {'sigmas': np.median(off), 'points': len(off)})
    return Alignment(
        refusal=alignment.refusal,
        hold_refusal=contradicted,
        space=alignment.space,
        n_points=len(sparse),
    )


@one_blas_thread()
def score_sigma(
    before: SigmaScale | None,
    alignment: Alignment,
    sparse: SparseDepth | None,
    guide: FusionGuide,
) -> SigmaScale | None:
    """
    Score sigma at held-out points of a frame that was fused, if it is its turn.

    ``before`` is None after a reset. Returns ``before`` for other frames, and None until a frame
    had enough points.
    """
    if sparse is None or alignment.inlier is None or alignment.sigma is None:
        return before
    few = np.count_nonzero(alignment.inlier) < 2 * _FEWEST
    if before is not None and (few or not before.is_turn):
        return replace(before, frames=before.frames + 1)
    if few:
        return None
    points, shape = sparse.chosen(alignment.inlier), guide.shape
    spacing = median_gap(points.u, points.v, shape, among=True)
    grid = work_grid(shape, cells_needed(len(points), spacing[0], shape) // _COARSER)
    tiles = tiles_or_lines(points.u, points.v, shape, spacing)
    _, count = grid.mean_in_cells(points.u, points.v, points.z)
    distance = nearest_points(count).distance
    border = border_points(points.u, points.v, hull_of(count), distance, grid)
    new = np.zeros((2, len(_DEPTHS), len(_RATIOS) + 1))
    counts = new if before is None else before.counts.copy()
    # The first frame of a stream scores both parts, later ones in turns.
    turn = None if before is None else before.frames // _EVERY % 2
    held_out = {
        part: scored
        for part, scored in enumerate((tiles, border))
        if part != turn and min(np.count_nonzero(scored), np.count_nonzero(~scored)) >= _FEWEST
    }
    ratios = side_by_side(
        [partial(_held_out_ratios, points, scored, guide, grid) for scored in held_out.values()]
    )
    for part, (z, ratio) in zip(held_out, ratios, strict=True):
        counts[part] *= _FORGETTING
        place = np.searchsorted(_EDGES, z), np.searchsorted(_RATIOS, ratio)
        np.add.at(counts[part], place, 1.0)
    if not counts.any():
        return before
    return SigmaScale(counts, 1 if before is None else before.frames + 1)


def tiles_or_lines(
    u: np.ndarray, v: np.ndarray, shape: tuple[int, int], spacing: tuple[float, float]
) -> np.ndarray:
    """
    Select half of the points (M,) to be held out, in tiles; of scan lines every other one.

    A line goes on beside its tiles, so that errors in them are smaller than those between lines.
    The first and the last line stay: of a few lines they are half, and beyond the others.
    ``spacing`` is the `median_gap` among the points.
    """
    gap, empty = spacing
    order = np.lexsort((u, v // _BAND))
    beside = np.diff(u[order])[np.diff(v[order] // _BAND) == 0]
    if empty > _LINES and len(beside) and np.median(beside) < _CLOSE * gap:
        line = v // (_FROM_LINE * gap)
        return (line % 2 == 1) & (line > line.min()) & (line < line.max())
    return checkerboard_fold(u, v, shape, among=True, spacing=spacing)


def with_scaled_sigma(
    alignment: Alignment, scale: SigmaScale | None, sparse: SparseDepth | None
) -> Alignment:
    """
    Multiply sigma of a fused alignment, if it has one, by the factor at its depth.

    Beyond the points of the frame sigma does not shrink, nor does the map's share of it: the
    factors are those of depth without a map. They say nothing of a metric map alone.
    """
    sigma, metric = alignment.sigma, alignment.metric
    of_map_alone = alignment.led_by == 'map' and alignment.map_share is None
    if sigma is None or metric is None or scale is None or of_map_alone:
        return alignment
    among, beyond = (np.interp(_LOGS, np.log(_DEPTHS), _factors(c)) for c in scale.counts)
    table = np.stack([among, np.maximum(beyond, 1.0)]).astype(np.float32)
    if sparse is None or alignment.inlier is None:
        inside = np.ones(metric.shape, bool)
    else:
        seen = np.zeros(metric.shape, bool)
        seen[sparse.v[alignment.inlier], sparse.u[alignment.inlier]] = True
        inside = hull_of(seen)
    depth = np.ascontiguousarray(metric, np.float32)
    flat = sigma.ravel(), depth.view(np.int32).ravel(), inside.ravel()
    scaled = _scaled(*flat, table).reshape(metric.shape)
    if alignment.map_share is not None:
        kept = cv2.resize(alignment.map_share, metric.shape[::-1], interpolation=cv2.INTER_LINEAR)
        kept *= np.maximum(sigma - scaled, np.float32(0.0))
        scaled += kept
    return replace(alignment, sigma=scaled)


@compiled()
def _scaled(
    sigma: np.ndarray, depth: np.ndarray, inside: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """Multiply sigma (n,) by the factor in a row of the table; depth (n,) as bits of float32."""
    scaled, last = np.empty_like(sigma), table.shape[1] - 1
    for i in range(len(sigma)):
        step = min(max((depth[i] >> _SHIFT) - _FIRST, 0), last)
        scaled[i] = sigma[i] * (table[0, step] if inside[i] else table[1, step])
    return scaled


def _factors(counts: np.ndarray) -> np.ndarray:
    """Quantile of each range of (ranges, steps), with all together as its prior; 1 of none."""
    everything = counts.sum(axis=0)
    if not everything.any():
        return np.ones(len(counts))
    share = counts + _PRIOR_POINTS * everything / everything.sum()
    cumulated = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=1)
    # Between the edges of the step in which it lies, or factors are half a step too large.
    logs = np.log(_RATIOS)
    return np.exp([np.interp(ONE_SIGMA, below, logs) for below in cumulated[:, :-1]])


def _held_out_ratios(
    points: SparseDepth, scored: np.ndarray, guide: FusionGuide, grid: WorkGrid
) -> tuple[np.ndarray, np.ndarray]:
    """
    Predict scored points (M,) bool from the others; return that depth, and errors over sigma.

    The depth is the predicted one, by which sigma is scaled.
    """
    known, held_out = points.chosen(~scored), points.chosen(scored)
    fold = checkerboard_fold(known.u, known.v, guide.shape, among=True)
    candidates = point_candidates(points_on_grid(known, fold, grid), guide.rgb)
    mixture = mix(network_input(candidates, known, None), guide.network)
    log_depth, log_error = (
        grid.sample(values, held_out.u, held_out.v)
        for values in (mixture.log_depth, mixture.log_error)
    )
    return np.exp(log_depth), np.abs(np.log(held_out.z) - log_depth) / np.exp(log_error)


def _with_pitch_error(
    sigma: np.ndarray,
    prediction: Prediction,
    alignment: Alignment,
    sparse: SparseDepth,
    config: AlignmentConfig,
) -> np.ndarray:
    """
    Add to sigma, (H, W) metres, what a camera tilted by one deviation changes in a fit to ground.

    All points err together then, farther ones more, so scale and shift err: the fit is repeated
    with the points of the tilted plane.
    """
    used, space = alignment.inlier, prediction.space
    if sparse.sigma is None or used is None or space == 'metric':
        return sigma
    relative = prediction.relative[sparse.v[used], sparse.u[used]].astype(np.float64)
    z, tilt = sparse.z[used].astype(np.float64), sparse.sigma[used].astype(np.float64)
    stated, noise = fit_target(z, space, config, tilt)
    lifted, _ = fit_target(z + tilt, space, config)
    weight = 1.0 / noise**2
    before, after = (
        fitted_depth(
            np.asarray(prediction.relative, np.float32),
            *weighted_line(relative, target, weight),
            space,
            config,
        )
        for target in (stated, lifted)
    )
    change = np.abs(log_ratio(after, before))
    with np.errstate(invalid='ignore'):
        return np.asarray(np.hypot(sigma, np.nan_to_num(change) * alignment.metric), np.float32)
