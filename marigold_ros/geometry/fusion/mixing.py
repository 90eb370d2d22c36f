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

from marigold_ros.fusion_channels import CHANNELS
import numpy as np

# Maps the channels (17, rows, columns) to three, float32: log depth relative to the linear
# candidate, the log of the expected relative error, and the share of the map.
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

    ``log_error`` is the log of the relative error that 68 % stay below; ``map_share`` (rows,
    columns) is 0 without a map.
    """

    log_depth: np.ndarray
    log_error: np.ndarray
    map_share: np.ndarray


def mix(channels: np.ndarray, network: FusionModel | None) -> Mixture:
    """Mix the candidates in ``fusion_channels.CHANNELS`` (17, rows, columns)."""
    part = dict(zip(CHANNELS, channels, strict=True))
    change, log_error, map_share = _closed_form(part) if network is None else network(channels)
    level = part['level'][0, 0] + np.float32(1.5)
    return Mixture(part['linear'] + change + level, log_error, map_share)


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
