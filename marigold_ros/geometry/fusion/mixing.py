# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The mixture of the candidates in log depth, by the network or in closed form.

In closed form the points' share is the mean of the linear and the edge-aware candidate, and the
map's follows the errors to be expected of both: log-linear in what is known at each cell, with
coefficients by least squares over scenes of the generator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from marigold_ros.fusion_channels import CANDIDATES, CHANNELS
import numpy as np

# Maps the channels (17, rows, columns) to logits of the candidates' shares (the linear one first),
# a residual of log depth and the log of the expected error: (8, rows, columns) float32.
FusionModel = Callable[[np.ndarray], np.ndarray]

# Coefficients of the log of the expected error: constant, then by channel.
_ERROR_OF_POINTS = (-1.11, {'point_proof': 0.51, 'distance': 0.35, 'inside': -0.47})
_RANGE, _EDGES = 0.21, 0.4  # of the logs of high - low and of |smooth - linear|
_ERROR_OF_MAP = (-1.88, {'map_proof': 1.01, 'inside': -0.37})
_AWAY = 0.38  # of the log of |map - points|
_LEAST = np.float32(0.01)
# Odds of the map are the inverse errors' to this power.
_POWER = 4.0


@dataclass(frozen=True)
class Mixture:
    """
    Mixed log depth and its expected error, (rows, columns) float32.

    ``log_error`` is the log of the relative error that 68 % stay below. ``shares`` are means by
    candidate, and ``map_share`` (rows, columns) is the map's, None without a map.
    """

    log_depth: np.ndarray
    log_error: np.ndarray
    shares: Mapping[str, float]
    map_share: np.ndarray | None


def mix(channels: np.ndarray, network: FusionModel | None) -> Mixture:
    """Mix the candidates in `fusion_channels.CHANNELS` (17, rows, columns)."""
    part = dict(zip(CHANNELS, channels, strict=True))
    has_map = bool(part['has_map'].any())
    if network is None:
        shares, residual, log_error = _closed_form(part, has_map)
    else:
        outputs = network(channels)
        shares = _softmax(outputs[: len(CANDIDATES)], has_map)
        residual, log_error = outputs[len(CANDIDATES) :]
    level = part['level'][0, 0] + np.float32(1.5)
    log_depth = part['linear'] + residual + level
    for name, share in zip(CANDIDATES[1:], shares[1:], strict=True):
        log_depth += share * part[name]
    means = {name: float(share.mean()) for name, share in zip(CANDIDATES, shares, strict=True)}
    return Mixture(log_depth, log_error, means, shares[-1] if has_map else None)


def _softmax(logits: np.ndarray, has_map: bool) -> np.ndarray:
    shares = logits - logits.max(axis=0)
    np.exp(shares, out=shares)
    if not has_map:
        shares[-1] = 0.0
    shares /= shares.sum(axis=0)
    return shares


def _closed_form(
    part: Mapping[str, np.ndarray], has_map: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shares (6, rows, columns), no residual, and the log of the expected error."""
    points = np.float32(0.5) * part['smooth']  # relative to linear
    log_error = _expected(part, *_ERROR_OF_POINTS)
    log_error += np.float32(_RANGE) * np.log(part['high'] - part['low'] + _LEAST)
    log_error += np.float32(_EDGES) * np.log(np.abs(part['smooth']) + _LEAST)
    shares = np.zeros((len(CANDIDATES), *points.shape), np.float32)
    if has_map:
        of_map = _expected(part, *_ERROR_OF_MAP)
        of_map += np.float32(_AWAY) * np.log(np.abs(part['map'] - points) + _LEAST)
        odds = np.clip(np.float32(_POWER) * (log_error - of_map), -30.0, 30.0)
        shares[-1] = 1.0 / (1.0 + np.exp(-odds))
        log_error += shares[-1] * (of_map - log_error)
    shares[0] = shares[1] = np.float32(0.5) * (1.0 - shares[-1])
    return shares, np.zeros_like(points), log_error


def _expected(
    part: Mapping[str, np.ndarray], constant: float, coefficients: Mapping[str, float]
) -> np.ndarray:
    total = np.full_like(part['linear'], constant)
    for name, coefficient in coefficients.items():
        total += np.float32(coefficient) * part[name]
    return total
