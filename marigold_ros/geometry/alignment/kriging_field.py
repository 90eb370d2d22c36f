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
from marigold_ros.geometry.alignment.gaussian_process import krige
from marigold_ros.geometry.alignment.local_field import (
    add_levels,
    believable,
    chequerboard,
    COARSE_LEVELS,
    FINE_LEVELS,
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
# With this many, tiles are so small that the finest detail reaches into them as well.
_DENSER = 16
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
        Log of measured depth over what the map would say at each point had the point's
        neighbourhood not been known.
    believed : (M,) bool
        Points that took part.

    """

    field: np.ndarray | None
    held_out: np.ndarray
    believed: np.ndarray


def grid_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the field of an image (H, W)."""
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
        The same all over the image, of :func:`grid_shape`.
    shape : (H, W)
        Size of the image.
    config : AlignmentConfig
        ``field_reach`` and ``field_limit``.

    """
    left = log_ratio.astype(np.float64)
    believed = believable(u, v, left)
    if not believed.any():
        return LocalCorrection(None, left, believed)
    points = _Points(u, v, left, guide, believed, chequerboard(u, v, shape))
    typical = 1.4826 * float(np.median(np.abs(left[believed])))
    share = float(np.clip((_MISLEADS - typical) / (_MISLEADS - _GUIDES), 0.0, 1.0))
    if share > 0:
        log_field, told, trust = _krige(points, guide_grid, shape, config)
        log_field, told = np.float32(share) * log_field, share * told
    else:
        # Levels alone grow from the coarsest grid.
        log_field, told = np.zeros((2, 2), dtype=np.float32), np.zeros((2, len(u)))
    correction = np.where(points.black, told[0], told[1])
    if share < 1 or believed.sum() > _DENSE * _MOST:
        levels = FINE_LEVELS if share == 1 else COARSE_LEVELS + FINE_LEVELS
        few = share == 1 and believed.sum() <= _DENSER * _MOST
        reaching = levels[:-1] if few else levels
        correction += _detail_left_out(points, told, shape, config, reaching)
        u, v, rest = u[believed], v[believed], left[believed]
        rest = rest - sample_grid(log_field, u, v, shape)
        log_field = add_levels(log_field, u, v, rest, shape, config, levels)
    if share < 1:
        trust = trust_in_field(left[believed], correction[believed])
    # A field that does not hold where it was not fitted is not applied there either.
    bound = float(np.log(config.field_limit))
    field = np.exp(np.float32(trust) * np.clip(log_field, -bound, bound))
    return LocalCorrection(field, left - trust * np.clip(correction, -bound, bound), believed)


@dataclass(frozen=True)
class _Points:
    """Place, log ratio and log fitted depth; who is believed; colour of the tile; all (M,)."""

    u: np.ndarray
    v: np.ndarray
    left: np.ndarray
    guide: np.ndarray
    believed: np.ndarray
    black: np.ndarray


def _detail_left_out(
    points: _Points,
    told: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
    levels: tuple[tuple[float, float], ...],
) -> np.ndarray:
    """What levels of the other colour's points say at each point, (M,), beyond what was told."""
    u, v, left, believed = points.u, points.v, points.left, points.believed
    held_out, start = np.zeros(len(u)), np.zeros((2, 2), dtype=np.float32)
    for judged, known_field in zip((points.black, ~points.black), told, strict=True):
        known = believed & ~judged
        if known.any() and judged.any():
            rest = left[known] - known_field[known]
            detail = add_levels(start, u[known], v[known], rest, shape, config, levels)
            held_out[judged] = sample_grid(detail, u[judged], v[judged], shape)
    return held_out


def _krige(
    points: _Points, guide_grid: np.ndarray, shape: tuple[int, int], config: AlignmentConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Log field on the grid; at points (2, M) without the tiles of either colour; and trust."""
    u, v, left = points.u, points.v, points.left
    some = np.flatnonzero(points.believed)
    chosen = some[representatives(u[some], v[some], left[some], _MOST)]
    diagonal = float(np.hypot(*shape))
    process = krige(
        (u[chosen] + 0.5) / diagonal,
        (v[chosen] + 0.5) / diagonal,
        points.guide[chosen],
        left[chosen],
        _REACH * config.field_reach,
        _NOISE,
    )
    black = points.black[chosen]
    weights = (process.alpha, process.without(black), process.without(~black))
    whole, *parts = process.predict(weights, guide_grid, shape)
    # At a point the field is read off a grid: its guide is the grid's, not the point's own.
    guide = sample_grid(guide_grid, u, v, shape)
    told = np.stack([part.at(u, v, guide, shape) for part in parts])
    # Tiles judge harshly where points are few; for trust in the whole each point is left out.
    alone = np.where(process.trust > 0, left[chosen] - process.each_left_out(), np.nan)
    return whole.on_grid(guide_grid), told, trust_in_field(left[chosen], alone)


def representatives(u: np.ndarray, v: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """
    Choose at most some points evenly over the image: of each cell the one with the median value.

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
