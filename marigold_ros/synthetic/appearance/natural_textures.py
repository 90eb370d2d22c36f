# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Textures with the statistics of nature: clouds of 1/f noise, and dead leaves.

Dead leaves (Lee, Mumford and Huang 2001) are overlapping shapes of all sizes: sharp edges of
colour without an edge of depth. Both are periodic tables with levels of detail, from a fixed bank.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

SIDE = 256  # texels of a table
LEVELS = 7  # each half as large as the one before
LEAVES = 420  # shapes in a table
BANK = 24  # tables of each sort; about 50 MB in all
SQUARE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
TRIANGLE = np.array([[-1.0, -1], [1, -1], [0, 1]])
ROW = 256  # cv2.remap takes no rows of more than 32767


@dataclass(frozen=True)
class Atlas:
    """Factors on colour about 1, periodic, finest level first: each (S, S, 3) float32."""

    leaves: tuple[np.ndarray, ...]
    clouds: tuple[np.ndarray, ...]


def draw_atlas(rng: np.random.Generator) -> Atlas:
    """Pick both tables of one image."""
    return Atlas(*(table[int(rng.integers(BANK))] for table in _bank()))


@cache
def _bank() -> tuple[list[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]]:
    """Draw all tables, once in a process and always the same."""
    leaves, clouds = [], []
    for seed in range(BANK):
        rng = np.random.default_rng(seed)
        noise = _clouds(rng)
        grain = np.clip(1 + 0.25 * noise.mean(axis=2, keepdims=True), 0.3, 2)
        leaves.append(_pyramid((_dead_leaves(rng) * grain).astype(np.float32)))
        clouds.append(_pyramid(np.exp(rng.uniform(0.2, 0.45) * noise).astype(np.float32)))
    return leaves, clouds


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Draw noise whose amplitude falls as 1/f, strong in grey, weak in colour, (S, S, 3)."""
    across, down = np.fft.rfftfreq(SIDE) * SIDE, np.fft.fftfreq(SIDE)[:, None] * SIDE
    frequency = np.hypot(across, down)
    frequency[0, 0] = np.inf
    fall = frequency ** -rng.uniform(0.9, 1.5)
    white = rng.standard_normal((3, SIDE, SIDE), dtype=np.float32)
    planes = np.fft.irfft2(np.fft.rfft2(white) * fall, s=(SIDE, SIDE))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    grey, warm, green = planes * np.array([1.0, 0.25, 0.12])[:, None, None]
    return np.stack([grey + warm, grey + green, grey - warm], axis=-1)


def _dead_leaves(rng: np.random.Generator) -> np.ndarray:
    """Draw discs, rectangles and triangles of sizes spread as 1/size^3, later ones on top."""
    grey = np.exp(rng.normal(-0.2, 0.55, (LEAVES, 1)))
    vivid = 0.12 + 0.5 * (rng.random((LEAVES, 1)) < 0.2)
    colours = np.clip(grey * np.exp(rng.normal(0, 1, (LEAVES, 3)) * vivid), 0.05, 2.2)
    smallest, largest, share = 3.0, 55.0, rng.random(LEAVES)
    sizes = (smallest**-2 + share * (largest**-2 - smallest**-2)) ** -0.5
    places = rng.uniform(0, SIDE, (LEAVES, 2))
    shapes, turns = rng.integers(0, 3, LEAVES), rng.uniform(0, np.pi, LEAVES)
    stretch = rng.uniform(0.3, 1.0, LEAVES)
    table = np.full((SIDE, SIDE, 3), 0.8, dtype=np.float32)
    for i in np.argsort(-sizes + rng.normal(0, 6, LEAVES), kind='stable'):  # large ones first
        for x in _wrapped(places[i, 0], sizes[i]):
            for y in _wrapped(places[i, 1], sizes[i]):
                colour = tuple(float(c) for c in colours[i])
                _leaf(table, int(shapes[i]), (x, y), sizes[i], (turns[i], stretch[i]), colour)
    return table


def _wrapped(place: float, size: float) -> list[float]:
    """Return the places at which a shape appears in a periodic table."""
    return [p for p in (place, place - SIDE, place + SIDE) if -1.5 * size < p < SIDE + 1.5 * size]


def _leaf(
    table: np.ndarray, shape: int, place: tuple, size: float, pose: tuple, colour: tuple
) -> None:
    turn, stretch = pose
    x, y = round(place[0]), round(place[1])
    if shape == 0:
        axes = (max(1, round(size)), max(1, round(size * stretch)))
        cv2.ellipse(table, (x, y), axes, float(np.rad2deg(turn)), 0, 360, colour, -1)
        return
    corners = (SQUARE if shape == 1 else TRIANGLE) * [size, size * stretch]
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = corners @ np.array([[cosine, sine], [-sine, cosine]]) + place
    cv2.fillConvexPoly(table, np.round(turned).astype(np.int32), colour)


def _pyramid(table: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [table]
    for _ in range(LEVELS - 1):
        size = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (size, size), interpolation=cv2.INTER_AREA))
    return tuple(levels)


def look_up(
    levels: tuple[np.ndarray, ...], u: np.ndarray, v: np.ndarray, blur: np.ndarray
) -> np.ndarray:
    """
    Read (N, 3) float32 from a table at (N,) coordinates in periods.

    ``blur`` (N,) is the pixel size in periods.
    """
    level = np.clip(np.log2(np.maximum(blur * SIDE, 1e-6)), 0, LEVELS - 1).astype(np.int8)
    u, v = u - np.floor(u), v - np.floor(v)
    values = np.empty((len(u), 3), dtype=np.float32)
    for index in range(int(level.min(initial=LEVELS)), int(level.max(initial=-1)) + 1):
        at = np.flatnonzero(level == index)
        if not len(at):
            continue
        size = levels[index].shape[0]
        filled = np.resize(at, (-(-len(at) // ROW), ROW))
        x, y = (c[filled].astype(np.float32) * size for c in (u, v))
        read = cv2.remap(levels[index], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        values[at] = read.reshape(-1, 3)[: len(at)]
    return values
