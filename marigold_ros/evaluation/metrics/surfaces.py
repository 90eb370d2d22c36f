# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Edges, flying pixels and planes of a depth map against dense truth.

Boundary F1 has the edges of Depth Pro: pairs of neighbouring pixels whose depths differ by more
than a factor, from 1.05 to 1.25, the same pairs in prediction and truth. Unlike there, pairs of
all directions are pooled, or a scene without level edges would score 0.5 at most. Planes are tiles
in which the truth is planar: there the inverse depth is linear in the image, and the prediction is
scored by its deviation from its own plane and by the angle between the two planes.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import cv2
import numpy as np

_FACTORS = np.linspace(1.05, 1.25, 10)
_EDGES = np.log(_FACTORS)
_TILE_PX = 32
# Relative deviation of truth from its plane: 1e-5 for rendered walls, 0.005 for RGB-D cameras.
_FLAT = 0.005
# Relative depth within which a point belongs to a surface.
_TOLERANCE = 0.05
# Pixels around a point within which true surfaces count: the blur of a map that was enlarged from
# a quarter of the image's width.
_REACH_PX = 4


def boundary_f1(depth: np.ndarray, truth: np.ndarray) -> float:
    """
    Score the agreement of occlusion edges in maps (H, W), 0 to 1; NaN if the truth has none.

    F1 of precision and recall over pairs of pixels that are finite and positive in both maps,
    averaged over the factors with the factor as weight. Either map may have any scale.
    """
    levels = len(_FACTORS) + 1
    counts = np.zeros((levels, levels))
    maps = [_log(image) for image in (depth, truth)]
    for axis in (0, 1):
        steps = [np.diff(image, axis=axis) for image in maps]
        known = np.isfinite(steps[0]) & np.isfinite(steps[1])
        edge = known & ((np.abs(steps[0]) > _EDGES[0]) | (np.abs(steps[1]) > _EDGES[0]))
        found, true = (step[edge] for step in steps)
        for sign in (1, -1):
            # Falling steps are edges of the other direction, none of this one.
            level = [np.searchsorted(_EDGES, sign * step) for step in (found, true)]
            pairs = np.bincount(level[0] * levels + level[1], minlength=levels * levels)
            counts += pairs.reshape(levels, levels)
    # A step that exceeds a factor exceeds all smaller ones.
    above = counts[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    both, found, true = np.diag(above)[1:], above[1:, 0], above[0, 1:]
    if not true[0]:
        return math.nan
    f1 = np.divide(2 * both, found + true, out=np.zeros(len(both)), where=found + true > 0)
    return float((f1 * _FACTORS).sum() / _FACTORS[found + true > 0].sum())


def flying_rate(depth: np.ndarray, truth: np.ndarray) -> float:
    """Return the ratio of flying to good pixels; NaN without a good one."""
    flying, good = flying_and_good(depth, truth, _REACH_PX)
    return float(flying.sum() / good.sum()) if good.any() else math.nan


def flying_and_good(
    depth: np.ndarray, truth: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Classify points as flying, good or neither.

    A point is flying if its depth lies between the nearest and the farthest true surface around
    its pixel and differs by more than 5 % from every one of them; it is good if it is within 5 %
    of the truth of its own pixel. Neither is decided where sky or unknown depth is in reach.

    Depth and truth are (H, W) in metres, +Inf of the truth sky and NaN unknown; ``reach`` is the
    radius in pixels within which true surfaces count: the blur of ``depth``. Returns bool (H, W).
    """
    side = 2 * reach + 1
    surface = np.isfinite(truth)
    known = cv2.erode(surface.astype(np.uint8), np.ones((side, side))) > 0
    truth = np.where(surface, truth, 0).astype(np.float32)
    low, high = (f(truth, np.ones((side, side))) for f in (cv2.erode, cv2.dilate))
    margin = _TOLERANCE * depth
    # The extremes are surfaces themselves, so few pixels need a search around them.
    with np.errstate(invalid='ignore'):
        flying = known & (depth > low + margin) & (depth < high - margin)
    rows, columns = np.nonzero(flying)
    padded = np.pad(truth, reach, mode='edge')
    here, nearest_gap = depth[flying], np.full(len(rows), np.inf, np.float32)
    for down in range(side):
        for right in range(side):
            gap = np.abs(here - padded[rows + down, columns + right])
            np.fmin(nearest_gap, gap, out=nearest_gap)
    flying[rows, columns] = nearest_gap > margin[flying]
    return flying, known & (np.abs(depth - truth) <= _TOLERANCE * truth)


def planarity(depth: np.ndarray, truth: np.ndarray, K: np.ndarray | None) -> dict[str, float]:
    """
    Score a map (H, W), metres, where the truth is flat.

    Without intrinsics ``K``, (3, 3) in pixels, there is no angle.

    Returns
    -------
    dict
        ``planarity``, root mean square of the relative deviation of depth from its own plane in a
        tile of 32 pixels; ``plane_angle_deg``, between that plane and the truth's; ``planes``,
        the number of tiles. Medians over tiles, NaN without any.

    """
    nothing = {'planarity': math.nan, 'plane_angle_deg': math.nan, 'planes': 0}
    tiles = [_tiles(image) for image in (depth, truth)]
    with np.errstate(divide='ignore', invalid='ignore'):
        known = ((tiles[0] > 0) & (tiles[1] > 0) & np.isfinite(tiles[0] + tiles[1])).all(axis=1)
        inverse = [1.0 / tile[known] for tile in tiles]
    if not known.any():
        return nothing
    (found, off), (true, miss) = (_fit_planes(part) for part in inverse)
    flat = np.abs(miss).max(axis=1) < _FLAT
    if not flat.any():
        return nothing
    deviation = float(np.median(np.sqrt(np.square(off[flat]).mean(axis=1))))
    angle = math.nan
    if K is not None:
        v, u = np.mgrid[: truth.shape[0] // _TILE_PX, : truth.shape[1] // _TILE_PX]
        centres = (np.stack([u.ravel(), v.ravel()], axis=1) + 0.5) * _TILE_PX - 0.5
        angle = float(np.median(_angles_deg(found[flat], true[flat], centres[known][flat], K)))
    return {'planarity': deviation, 'plane_angle_deg': angle, 'planes': int(flat.sum())}


def _log(image: np.ndarray) -> np.ndarray:
    with np.errstate(divide='ignore', invalid='ignore'):
        log = np.log(np.asarray(image, np.float64))
    return np.where(np.isfinite(log), log, np.nan)


def _tiles(image: np.ndarray) -> np.ndarray:
    """Cut an image into whole tiles, (n, tile * tile) float64."""
    rows, columns = (side // _TILE_PX for side in image.shape)
    cut = np.asarray(image, np.float64)[: rows * _TILE_PX, : columns * _TILE_PX]
    cut = cut.reshape(rows, _TILE_PX, columns, _TILE_PX).swapaxes(1, 2)
    return cut.reshape(rows * columns, _TILE_PX * _TILE_PX)


def _fit_planes(inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit slopes and level of inverse depth in tiles (n, 3); also the relative residuals."""
    offset = np.arange(_TILE_PX) - 0.5 * (_TILE_PX - 1)
    x, y = np.tile(offset, _TILE_PX), np.repeat(offset, _TILE_PX)
    # Centred, so the three columns are orthogonal and least squares is three means.
    power = float((x * x).sum())
    level = inverse.mean(axis=1)
    plane = np.stack([inverse @ x / power, inverse @ y / power, level], axis=1)
    fitted = plane[:, :1] * x + plane[:, 1:2] * y + plane[:, 2:]
    return plane, fitted / inverse - 1.0


def _angles_deg(
    found: np.ndarray, true: np.ndarray, centres: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Return angles between planes: 1/z = m · (u, v, 1) has the normal Kᵀm."""
    normals = []
    for plane in (found, true):
        level = plane[:, 2] - (plane[:, :2] * centres).sum(axis=1)
        normal = np.column_stack([plane[:, :2], level]) @ np.asarray(K, np.float64)
        normals.append(normal / np.linalg.norm(normal, axis=1, keepdims=True))
    cosine = np.clip((normals[0] * normals[1]).sum(axis=1), -1.0, 1.0)
    return np.degrees(np.arccos(cosine))


def surface_scores(depth: np.ndarray, truth: np.ndarray, K: np.ndarray | None) -> dict[str, float]:
    """
    Score one frame of depth and truth (H, W) in metres, NaN unknown and +Inf sky.

    Returns ``boundary_f1``, ``flying_rate``, ``planarity``, ``plane_angle_deg``, ``planes``.
    """
    edges = {'boundary_f1': boundary_f1(depth, truth), 'flying_rate': flying_rate(depth, truth)}
    return {**edges, **planarity(depth, truth, K)}


def mean_surface_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return means of :func:`surface_scores` over the rows that have them; empty without any."""
    found = {}
    for name in ('boundary_f1', 'flying_rate', 'planarity', 'plane_angle_deg', 'planes'):
        values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
        if values:
            found[name] = float(np.mean(values))
    return found if set(found) - {'planes'} else {}
