# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Things of much detail before an image with depth: leaves, branches, railings, wires.

Rendered scenes are made of few and smooth surfaces. In a real room or street plants, cables and
grids have depth steps every few pixels, and image edges are the only hint where these are.
"""

import cv2
import numpy as np

# Leaves of a plant; their sizes as a share of the image's width.
_LEAVES, _LEAF = (30, 900), (0.006, 0.06)
# Size of a plant as a share of the image's width, and distance as a share of what is behind it.
_PLANT, _BEFORE = (0.05, 0.3), (0.35, 0.95)


class _Layer:
    """Colour and depth of a thing that is drawn before an image; inf where it is not."""

    def __init__(self, rgb: np.ndarray, depth: np.ndarray) -> None:
        self.behind = rgb
        self.rgb = np.zeros_like(rgb)
        self.depth: np.ndarray = np.full(depth.shape, np.inf, np.float32)

    def colour(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a colour, mostly like one of the image: things do not stand out."""
        if rng.random() < 0.4:
            return rng.uniform(10, 245, 3)
        height, width = self.depth.shape
        pixel = self.behind[rng.integers(height), rng.integers(width)].astype(np.float64)
        return np.clip(pixel * rng.uniform(0.5, 1.6) + rng.normal(0, 12, 3), 0, 255)

    def before(self, rgb: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an image and its depth, with this layer where it is nearer."""
        nearer = self.depth < np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)
        return np.where(nearer[..., None], self.rgb, rgb), np.where(nearer, self.depth, depth)


def add_clutter(
    rng: np.random.Generator, rgb: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw one to four plants, railings or bundles of wires before an image.

    ``rgb`` (H, W, 3) uint8 and ``depth`` (H, W) in metres, NaN or inf unknown, are unchanged.
    """
    for _ in range(int(rng.integers(1, 5))):
        layer = _Layer(rgb, depth)
        draw = _KINDS[int(rng.integers(len(_KINDS)))]
        draw(rng, layer, depth)
        rgb, depth = layer.before(rgb, depth)
    return rgb, depth.astype(np.float32)


def _place(rng: np.random.Generator, depth: np.ndarray) -> tuple[np.ndarray, float]:
    """Draw a pixel (x, y) and the depth of a thing before what is seen there."""
    height, width = depth.shape
    at = rng.uniform((0, 0.1), (1, 1)) * (width, height)
    x, y = at.astype(int)
    around = depth[max(0, y - 12) : y + 12, max(0, x - 12) : x + 12]
    known = around[np.isfinite(around) & (around > 0)]
    behind = float(np.median(known)) if len(known) else 20.0
    return at, behind * rng.uniform(*_BEFORE)


def _plant(rng: np.random.Generator, layer: _Layer, depth: np.ndarray) -> None:
    """Leaves around a point, or along branches that part from it."""
    width = depth.shape[1]
    at, middle = _place(rng, depth)
    size = rng.uniform(*_PLANT) * width
    length = np.exp(rng.uniform(*np.log(_LEAF))) * width
    # Big leaves are few.
    most = np.clip(6.0 * (size / length) ** 2, _LEAVES[0] + 1, _LEAVES[1])
    count = int(np.exp(rng.uniform(np.log(_LEAVES[0]), np.log(most))))
    away = rng.normal(0, 0.5, (count, 2)) * size * rng.uniform(0.5, 1.0, 2)
    thickness = rng.uniform(0.02, 0.25)
    z = middle * np.exp(thickness * rng.uniform(-1, 1, count))
    if rng.random() < 0.5:
        ends = rng.normal(0, 0.7, (int(rng.integers(3, 12)), 2)) * size + (0, -0.4 * size)
        branch = rng.integers(len(ends), size=count)
        away = ends[branch] * np.sqrt(rng.random((count, 1))) + 0.15 * away
        _branches(rng, layer, at, ends, middle * (1 + thickness))
    colour = layer.colour(rng)
    if rng.random() < 0.5:
        colour = colour.mean() * rng.uniform((0.4, 0.8, 0.2), (1.0, 1.2, 0.8))
    order = np.argsort(-z)
    angle = rng.uniform(0, 360, count)
    axes = length * np.exp(rng.normal(0, 0.35, (count, 1))) * (1.0, rng.uniform(0.2, 0.7)) / 2
    light = 1.0 + rng.uniform(0.05, 0.5) * rng.uniform(-1, 1, count)
    for i in order:
        x, y = (at + away[i]).tolist()
        long, short = (2.0 * axes[i] + 1.0).tolist()
        oval = ((x, y), (long, short), float(angle[i]))
        shade = np.clip(colour * light[i], 0, 255).tolist()
        cv2.ellipse(layer.rgb, oval, shade, -1)
        cv2.ellipse(layer.depth, oval, float(z[i]), -1)


def _branches(
    rng: np.random.Generator, layer: _Layer, at: np.ndarray, ends: np.ndarray, z: float
) -> None:
    colour = (layer.colour(rng).mean() * np.array((1.0, 0.8, 0.6))).tolist()
    for end in ends:
        _line(layer, at, at + end, colour, z, int(rng.integers(1, 4)))


def _railing(rng: np.random.Generator, layer: _Layer, depth: np.ndarray) -> None:
    """Bars between two rails, on a plane that may be turned away."""
    height, width = depth.shape
    at, near = _place(rng, depth)
    along = np.array((rng.uniform(0.1, 0.8) * width, rng.normal(0, 0.15) * height))
    up = np.array((rng.normal(0, 0.05) * width, -rng.uniform(0.08, 0.5) * height))
    # Disparity is linear along a straight rail.
    disparity = np.array((1.0, np.exp(rng.normal(0, 0.3)))) / near
    shrink = disparity[1] / disparity[0]
    colour, thick = layer.colour(rng).tolist(), int(rng.integers(1, 5))
    share = np.linspace(0, 1, int(rng.integers(3, 40)))[:, None]
    feet, bars = at + share * along, up * (1 + share * (shrink - 1))
    z = 1.0 / (disparity[0] + share[:, 0] * (disparity[1] - disparity[0]))
    between = 2.0 / (1.0 / z[:-1] + 1.0 / z[1:])
    for foot, bar, far in zip(feet, bars, z, strict=True):
        _line(layer, foot, foot + bar, colour, far, thick)
    for height_of in np.linspace(0, 1, int(rng.integers(1, 5))):
        rail = feet + height_of * bars
        for start, end, far in zip(rail[:-1], rail[1:], between, strict=True):
            _line(layer, start, end, colour, far, thick)


def _wires(rng: np.random.Generator, layer: _Layer, depth: np.ndarray) -> None:
    """Poles, cables and legs: single lines in any direction."""
    height, width = depth.shape
    colour = layer.colour(rng).tolist()
    for _ in range(int(rng.integers(1, 8))):
        at, z = _place(rng, depth)
        if rng.random() < 0.5:
            reach = np.array((rng.normal(0, 0.03) * width, rng.uniform(0.2, 1.0) * height))
        else:
            reach = rng.normal(0, 0.4, 2) * width
        _line(layer, at, at + reach, colour, z, int(rng.integers(1, 6)))


def _line(
    layer: _Layer, start: np.ndarray, end: np.ndarray, colour: list[float], z: float, thick: int
) -> None:
    ends = [tuple(int(round(x)) for x in point.tolist()) for point in (start, end)]
    cv2.line(layer.rgb, ends[0], ends[1], colour, thick)
    cv2.line(layer.depth, ends[0], ends[1], float(z), thick)


_KINDS = (_plant, _plant, _railing, _wires)
