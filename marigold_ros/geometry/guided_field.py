# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The local correction of a metric map: kriging guided by the map, and levels of blurring.

A Gaussian process over place and fitted depth corrects regions up to their edges. Of many points
some hundred representatives enter it, and levels of normalised convolution add the detail that
dense scans tell. Where the map is so far off that it is no guide (its typical error is above
30 %), the levels do it all: there they were better by a tenth on a street drive, while kriging
leaves a third less error on distorted real depth images.
"""

from __future__ import annotations

from dataclasses import dataclass

from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.kriging import krige
from marigold_ros.geometry.local_field import (
    add_levels,
    believable,
    chequerboard,
    COARSE_LEVELS,
    FINE_LEVELS,
    held_out_correction,
    LONGEST_SIDE,
    sample_grid,
    trust_in_field,
)
import numpy as np

# Typical error, in log depth, up to which the map guides, and from which on it does not.
_GUIDES, _MISLEADS = 0.22, 0.28
# Points in the process; its cost grows with the cube.
_MOST = 256
# Detail is added where this many points stand behind each representative.
_DENSE = 4
# Reach of a point in the process, in units of the setting.
_REACH = 2.5
_NOISE = 0.03


@dataclass(frozen=True)
class LocalCorrection:
    """
    What the points say about the map beyond scale and shift.

    Parameters
    ----------
    field : (h, w) float32 or None
        Factor on depth on a coarse grid; None where no point was believed.
    held_out : (M,) float64
        Log of the factor at each point had its neighbourhood not been known; NaN where that was
        not tried.
    trust : float
        Share of the correction that has proved itself at points left out: 0 (none) to 1 (all).
    believed : (M,) bool
        Points that took part.

    """

    field: np.ndarray | None
    held_out: np.ndarray
    trust: float
    believed: np.ndarray


def grid_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the field of a picture (H, W)."""
    shrink = min(1.0, LONGEST_SIDE / max(shape))
    return max(2, round(shape[0] * shrink)), max(2, round(shape[1] * shrink))


def correct_locally(
    u: np.ndarray,
    v: np.ndarray,
    log_ratio: np.ndarray,
    guide: np.ndarray,
    guide_grid: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
) -> LocalCorrection:
    """
    Fit the correction field.

    Parameters
    ----------
    u, v : (M,) int, pixels
        Where depth is known.
    log_ratio : (M,) float
        ``log(measured / fitted)``; may be NaN.
    guide : (M,) float
        Log of the fitted depth there.
    guide_grid : (h, w) float32
        The same all over the picture, of :func:`grid_shape`.
    shape : (H, W)
        Size of the picture.
    config : AlignmentConfig
        ``field_reach`` and ``field_limit``.

    """
    believed = believable(u, v, log_ratio)
    held_out = np.full(len(u), np.nan)
    if not believed.any():
        return LocalCorrection(None, held_out, 0.0, believed)
    u, v, left = u[believed], v[believed], log_ratio[believed].astype(np.float64)
    typical = 1.4826 * float(np.median(np.abs(left)))
    share = float(np.clip((_MISLEADS - typical) / (_MISLEADS - _GUIDES), 0.0, 1.0))
    # Levels alone grow from the coarsest grid.
    log_field = np.zeros(guide_grid.shape if share > 0 else (2, 2), dtype=np.float32)
    told, judged, trust = np.zeros(len(u)), np.zeros(len(u)), 1.0
    if share > 0:
        field, judged, trust = _krige(u, v, left, guide[believed], guide_grid, shape, config)
        log_field = np.float32(share) * field
        told, judged = sample_grid(log_field, u, v, shape), share * judged
    if share < 1:
        judged = np.where(np.isnan(judged), told, judged)
        judged += held_out_correction(u, v, left - told, shape, config)
        trust = trust_in_field(left, judged)
    levels = FINE_LEVELS if share == 1 else COARSE_LEVELS + FINE_LEVELS
    if share < 1 or len(u) > _DENSE * _MOST:
        log_field = add_levels(log_field, u, v, left - told, shape, config, levels)
    held_out[believed] = judged
    bound = float(np.log(config.field_limit))
    field = np.exp(np.clip(log_field, -bound, bound))
    return LocalCorrection(field, held_out, trust, believed)


def _krige(
    u: np.ndarray,
    v: np.ndarray,
    left: np.ndarray,
    guide: np.ndarray,
    guide_grid: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Log field on the grid, what it would be at points without their neighbours, and trust."""
    chosen = representatives(u, v, left, _MOST)
    diagonal = float(np.hypot(*shape))
    process = krige(
        (u[chosen] + 0.5) / diagonal,
        (v[chosen] + 0.5) / diagonal,
        guide[chosen],
        left[chosen],
        _REACH * config.field_reach,
        _NOISE,
    )
    judged = np.full(len(u), np.nan)
    black = chequerboard(u[chosen], v[chosen], shape)
    for colour in (black, ~black):
        if colour.all():
            judged[chosen] = 0.0
        elif colour.any():
            judged[chosen[colour]] = left[chosen[colour]] - process.left_out(colour)
    # Tiles judge harshly where points are few; for trust in the whole each point is left out.
    alone = np.where(process.trust > 0, left[chosen] - process.each_left_out(), np.nan)
    return process.on_grid(guide_grid, shape), judged, trust_in_field(left[chosen], alone)


def representatives(u: np.ndarray, v: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """
    Choose at most some points evenly over the picture: of each cell the one with the median value.

    Parameters
    ----------
    u, v : (M,) int, pixels
        Where the points are.
    values : (M,) float
        What they say; a median is no outlier.
    most : int
        How many at most.

    Returns
    -------
    (m,) int
        Indices, ``m <= most``.

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
    order = np.lexsort((values, place))
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    chosen = order[(starts + ends - 1) // 2]
    if len(chosen) <= most:
        return chosen
    return chosen[np.linspace(0, len(chosen) - 1, most).astype(np.intp)]
