# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One standard deviation of metric depth at every pixel, by conformal prediction.

Relative errors at held-out points are counted in cells, older frames less; a pixel's sigma is the
68.3 % quantile of its cell, so coverage holds whatever the errors' distribution. Ensemble spread
and covariance of scale and shift leave each score before the quantile and are added behind it.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import (
    fit_target,
    fitted_depth,
    log_ratio,
    ONE_SIGMA,
)
from marigold_ros.geometry.alignment.local_field import checkerboard_fold, upsample_field
from marigold_ros.point_kinds import PointKind
import numpy as np

# Edges of the cells: distance as a share of the diagonal; relative change of depth across 3
# pixels of the working grid; the prediction itself.
_DISTANCE = (0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
_STEEPNESS = (0.01, 0.03, 0.1, 0.3)
_RELATIVE = (0.02, 0.2, 0.4, 0.6, 0.8)
_CELLS = (len(_DISTANCE) + 1, len(_STEEPNESS) + 1, len(_RELATIVE) + 1)
# Relative errors are counted on a logarithmic scale, 16 steps to a decade.
_ERRORS = np.geomspace(1e-4, 10.0, 81)
# Decay of a frame's counts with each frame that follows: a half after 6.
_FORGETTING = 0.9
# Points that the wider group counts for as the prior of a cell.
_PRIOR_POINTS = 20.0
# Longest side of the working grid: a prediction has little more detail.
_LONGEST_SIDE = 320
# A point above or below counts as this many times as far as one beside: ground recedes and things
# stand on it. Chosen where held-out lines and columns of drives are covered alike.
_UPRIGHT = 1.65
_WINDOW = np.ones((3, 3), np.uint8)
# The nearest classes of distance are the ground's own; beside it a map's relative error is this
# many times as large, as measured on synthetic drives.
_ON_GROUND, _BESIDE_GROUND = 2, 4.0


@dataclass(frozen=True)
class ErrorCounts:
    """
    Relative errors of the frames so far; immutable.

    Distances of a held frame count from the points of the last fitted one.
    """

    counts: np.ndarray  # cells x (steps + 1) float64, scored points by cell and relative error
    place: tuple[np.ndarray, np.ndarray]  # pixels (u, v), int, of the last fit's points


def count_errors(
    before: ErrorCounts | None,
    prediction: Prediction,
    sparse: SparseDepth | None,
    alignment: Alignment,
    config: AlignmentConfig,
) -> ErrorCounts | None:
    """
    Add the held-out errors of a fitted frame to those of the frames before.

    ``before`` is None after a reset, the result None while no point was ever scored.
    """
    metric = alignment.metric
    if sparse is None or len(sparse) == 0 or alignment.state != 'fitted' or metric is None:
        return before
    u, v, shape = sparse.u, sparse.v, metric.shape
    predicted = prediction.relative[v, u].astype(np.float64)
    plain = fitted_depth(predicted, alignment.scale, alignment.shift, alignment.space, config)
    far = log_ratio(sparse.z.astype(np.float64), plain)
    at = _on_grid(u, v, shape)
    small = _sampled(metric)
    spread, affine = _explained(prediction, alignment, sparse, config, small, at)
    steep = _class_of(_steepness(small)[at], _STEEPNESS)
    relative = _class_of(predicted, _RELATIVE)
    fresh = np.zeros((*_CELLS, len(_ERRORS) + 1))
    if sparse.kind is PointKind.GROUND or alignment.held_out is None:
        # Without a field the residual of scale and shift is the same near and far. Beyond the
        # ground errors have not been measured, and they are larger there.
        beyond = _BESIDE_GROUND * far if sparse.kind is PointKind.GROUND else far
        for row in range(_CELLS[0]):
            ratio = far if row < _ON_GROUND else beyond
            _count(fresh[row], ratio, np.hypot(spread, affine), (steep, relative))
    else:
        gaps = _held_out_gaps(u, v, shape)
        explained = np.hypot(spread, affine * _affine_share(gaps))
        near = _class_of(gaps, _DISTANCE)
        _count(fresh, alignment.held_out, explained, (near, steep, relative))
        if not alignment.saw_points:
            # Far from all points the field has faded: scale and shift alone remain, or the map.
            _count(fresh[-1], far, np.hypot(spread, affine), (steep, relative))
    if before is None:
        return ErrorCounts(fresh, (u, v)) if fresh.any() else None
    return ErrorCounts(_FORGETTING * before.counts + fresh, (u, v))


def sigma_map(
    errors: ErrorCounts | None,
    prediction: Prediction,
    alignment: Alignment,
    config: AlignmentConfig,
    sparse: SparseDepth | None = None,
) -> np.ndarray | None:
    """
    Estimate one standard deviation of metric depth, (H, W) float32 in metres.

    ``errors`` include this frame's, and ``sparse`` are its points if it was fitted to them. With
    few of them it is no less than the error that a metric model states. NaN where depth is; None
    if neither errors, spread nor such a statement are known.
    """
    metric, few = alignment.metric, len(sparse or ()) < config.min_points
    stated = np.float32(prediction.relative_error if few else np.nan)
    if errors is not None and few and np.isnan(stated) and alignment.space == 'metric':
        # A few points that happen to agree prove nothing, unless it was so in several frames.
        errors = errors if errors.counts.sum() >= _CELLS[0] * config.min_points else None
    if metric is None or (errors is None and prediction.spread is None and np.isnan(stated)):
        return None
    small = _sampled(metric)
    spread, affine = _explained(prediction, alignment, sparse, config, small)
    if errors is not None:
        # A map that is metric by itself has no field without points.
        is_far = sparse is None and alignment.state == 'fitted'
        u, v = np.empty((2, 0), np.intp) if is_far else errors.place
        gaps, steep = _gaps(u, v, metric.shape), _steepness(small)
        if alignment.held_out is not None:
            affine = affine * _affine_share(gaps)
    variance = np.square(spread) + np.square(affine)
    if errors is not None:
        features = (
            (gaps, _DISTANCE),
            (steep, _STEEPNESS),
            (_sampled(prediction.relative), _RELATIVE),
        )
        cell = np.zeros(steep.shape, np.uint8)
        for values, edges in features:
            cell = cell * np.uint8(len(edges) + 1) + _class_of(values, edges)
        table = np.zeros(256, np.float32)  # cv2.LUT wants all 256 classes that eight bits have
        table[: np.prod(_CELLS)] = np.square(_quantiles(errors.counts)).ravel()
        variance += cv2.LUT(cell, table)
    if alignment.state == 'held':
        variance += np.float32(config.hold_growth * alignment.age_ns / 1e9) ** 2
    variance = np.fmax(variance, stated**2)  # NaN changes nothing
    deviation = cv2.resize(np.sqrt(variance), metric.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(metric * deviation, dtype=np.float32)


def affine_variance(
    prediction: Prediction,
    alignment: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
) -> tuple[float, float, float] | None:
    """
    Estimate the variance of an affine fit from its residuals, in units of ``relative``.

    Neighbouring residuals are correlated, so a tile of the field's reach counts as one
    measurement, however many points it has. Returns the weighted mean of ``relative`` at the
    points, the variance there, and its growth with the squared distance from it; None without an
    affine fit to this frame's points.
    """
    fitted = config.method in ('local', 'global', 'fused') and alignment.space != 'metric'
    if sparse is None or alignment.inlier is None or not fitted:
        return None
    u, v, z = (part[alignment.inlier] for part in (sparse.u, sparse.v, sparse.z))
    x = prediction.relative[v, u].astype(np.float64)
    if len(x) < 3 or np.ptp(x) == 0.0:
        return None
    stated = None if sparse.sigma is None else sparse.sigma[alignment.inlier]
    target, noise = fit_target(z.astype(np.float64), alignment.space, config, stated)
    weight = 1.0 / noise**2
    middle = float(weight @ x / weight.sum())
    residual = (target - alignment.scale * x - alignment.shift) / alignment.scale
    variance = float(weight @ residual**2 / weight.sum())
    spread = float(weight @ (x - middle) ** 2 / weight.sum())
    tile = max(1.0, config.field_reach * float(np.hypot(*prediction.relative.shape)))
    measured = len(np.unique((v // tile).astype(np.int64) * 65536 + (u // tile).astype(np.int64)))
    at_middle = variance / max(measured - 2, 1)
    return middle, at_middle, at_middle / max(spread, 1e-12)


def _count(
    counts: np.ndarray, ratio: np.ndarray, explained: np.ndarray, cell: tuple[np.ndarray, ...]
) -> None:
    """Count the unexplained part of each relative error."""
    scored = np.isfinite(ratio)
    error = np.abs(np.expm1(np.clip(ratio[scored], -5.0, 5.0)))
    score = np.sqrt(np.clip(error**2 - explained[scored].astype(np.float64) ** 2, 0.0, None))
    step = np.searchsorted(_ERRORS, score)
    index = np.ravel_multi_index((*(part[scored] for part in cell), step), counts.shape)
    counts += np.bincount(index, minlength=counts.size).reshape(counts.shape)


def _quantiles(counts: np.ndarray) -> np.ndarray:
    """Quantile of each cell, with the wider groups as prior."""
    everything = counts.sum(axis=(0, 1, 2))
    share = everything / everything.sum()
    # From the widest group to the cell itself, each the prior of the next.
    for axes in ((1, 2), (2,), ()):
        group = counts.sum(axis=axes, keepdims=True) if axes else counts
        group = group + _PRIOR_POINTS * share
        share = group / group.sum(axis=-1, keepdims=True)
    cumulated = np.cumsum(share, axis=-1)
    step = np.argmax(cumulated >= ONE_SIGMA, axis=-1)
    above = np.take_along_axis(cumulated, step[..., None], -1)[..., 0]
    inside = np.take_along_axis(share, step[..., None], -1)[..., 0]
    part = 1.0 - (above - ONE_SIGMA) / np.maximum(inside, 1e-12)
    edges = np.concatenate([[0.0], _ERRORS, [_ERRORS[-1]]])
    low, high = edges[step], edges[step + 1]
    return np.asarray(low + part * (high - low))


def _class_of(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Index of each value among the classes between edges; NaN is in the lowest."""
    values = values.astype(np.float32, copy=False)
    index = np.zeros(values.shape, np.uint8)
    for edge in edges:
        index += values > np.float32(edge)
    return index


def _stride(shape: tuple[int, ...]) -> int:
    # The middle of a square lies in the narrowest image.
    return max(1, min(round(max(shape) / _LONGEST_SIDE), 2 * min(shape) - 1))


def _sampled(image: np.ndarray) -> np.ndarray:
    """Subsample an image to the working grid: the middle of each n by n square."""
    step = _stride(image.shape)
    return np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])


def _on_grid(
    u: np.ndarray, v: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of pixels on the working grid."""
    step = _stride(shape)
    rows, columns = (-(-(n - step // 2) // step) for n in shape)
    return np.minimum(v // step, rows - 1), np.minimum(u // step, columns - 1)


def _steepness(metric: np.ndarray) -> np.ndarray:
    """Relative change of depth around each cell of the grid; invalid depth counts as near."""
    known = np.nan_to_num(metric, nan=0.0)
    high = cv2.dilate(known, _WINDOW)
    return (high - cv2.erode(known, _WINDOW)) / np.maximum(high, np.float32(1e-6))


def _gaps(u: np.ndarray, v: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Distance of each cell from the nearest point, in diagonals; larger up and down."""
    step = _stride(shape)
    rows, columns = (-(-(n - step // 2) // step) for n in shape)
    if len(u) == 0:
        return np.full((rows, columns), 1.0, np.float32)
    narrow = max(1, round(columns / _UPRIGHT))
    empty = np.ones((rows, narrow), np.uint8)
    row, column = _on_grid(u, v, shape)
    empty[row, column * narrow // columns] = 0
    gaps = cv2.distanceTransform(empty, cv2.DIST_L2, 3)
    gaps = cv2.resize(gaps, (columns, rows), interpolation=cv2.INTER_NEAREST)
    return gaps * np.float32(_UPRIGHT**0.5 / np.hypot(rows, columns))


def _held_out_gaps(u: np.ndarray, v: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Distance of each point from the nearest one of the other fold, in diagonals."""
    fold = checkerboard_fold(u, v, shape)
    gaps = np.empty(len(u), np.float32)
    for part in (fold, ~fold):
        known = _gaps(u[~part], v[~part], shape)
        gaps[part] = known[_on_grid(u[part], v[part], shape)]
    return gaps


def _affine_share(gaps: np.ndarray) -> np.ndarray:
    """Share of the affine fit's own error that the field leaves at a distance from points."""
    return np.minimum(gaps / np.float32(_DISTANCE[-1]), np.float32(1.0))


def _explained(
    prediction: Prediction,
    alignment: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    metric: np.ndarray,
    at: tuple[np.ndarray, np.ndarray] | slice = slice(None),
) -> tuple[np.ndarray, np.ndarray]:
    """Relative deviations by ensemble spread and by scale and shift, at cells of ``metric``."""
    spread, affine = np.zeros_like(metric[at]), np.zeros_like(metric[at])
    known = affine_variance(prediction, alignment, sparse, config)
    if known is None and prediction.spread is None:
        return spread, affine
    with np.errstate(invalid='ignore', divide='ignore'):
        # Relative change of depth with one unit of ``relative``.
        carry = (np.abs(_depth_slope(metric, alignment)) / metric)[at]
    carry = np.nan_to_num(carry, copy=False, nan=0.0, posinf=0.0)
    if prediction.spread is not None:
        spread = np.asarray(carry * _sampled(prediction.spread)[at], dtype=np.float32)
    if known is not None:
        middle, at_middle, growth = (np.float32(part) for part in known)
        away = np.square(_sampled(prediction.relative)[at] - middle)
        affine = np.asarray(carry * np.sqrt(at_middle + growth * away), dtype=np.float32)
    return spread, affine


def _depth_slope(metric: np.ndarray, alignment: Alignment) -> np.ndarray | float:
    """
    Return the derivative of depth by ``relative``, metres, which carries deviations over.

    The field is taken as constant. ``metric`` already holds it, so it cancels for the log space.
    """
    field: np.ndarray | float = 1.0
    if alignment.field is not None:
        field = upsample_field(alignment.field, metric.shape)
    if alignment.space == 'log':
        return alignment.scale * metric
    if alignment.space == 'disparity':
        return alignment.scale * metric * metric / field
    return alignment.scale * field
