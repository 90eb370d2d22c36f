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
from marigold_ros.geometry.fusion.candidates import Candidates
from marigold_ros.geometry.fusion.work_grid import WorkGrid
from marigold_ros.geometry.median import median
from marigold_ros.kernels.pull_push import pull_push
import numpy as np

# Maps the channels (18, rows, columns) to three, float32: log depth relative to the linear
# candidate, the log of the expected relative error, and the share of the map.
FusionModel = Callable[[np.ndarray], np.ndarray]

# Log ratio of depths that counts at most: a single outlier decides nothing.
LARGEST_LOG_RATIO = 1.5
_LEAST_ERROR = 0.005
# Half of the weight is the map's where the mixture's error is so many times its own.
_SURER = 10.0
# Cells over which errors of single points are averaged.
_SMOOTHED = 5

# Coefficients of the log of the expected error: constant, then by channel.
_ERROR_OF_POINTS = (-1.85, {'point_proof': 0.51, 'distance': 0.54, 'inside': -0.17})
_RANGE, _EDGES = 0.13, 0.26  # of the logs of high - low and of |smooth - linear|
_ERROR_OF_MAP = (-2.39, {'map_proof': 0.91, 'inside': 0.2, 'distance': 0.26})
_AWAY = 0.36  # of the log of |map - points|
_LEAST = np.float32(0.01)
# Odds of the map are the inverse errors' to this power: each counts by its variance.
_POWER = 2.0


@dataclass(frozen=True)
class MapCandidate:
    """
    A fitted map: log depth on the grid (rows, columns), and by scale and shift alone.

    ``held_out`` (M,) are the log ratios of the points to a field without their fold,
    ``held_border`` (M,) those of the points at the border to scale and shift of the others, and
    ``held_blocks`` (M,) those of each block of columns.
    """

    log_depth: np.ndarray
    affine: np.ndarray
    held_out: np.ndarray
    held_border: np.ndarray
    held_blocks: np.ndarray


def log_depth_on_grid(metric: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Average log of depth (H, W) in the cells of ``linear``, which counts where it is NaN."""
    size = linear.shape[::-1]
    with np.errstate(divide='ignore', invalid='ignore'):
        logs = np.log(metric)  # OpenCV's log of NaN is a number on ARM and without IPP
    mean = np.asarray(cv2.resize(logs, size, interpolation=cv2.INTER_AREA))
    if np.isfinite(mean).all():
        return mean
    known = np.isfinite(logs)
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(known, logs, np.float32(0.0)), size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0.5, total / np.maximum(share, np.float32(0.5)), linear)


def network_input(
    candidates: Candidates, sparse: SparseDepth, fitted: MapCandidate | None
) -> np.ndarray:
    """
    Return the `marigold_ros.fusion_channels.CHANNELS`, (18, rows, columns) float32.

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
    level = np.log(median(sparse.z))
    part['linear'][...] = linear - np.float32(level)
    for name in ('smooth', 'nearest', 'low', 'high'):
        part[name][...] = getattr(candidates, name) - linear
    if fitted is not None:
        part['map'][...] = fitted.log_depth - linear
        part['affine'][...] = fitted.affine - linear
        part['has_map'][...] = 1.0
        errors = fitted.held_out, fitted.held_border
        part['map_proof'][...] = _proof(candidates, sparse, *errors)
    errors = candidates.held_out, candidates.held_border
    part['point_proof'][...] = _proof(candidates, sparse, *errors)
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
    """Mix the candidates in ``fusion_channels.CHANNELS`` (18, rows, columns)."""
    change, log_error, map_share = (network or _closed_form)(channels)
    log_depth = channels[CHANNELS.index('linear')] + change + level_of(channels)
    return MixedDepth(log_depth, log_error, map_share)


def led_by_map(
    mixture: MixedDepth, log_depth: np.ndarray, error: float, cells: np.ndarray
) -> MixedDepth:
    """
    Let a map (rows, columns) lead where its ``error``, the mean of log depth, is far below.

    At ``cells`` (rows, columns) bool. The network learnt of maps of any quality, and stays
    with the points far beyond them.
    """
    error = max(error, _LEAST_ERROR)
    of_map = MixedDepth(log_depth, np.full_like(log_depth, np.log(error)), np.ones_like(log_depth))
    ratio = np.float32(_SURER * error) * np.exp(-mixture.log_error)
    return average(of_map, mixture, cells / (1.0 + np.square(np.square(ratio))))


def average(one: MixedDepth, other: MixedDepth, weight: np.ndarray | np.float32) -> MixedDepth:
    """
    Average depth of two mixtures by the weight of one, (rows, columns) float32 from 0 to 1.

    The expected error is that of a mixture: either of both may be right.
    """
    apart, rest = one.log_depth - other.log_depth, np.float32(1.0) - weight
    variance = weight * np.exp(2.0 * one.log_error) + rest * np.exp(2.0 * other.log_error)
    variance += weight * rest * apart * apart
    log_depth, share = other.log_depth + weight * apart, weight * one.map_share
    share += rest * other.map_share
    return MixedDepth(log_depth, np.float32(0.5) * np.log(variance), share)


def _closed_form(channels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return what a network would."""
    part = dict(zip(CHANNELS, channels, strict=True))
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


def _proof(
    candidates: Candidates, sparse: SparseDepth, held_out: np.ndarray, held_border: np.ndarray
) -> np.ndarray:
    """
    Return the log of the error at points held out, around 0; (rows, columns).

    Among the points that of ``held_out`` (M,), beyond them that of ``held_border`` (M,).
    """
    among = _spread(held_out, sparse, candidates.grid)
    if not np.isfinite(held_border).any():
        return among
    return np.where(candidates.inside, among, _spread(held_border, sparse, candidates.grid))


def _spread(errors: np.ndarray, sparse: SparseDepth, grid: WorkGrid) -> np.ndarray:
    """Spread errors (M,) over the grid, at half its resolution."""
    known, half = np.isfinite(errors), grid.halved()
    if not known.any():
        return np.zeros((grid.rows, grid.columns), np.float32)
    size = np.minimum(np.abs(errors[known]), LARGEST_LOG_RATIO)
    filled = pull_push(*half.mean_in_cells(sparse.u[known], sparse.v[known], size))
    log_error = np.log(cv2.blur(filled, (_SMOOTHED, _SMOOTHED)) + np.float32(_LEAST_ERROR))
    return grid.refine(log_error * np.float32(0.5) + np.float32(TYPICAL_LOG))
