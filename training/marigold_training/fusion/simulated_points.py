# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sparse depth as LiDARs of many kinds measure it, drawn from known depth with their errors."""

from marigold_ros.frame import SparseDepth
import numpy as np

FEWEST = 20
_MOST = 20000


def draw_points(rng: np.random.Generator, depth: np.ndarray) -> SparseDepth:
    """
    Draw points from depth (H, W) in metres, known where finite and positive; at least 20.

    Anywhere or on 4 to 128 rows, all over the image or in a part of it, with noise, wrong
    calibration, returns from behind edges, dropouts and up to 20 % outliers.
    """
    known = np.isfinite(depth) & (depth > 0)
    for _ in range(8):
        u, v = _pattern(rng, depth.shape)
        kept = _part(rng, u, v, depth.shape)
        kept &= known[v, u] & (rng.random(len(u)) >= _some(rng, 0.3, 0.3))
        u, v = u[kept], v[kept]
        if len(u) >= FEWEST:
            return _measure(rng, depth, known, u, v)
    v, u = np.nonzero(known)
    chosen = rng.choice(len(u), min(500, len(u)), replace=False)
    return SparseDepth(u[chosen], v[chosen], depth[v[chosen], u[chosen]].astype(np.float32))


def _some(rng: np.random.Generator, probability: float, most: float) -> float:
    """Draw a number up to ``most``, 0 unless with a probability."""
    return rng.uniform(0, most) if rng.random() < probability else 0.0


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _pattern(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of all pixels that are measured."""
    height, width = shape
    if rng.random() < 0.45:
        count = int(_log_uniform(rng, 20, min(_MOST, 0.25 * height * width)))
        place = rng.choice(height * width, count, replace=False)
        top = height * _some(rng, 0.35, 0.5)
        u, v = place % width, place // width
        return u[v >= top], v[v >= top]
    rows = int(_log_uniform(rng, 4, min(128, height / 2)))
    top = height * (0.3 if rng.random() < 0.3 else rng.uniform(0, 0.55))
    line = np.linspace(top, height * rng.uniform(0.85, 1.0) - 1, rows)
    if rng.random() < 0.3:  # lines of a spinning LiDAR lie closer together far away
        line = top + (line - top) ** 1.5 / max((line[-1] - top) ** 0.5, 1.0)
    across = np.arange(rng.integers(0, 4), width, rng.integers(1, 5))
    side = (across - width / 2) / width
    bend = rng.normal(0, 0.02) * height * side + rng.normal(0, 0.1) * height * side**2
    row = line[:, None] + (bend if rng.random() < 0.6 else 0 * bend)
    u = np.broadcast_to(across, row.shape)
    v = np.rint(row + rng.normal(0, 0.3 * (rng.random() < 0.3), row.shape)).astype(int)
    inside = (v >= 0) & (v < height)
    return u[inside], v[inside]


def _part(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Choose the part of the image that the LiDAR sees."""
    height, width = shape
    kind = rng.random()
    if kind < 0.72:
        return np.ones(len(u), bool)
    if kind < 0.86:  # sectors of azimuth
        period = width / rng.uniform(3, 14)
        return (u + rng.uniform(0, period)) % period < period * rng.uniform(0.08, 0.5)
    if kind < 0.94:
        middle = width * rng.uniform(0.35, 0.65)
        return (u < middle) == (rng.random() < 0.5)
    left, top = width * rng.uniform(0, 0.5), height * rng.uniform(0, 0.5)
    return (u >= left) & (u < left + width / 2) & (v >= top) & (v < top + height / 2)


def _measure(
    rng: np.random.Generator, depth: np.ndarray, known: np.ndarray, u: np.ndarray, v: np.ndarray
) -> SparseDepth:
    """Measure depth at pixels, with the errors of sensors."""
    height, width = depth.shape
    z = depth[v, u].astype(np.float64)
    if rng.random() < 0.3:  # a LiDAR beside the camera sees past edges
        beside = np.clip(
            u + int(rng.choice((-1, 1)) * rng.uniform(1, 0.025 * width)), 0, width - 1
        )
        behind = known[v, beside] & (depth[v, beside] > 1.1 * z) & (rng.random(len(u)) < 0.4)
        z[behind] = depth[v, beside][behind]
    z *= 1 + _some(rng, 0.6, 0.02) * rng.normal(size=len(z))
    wrong = rng.random(len(z)) < _some(rng, 0.35, 0.2)
    if rng.random() < 0.7:
        z[wrong] *= rng.uniform(0.3, 3, wrong.sum())
    else:
        z[wrong] = rng.uniform(0.3, 1.3 * z.max(), wrong.sum())
    if rng.random() < 0.3:  # wrong calibration
        u = u + round(rng.normal(0, 0.004 * width))
        v = v + round(rng.normal(0, 0.004 * width))
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (z > 0.05)
    if rng.random() < 0.2:
        inside &= z < np.percentile(z, rng.uniform(60, 100))
    u, v, z = u[inside], v[inside], z[inside]
    return SparseDepth(u, v, z.astype(np.float32))
