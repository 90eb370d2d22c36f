# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sparse depth as sensors of many kinds and densities measure it, drawn from known depth."""

import cv2
from marigold_ros.frame import SparseDepth
from marigold_training.data.displaced_lidar import seen_from_beside, through_windows
import numpy as np

# Points of a recording's scan that make an example; simulated sensors may give three.
FEWEST = 20
_LEAST = 3
# Kinds of patterns of points, from 0.15 to 1: up to these anywhere, as of a radar, along a path,
# and lines.
_ANYWHERE, _OF_RADAR, _ON_PATH = 0.4, 0.44, 0.5
# How often nothing comes back from a part of the image, such as glass, water or a dark wall; its
# least and largest width and height. Without these, holes would only be what is out of range.
_HOLE, _HOLE_SIZE = 0.3, (0.1, 0.9)
# How often all points are on one surface.
_ONE_SURFACE = 0.08
# How often a LiDAR is beside the camera, and part of what it sees are windows.
_BESIDE, _GLASS = 0.75, 0.3
Pixels = tuple[np.ndarray, np.ndarray]


def draw_points(rng: np.random.Generator, depth: np.ndarray) -> SparseDepth:
    """
    Draw points from depth (H, W) in metres, known where finite and positive; at least three.

    From three points to every pixel: anywhere, on 1 to 128 lines, along the paths of solid-state
    LiDARs, as of a radar or a depth camera, over the image or in a part of it, around a hole, on
    one surface; with noise, wrong calibration, returns from behind edges, dropouts and up to 30 %
    outliers.
    """
    known = np.isfinite(depth) & (depth > 0)
    for _ in range(8):
        kind = rng.random()
        if kind < 0.15:
            u, v = _depth_camera(rng, depth)
            kept = known[v, u]
        else:
            u, v = _pattern(rng, depth.shape, kind)
            kept = _part(rng, u, v, depth.shape)
            kept &= known[v, u] & (rng.random(len(u)) >= _some(rng, 0.3, 0.3))
            if rng.random() < _ONE_SURFACE:
                kept &= _on_one_surface(rng, depth, known)[v, u]
        if rng.random() < _HOLE:
            kept &= ~_in_hole(rng, u, v, depth.shape)
        u, v = u[kept], v[kept]
        z = depth[v, u].astype(np.float64)
        if kind > _OF_RADAR and rng.random() < _BESIDE:
            u, v, z = seen_from_beside(rng, depth, u, v)
        if kind > _OF_RADAR and rng.random() < _GLASS:
            z = through_windows(rng, z, u, v, depth.shape)
            u, v, z = (part[np.isfinite(z)] for part in (u, v, z))
        if len(u) >= _LEAST:
            return _measure(rng, depth, known, u, v, z)
    v, u = np.nonzero(known)
    chosen = rng.choice(len(u), min(500, len(u)), replace=False)
    return SparseDepth(u[chosen], v[chosen], depth[v[chosen], u[chosen]].astype(np.float32))


def _some(rng: np.random.Generator, probability: float, most: float) -> float:
    """Draw a number up to ``most``, 0 unless with a probability."""
    return rng.uniform(0, most) if rng.random() < probability else 0.0


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _pattern(rng: np.random.Generator, shape: tuple[int, ...], kind: float) -> Pixels:
    """Columns and rows of all pixels that are measured, by a kind from 0.15 to 1."""
    height, width = shape
    if kind < _ANYWHERE:
        count = int(_log_uniform(rng, 12, 0.5 * height * width))
        place = rng.choice(height * width, count, replace=False)
        top = height * _some(rng, 0.35, 0.5)
        u, v = place % width, place // width
        return u[v >= top], v[v >= top]
    if kind < _OF_RADAR:
        return _radar(rng, shape)
    if kind < _ON_PATH:
        return _path(rng, shape)
    return _lines(rng, shape)


def _lines(rng: np.random.Generator, shape: tuple[int, ...]) -> Pixels:
    """Lines of a spinning LiDAR, which are nearly rows."""
    height, width = shape
    rows = int(_log_uniform(rng, 1, min(128, height / 2)))
    top = height * (0.3 if rng.random() < 0.3 else _some(rng, 0.85, 0.55))
    line = np.linspace(top, height * rng.uniform(0.85, 1.0) - 1, rows)
    if rng.random() < 0.3:  # they lie closer together far away
        line = top + (line - top) ** 1.5 / max((line[-1] - top) ** 0.5, 1.0)
    across = np.arange(rng.integers(0, 4), width, rng.integers(1, 5))
    side = (across - width / 2) / width
    bend = rng.normal(0, 0.02) * height * side + rng.normal(0, 0.1) * height * side**2
    row = line[:, None] + (bend if rng.random() < 0.6 else 0 * bend)
    u = np.broadcast_to(across, row.shape)
    v = np.rint(row + rng.normal(0, 0.3 * (rng.random() < 0.3), row.shape)).astype(int)
    inside = (v >= 0) & (v < height)
    return u[inside], v[inside]


def _path(rng: np.random.Generator, shape: tuple[int, ...]) -> Pixels:
    """Path of a solid-state LiDAR: a rosette, or a Lissajous figure over the image."""
    height, width = shape
    angle = np.linspace(0, 1, int(_log_uniform(rng, 200, 20000)))
    fast, slow = rng.uniform(20, 90), rng.uniform(1, 30)
    first, second = np.cos(2 * np.pi * fast * angle), 2 * np.pi * slow * angle
    if rng.random() < 0.5:
        x, y = first * np.cos(second), first * np.sin(second)
    else:
        x, y = first, np.cos(second + rng.uniform(0, 6))
    size = rng.uniform(0.3, 0.5)
    u = np.rint(width * (0.5 + size * x)).astype(int)
    v = np.rint(height * (rng.uniform(0.45, 0.6) + size * y)).astype(int)
    inside = (v >= 0) & (v < height) & (u >= 0) & (u < width)
    place = np.unique(v[inside] * width + u[inside])
    return place % width, place // width


def _radar(rng: np.random.Generator, shape: tuple[int, ...]) -> Pixels:
    """Few targets, most of them in a band across the image."""
    height, width = shape
    count = int(_log_uniform(rng, 3, 60))
    v = np.clip(rng.normal(rng.uniform(0.4, 0.7), 0.1, count), 0, 0.999) * height
    place = np.unique(v.astype(int) * width + rng.integers(0, width, count))
    return place % width, place // width


def _depth_camera(rng: np.random.Generator, depth: np.ndarray) -> Pixels:
    """Every pixel of a grid but holes in blobs, beside edges, at a border and out of range."""
    height, width = depth.shape
    seen = np.zeros(depth.shape, bool)
    stride = int(rng.choice((1, 1, 2, 3, 4)))
    seen[rng.integers(stride) :: stride, rng.integers(stride) :: stride] = True
    if rng.random() < 0.8:
        cells = int(rng.integers(4, 20))
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        blobs = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        seen &= blobs < np.quantile(blobs, rng.uniform(0.4, 0.95))
    if rng.random() < 0.4:  # shadows beside steps
        beside = np.roll(depth, int(rng.integers(1, 6)), axis=1)
        seen &= (beside > 0.95 * depth) & (depth > 0.95 * beside)
    if rng.random() < 0.3:
        border = round(rng.uniform(0.02, 0.2) * width)
        seen[:, :border] = False
    if rng.random() < 0.4:
        seen &= depth < np.quantile(depth[np.isfinite(depth)], rng.uniform(0.3, 0.95))
    v, u = np.nonzero(seen)
    return u, v


def _on_one_surface(rng: np.random.Generator, depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pixels (H, W) around a random one whose inverse depth continues its plane."""
    height, width = depth.shape
    inverse = np.where(known, 1.0 / np.where(known, depth, 1.0), np.nan)
    v, u = int(rng.integers(2, height - 2)), int(rng.integers(2, width - 2))
    across = (inverse[v, u + 2] - inverse[v, u - 2]) / 4
    down = (inverse[v + 2, u] - inverse[v - 2, u]) / 4
    y, x = np.mgrid[:height, :width]
    plane = inverse[v, u] + across * (x - u) + down * (y - v)
    return np.asarray(np.abs(inverse - plane) < 0.03 * np.abs(plane))


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


def _in_hole(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Choose the part of the image, a box or an ellipse, from which nothing comes back."""
    height, width = shape
    x = np.abs(u / width - rng.random()) / (0.5 * rng.uniform(*_HOLE_SIZE))
    y = np.abs(v / height - rng.random()) / (0.5 * rng.uniform(*_HOLE_SIZE))
    return np.maximum(x, y) < 1 if rng.random() < 0.5 else np.hypot(x, y) < 1


def _measure(
    rng: np.random.Generator,
    depth: np.ndarray,
    known: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    z: np.ndarray,
) -> SparseDepth:
    """Measure depth (M,) at pixels, with the errors of sensors."""
    height, width = depth.shape
    if rng.random() < 0.3:  # any sensor may mix what is beside an edge; `displaced_lidar` is exact
        beside = np.clip(
            u + int(rng.choice((-1, 1)) * rng.uniform(1, 0.025 * width)), 0, width - 1
        )
        behind = known[v, beside] & (depth[v, beside] > 1.1 * z) & (rng.random(len(u)) < 0.4)
        z[behind] = depth[v, beside][behind]
    z *= 1 + _some(rng, 0.6, 0.02) * rng.normal(size=len(z))
    z *= 1 + np.minimum(_some(rng, 0.2, 0.004) * z, 0.05) * rng.normal(size=len(z))  # triangulated
    z *= 1 + _some(rng, 0.05, 0.05) * rng.choice((-1, 1))
    wrong = rng.random(len(z)) < _some(rng, 0.35, 0.3)
    if rng.random() < 0.7:
        z[wrong] *= rng.uniform(0.3, 3, wrong.sum())
    else:
        z[wrong] = rng.uniform(0.3, max(0.3, 1.3 * z.max()), wrong.sum())
    if rng.random() < 0.15:  # wrong calibration
        u = u + round(rng.normal(0, 0.004 * width))
        v = v + round(rng.normal(0, 0.004 * width))
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (z > 0.05)
    if rng.random() < 0.2:
        inside &= z < np.percentile(z, rng.uniform(60, 100))
    if np.count_nonzero(inside) >= _LEAST:
        u, v, z = u[inside], v[inside], z[inside]
    u, v = np.clip(u, 0, width - 1), np.clip(v, 0, height - 1)
    return SparseDepth(u, v, z.astype(np.float32))
