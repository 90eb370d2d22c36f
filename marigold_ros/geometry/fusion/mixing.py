# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The mixture of the candidates in log depth, by the network or in closed form, and its input.

In closed form the points' share is the mean of the linear and the edge-aware candidate, and the
map's follows the errors to be expected of both: log-linear in what is known at each cell, with
coefficients by least squares over scenes of the generator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
from marigold_ros.frame import SparseDepth
from marigold_ros.fusion_channels import CHANNELS, level_of, RELATIVE, TYPICAL_LOG
from marigold_ros.geometry.fusion.candidates import Candidates, natural_neighbours, nearest_points
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# Maps the channels (17, rows, columns) to three, float32: log depth relative to the linear
# candidate, the log of the expected relative error, and the share of the map.
FusionModel = Callable[[np.ndarray], np.ndarray]

# Log ratio of depths that counts at most: a single outlier decides nothing.
LARGEST_LOG_RATIO = 1.5
_LEAST_ERROR = 0.005

# Coefficients of the log of the expected error: constant, then by channel.
_ERROR_OF_POINTS = (-1.11, {'point_proof': 0.51, 'distance': 0.35, 'inside': -0.47})
_RANGE, _EDGES = 0.21, 0.4  # of the logs of high - low and of |smooth - linear|
_ERROR_OF_MAP = (-1.88, {'map_proof': 1.01, 'inside': -0.37})
_AWAY = 0.38  # of the log of |map - points|
_LEAST = np.float32(0.01)
# Chosen on the development data of docs/fusion.md: errors of a map, as a part of interpolation's,
# at which it gets no more share, and all of it far away; and the distance in cells from which half
# of that counts.
_PROVES_NOTHING, _PROVES_ALL, _FAR = 0.8, 0.3, 8.0
# Odds of the map are the inverse errors' to this power.
_POWER = 4.0


@dataclass(frozen=True)
class MapCandidate:
    """A fitted map: log depth on the grid (rows, columns), held-out log ratios (M,) at points."""

    log_depth: np.ndarray
    held_out: np.ndarray


def log_depth_on_grid(metric: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Average log of depth (H, W) in the cells of ``linear``, which counts where it is NaN."""
    size = linear.shape[::-1]
    known = np.isfinite(metric) & (metric > 0)
    if known.all():
        return np.asarray(cv2.resize(np.log(metric), size, interpolation=cv2.INTER_AREA))
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    logs = np.log(metric, out=np.zeros_like(metric), where=known)
    total = cv2.resize(logs, size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0.5, total / np.maximum(share, np.float32(0.5)), linear)


def network_input(
    candidates: Candidates, sparse: SparseDepth, fitted: MapCandidate | None
) -> np.ndarray:
    """
    Return the `marigold_ros.fusion_channels.CHANNELS`, (17, rows, columns) float32.

    ``sparse`` are the points of the candidates, ``fitted`` is the map or None; without an image
    all is grey.
    """
    grid, linear = candidates.grid, candidates.linear
    channels = np.zeros((len(CHANNELS), grid.rows, grid.columns), np.float32)
    part = dict(zip(CHANNELS, channels, strict=True))
    if candidates.image is not None:
        channels[:3] = np.moveaxis(np.rint(candidates.image), 2, 0)
        channels[:3] *= np.float32(4 / 255)
        channels[:3] -= np.float32(2)
    level = float(np.median(np.log(sparse.z)))
    part['linear'][...] = linear - np.float32(level)
    for name in ('smooth', 'nearest', 'low', 'high'):
        part[name][...] = getattr(candidates, name) - linear
    proof = _Proofs(grid, sparse)
    if fitted is not None:
        part['map'][...] = fitted.log_depth - linear
        part['has_map'][...] = 1.0
        part['map_proof'][...] = proof(fitted.held_out)
    part['point_proof'][...] = proof(candidates.held_out)
    part['occupied'][...] = candidates.points.distance == 0
    part['distance'][...] = np.log1p(candidates.points.distance) - np.float32(TYPICAL_LOG)
    part['inside'][...] = candidates.inside
    part['row'][...] = np.linspace(-1, 1, grid.rows, dtype=np.float32)[:, None]
    part['level'][...] = np.float32(level - TYPICAL_LOG)
    for name in RELATIVE:
        np.clip(part[name], -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO, out=part[name])
    return channels


@dataclass(frozen=True)
class MixedDepth:
    """
    Mixed log depth and its expected error, (rows, columns) float32.

    ``log_error`` is the log of the relative error that 68 % stay below; ``map_share`` (rows,
    columns) is 0 without a map.
    """

    log_depth: np.ndarray
    log_error: np.ndarray
    map_share: np.ndarray


def mix(channels: np.ndarray, network: FusionModel | None) -> MixedDepth:
    """Mix the candidates in ``fusion_channels.CHANNELS`` (17, rows, columns)."""
    part = dict(zip(CHANNELS, channels, strict=True))
    change, log_error, map_share = _closed_form(part) if network is None else network(channels)
    log_depth = part['linear'] + change + level_of(channels)
    return MixedDepth(log_depth, log_error, map_share)


def follow_map(
    mixture: MixedDepth, log_map: np.ndarray, distance: np.ndarray, map_error: float
) -> MixedDepth:
    """
    Give the map more share far from the points, the better it has proved.

    ``log_map`` is its log depth and ``distance`` that of the nearest point in cells, both (rows,
    columns). ``map_error`` is its error at points held out as a part of interpolation's, whose
    error grows faster with the distance.
    """
    proved = np.clip((_PROVES_NOTHING - map_error) / (_PROVES_NOTHING - _PROVES_ALL), 0.0, 1.0)
    if proved == 0.0:
        return mixture
    apart = np.square(distance)
    share = np.float32(proved) * apart / (apart + np.float32(_FAR**2))
    return MixedDepth(
        mixture.log_depth + share * (log_map - mixture.log_depth),
        mixture.log_error,
        mixture.map_share + share * (1.0 - mixture.map_share),
    )


def _closed_form(part: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a network would."""
    points = np.float32(0.5) * part['smooth']  # relative to linear
    log_error = _expected(part, *_ERROR_OF_POINTS)
    log_error += np.float32(_RANGE) * np.log(part['high'] - part['low'] + _LEAST)
    log_error += np.float32(_EDGES) * np.log(np.abs(part['smooth']) + _LEAST)
    of_map = _expected(part, *_ERROR_OF_MAP)
    of_map += np.float32(_AWAY) * np.log(np.abs(part['map'] - points) + _LEAST)
    odds = np.clip(np.float32(_POWER) * (log_error - of_map), -30.0, 30.0)
    share = part['has_map'] / (1.0 + np.exp(-odds))
    change = points + share * (part['map'] - points)
    return change, log_error + share * (of_map - log_error), share


def _expected(
    part: Mapping[str, np.ndarray], constant: float, coefficients: Mapping[str, float]
) -> np.ndarray:
    total = np.full_like(part['linear'], constant)
    for name, coefficient in coefficients.items():
        total += np.float32(coefficient) * part[name]
    return total


class _Proofs:
    """Spreads errors at points over the grid, at half its resolution."""

    def __init__(self, grid: WorkGrid, sparse: SparseDepth) -> None:
        self._grid, self._half, self._sparse = grid, grid.halved(), sparse
        _, count = self._half.mean_in_cells(sparse.u, sparse.v, sparse.z)
        self._nearest = nearest_points(count)

    def __call__(self, held_out: np.ndarray) -> np.ndarray:
        """Return the log of the error at points held out (M,), around 0; (rows, columns)."""
        known = np.isfinite(held_out)
        if not known.any():
            return np.zeros((self._grid.rows, self._grid.columns), np.float32)
        typical = float(np.median(np.abs(held_out[known])))
        error = np.where(known, np.minimum(np.abs(held_out), LARGEST_LOG_RATIO), typical)
        mean, _ = self._half.mean_in_cells(self._sparse.u, self._sparse.v, error)
        spread = natural_neighbours(mean, self._nearest) + np.float32(_LEAST_ERROR)
        return self._grid.refine(np.log(spread) * np.float32(0.5) + np.float32(TYPICAL_LOG))
