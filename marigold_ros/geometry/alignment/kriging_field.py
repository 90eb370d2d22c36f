# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The local correction field of a metric map: kriging over place and fitted depth, and fine levels.

A Gaussian process over a few hundred representatives corrects regions up to their edges; levels of
normalised convolution (``local_field``) add the detail of dense scans. Where the typical error of
the map is above 30 %, its depth misleads the kernel and the levels do all of it.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction
from marigold_ros.geometry.alignment.fitted_depth import fitted_depth
from marigold_ros.geometry.alignment.gaussian_process import krige
from marigold_ros.geometry.alignment.local_field import (
    add_levels,
    checkerboard_fold,
    COARSE_LEVELS,
    consistent_points,
    field_trust,
    FINE_LEVELS,
    LONGEST_SIDE,
    sample_grid,
)
import numpy as np

# Typical error, in log depth, up to which the kernel uses the map, and from which it does not.
_KRIGING, _LEVELS = 0.22, 0.28
# Points in the process; its cost grows with the cube.
_MOST = 256
# Detail is added where this many points stand behind each representative.
_DENSE = 4
# With this many, tiles are so small that the finest detail reaches into them as well.
_DENSER = 16
# Reach of a point in the process, in units of the setting.
_REACH = 2.5
_NOISE = 0.03


@dataclass(frozen=True)
class CorrectionField:
    """
    A correction of metric depth beyond scale and shift, with its cross-validation.

    ``held_out`` is the log ratio of measured depth to that of a field fitted without the point's
    neighbourhood.
    """

    field: np.ndarray | None  # (h, w) float32, factor on a coarse grid; None: no consistent point
    held_out: np.ndarray  # (M,) float64
    used: np.ndarray  # (M,) bool, points that took part


def grid_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the field of an image (H, W)."""
    shrink = min(1.0, LONGEST_SIDE / max(shape))
    return max(2, round(shape[0] * shrink)), max(2, round(shape[1] * shrink))


def fitted_log_depth(
    prediction: Prediction,
    scale: float,
    shift: float,
    config: AlignmentConfig,
    relative: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return log of fitted depth within its limits at ``relative`` (M,) and on the grid (h, w)."""
    height, width = grid_shape(prediction.relative.shape)
    whole = np.asarray(prediction.relative, dtype=np.float32)
    small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    found = []
    for values in (relative, small):
        metres = fitted_depth(values, scale, shift, prediction.space, config)
        metres = np.nan_to_num(metres, nan=config.min_depth)
        found.append(np.log(np.clip(metres, config.min_depth, config.max_depth)))
    return found[0], found[1]


def fit_correction_field(
    u: np.ndarray,
    v: np.ndarray,
    log_ratio: np.ndarray,
    log_depth: np.ndarray,
    log_depth_grid: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
) -> CorrectionField:
    """
    Fit the correction field of an image of ``shape`` (H, W) to points at pixels ``u``, ``v`` (M,).

    ``log_ratio`` (M,) is ``log(measured / fitted)`` and may be NaN; log of fitted depth is given
    at the points, (M,), and all over the image, (h, w) float32 of :func:`grid_shape`.
    """
    residual = log_ratio.astype(np.float64)
    used = consistent_points(u, v, residual)
    if not used.any():
        return CorrectionField(None, residual, used)
    points = _Points(u, v, residual, log_depth, used, checkerboard_fold(u, v, shape))
    typical = 1.4826 * float(np.median(np.abs(residual[used])))
    share = float(np.clip((_LEVELS - typical) / (_LEVELS - _KRIGING), 0.0, 1.0))
    if share > 0:
        log_field, predicted, trust = _krige(points, log_depth_grid, shape, config)
        log_field, predicted = np.float32(share) * log_field, share * predicted
    else:
        # Levels alone grow from the coarsest grid.
        log_field, predicted = np.zeros((2, 2), dtype=np.float32), np.zeros((2, len(u)))
    correction = np.where(points.fold, predicted[0], predicted[1])
    if share < 1 or used.sum() > _DENSE * _MOST:
        levels = FINE_LEVELS if share == 1 else COARSE_LEVELS + FINE_LEVELS
        few = share == 1 and used.sum() <= _DENSER * _MOST
        reaching = levels[:-1] if few else levels
        correction += _held_out_levels(points, predicted, shape, config, reaching)
        u, v, rest = u[used], v[used], residual[used]
        rest = rest - sample_grid(log_field, u, v, shape)
        log_field = add_levels(log_field, u, v, rest, shape, config, levels)
    if share < 1:
        trust = field_trust(residual[used], correction[used])
    # A field that fails at held-out points is not applied elsewhere either.
    bound = float(np.log(config.field_limit))
    field = np.exp(np.float32(trust) * np.clip(log_field, -bound, bound))
    return CorrectionField(field, residual - trust * np.clip(correction, -bound, bound), used)


@dataclass(frozen=True)
class _Points:
    """Place, log ratio, log fitted depth, whether used, fold of the checkerboard; all (M,)."""

    u: np.ndarray
    v: np.ndarray
    residual: np.ndarray
    log_depth: np.ndarray
    used: np.ndarray
    fold: np.ndarray


def _held_out_levels(
    points: _Points,
    predicted: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
    levels: tuple[tuple[float, float], ...],
) -> np.ndarray:
    """Correction (M,) at each point by levels that know the other fold only, after kriging."""
    u, v, residual, used = points.u, points.v, points.residual, points.used
    held_out, start = np.zeros(len(u)), np.zeros((2, 2), dtype=np.float32)
    for scored, kriged in zip((points.fold, ~points.fold), predicted, strict=True):
        known = used & ~scored
        if known.any() and scored.any():
            rest = residual[known] - kriged[known]
            detail = add_levels(start, u[known], v[known], rest, shape, config, levels)
            held_out[scored] = sample_grid(detail, u[scored], v[scored], shape)
    return held_out


def _krige(
    points: _Points, log_depth_grid: np.ndarray, shape: tuple[int, int], config: AlignmentConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Log field on the grid; at the points without either fold, (2, M); trust in the field."""
    u, v, residual = points.u, points.v, points.residual
    some = np.flatnonzero(points.used)
    chosen = some[representatives(u[some], v[some], residual[some], _MOST)]
    diagonal = float(np.hypot(*shape))
    process = krige(
        (u[chosen] + 0.5) / diagonal,
        (v[chosen] + 0.5) / diagonal,
        points.log_depth[chosen],
        residual[chosen],
        _REACH * config.field_reach,
        _NOISE,
    )
    fold = points.fold[chosen]
    weights = (process.alpha, process.without(fold), process.without(~fold))
    whole, *parts = process.predict(weights, log_depth_grid, shape)
    # At a point the field is read off a grid: at the grid's depth, not at the point's own.
    log_depth = sample_grid(log_depth_grid, u, v, shape)
    predicted = np.stack([part.at(u, v, log_depth, shape) for part in parts])
    # Tiles are a hard test where points are few; trust in the whole leaves out single points.
    alone = np.where(process.trust > 0, residual[chosen] - process.each_left_out(), np.nan)
    return whole.on_grid(log_depth_grid), predicted, field_trust(residual[chosen], alone)


def representatives(u: np.ndarray, v: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """
    Choose at most ``most`` of points (M,) evenly over the image; return their indices.

    Each cell of a grid is represented by the point with the median value, which is no outlier.
    """
    if len(u) <= most:
        return np.arange(len(u))
    left, top = int(u.min()), int(v.min())
    cell = max(1.0, float(np.sqrt((u.max() - left + 1) * (v.max() - top + 1) / most)))
    for _ in range(8):
        columns = int((u.max() - left) / cell) + 1
        place = ((v - top) / cell).astype(np.intp) * columns + ((u - left) / cell).astype(np.intp)
        occupied = int(np.count_nonzero(np.bincount(place)))
        if 0.75 * most < occupied <= most or (occupied <= most and cell == 1.0):
            break
        cell = max(1.0, cell * float(np.sqrt(occupied / (0.88 * most))))
    # By place, then by value, as np.lexsort does four times more slowly: cells are few, so that a
    # radix sort comes first, and the other sort has nearly sorted keys.
    order = np.argsort(place.astype(np.min_scalar_type(int(place.max()))), kind='stable')
    above = values - values.min()
    key = place[order] * (2.0 * float(above.max())) + above[order]
    order = order[np.argsort(key, kind='stable')]
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    chosen = order[(starts + ends - 1) // 2]
    if len(chosen) <= most:
        return chosen
    return chosen[np.linspace(0, len(chosen) - 1, most).astype(np.intp)]
