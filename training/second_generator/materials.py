# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Colour and light of the second generator: solid textures, one lamp, nearness to other things.

Textures fill space (noise, cells, bands and boards in three dimensions) instead of lying on faces,
and shade in corners comes from the distance bounds: nothing here is how the first generator does
it, so that what is learnt from the one has to hold for the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from second_generator.shapes import march, Thing

PLAIN, MARBLE, STONES, BANDS, BOARD, SPECKLE = range(6)
LATTICE = 32
PALETTE = 6


@dataclass(frozen=True)
class Looks:
    """Per row: ``texture``, reflectances ``first``, ``second`` (M, 3), ``period`` m, ``shine``."""

    texture: np.ndarray
    first: np.ndarray
    second: np.ndarray
    period: np.ndarray
    shine: np.ndarray
    lattice: np.ndarray


@dataclass(frozen=True)
class Lamp:
    """Where light comes from (3,) m, its colour, that from all around, colours of the sky."""

    place: np.ndarray
    colour: np.ndarray
    around: np.ndarray
    sky: np.ndarray  # (2, 3) horizon and zenith


def draw_looks(rng: np.random.Generator, count: int, sizes: np.ndarray) -> Looks:
    """Draw looks for ``count`` rows of things about ``sizes`` (count,) metres large."""
    palette = _palette(rng)
    picked = palette[rng.integers(0, PALETTE, (count, 2))]
    tint = np.exp(rng.normal(0, 0.25, (count, 2, 1)))
    colours = np.clip(picked * tint, 0.02, 0.95)
    mixed = rng.uniform(0.0, 0.7, (count, 1))
    return Looks(
        texture=rng.choice(6, count, p=[0.25, 0.25, 0.12, 0.12, 0.1, 0.16]),
        first=colours[:, 0],
        second=colours[:, 1] * (1 - mixed) + colours[:, 0] * mixed,
        period=np.maximum(sizes, 0.02) * np.exp(rng.normal(-0.9, 0.7, count)),
        shine=rng.uniform(0, 0.6, count) * (rng.random(count) < 0.3),
        lattice=rng.random((LATTICE,) * 3).astype(np.float32),
    )


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Reflectances that go together: greys and browns, with some vivid ones."""
    grey = rng.uniform(0.04, 0.75, (PALETTE, 1))
    lean = rng.normal(0, 1, (PALETTE, 3)) * rng.choice([0.08, 0.25, 0.7], (PALETTE, 1))
    return np.clip(grey * np.exp(lean + rng.normal(0, 0.1, 3)), 0.02, 0.9)


def noise(lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1] at points (N, 3) in periods."""
    cell = np.floor(points)
    part = points - cell
    smooth = cell + part * part * (3 - 2 * part)
    return map_coordinates(lattice, smooth.T, order=1, mode='grid-wrap')


def fractal(lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Four octaves of noise, about 0.9 in the mean."""
    total = np.zeros(len(points))
    for octave in range(4):
        total += 0.5**octave * noise(lattice, points * 2**octave + 3 * octave)
    return total


def _hash(lattice: np.ndarray, cell: np.ndarray) -> np.ndarray:
    x, y, z = np.mod(cell, LATTICE).astype(np.int64).T
    return lattice[x, y, z]


def reflectance(
    looks: Looks, row: np.ndarray, points: np.ndarray, footprint: np.ndarray
) -> np.ndarray:
    """Colour (N, 3) of rows (N,) at points in the frame of each thing (N, 3) m."""
    period = looks.period[row]
    scaled = points / period[:, None] + 7.3 * row[:, None]
    sharp = np.clip(1.5 - 2 * footprint / period, 0, 1)
    rough = fractal(looks.lattice, scaled) - 0.9
    mix = np.full(len(row), 0.5)
    for texture in (MARBLE, STONES, BANDS, BOARD, SPECKLE):
        at = np.flatnonzero(looks.texture[row] == texture)
        if len(at):
            mix[at] = 0.5 + sharp[at] * (_pattern(texture, looks, scaled[at], rough[at]) - 0.5)
    plain = looks.texture[row] == PLAIN
    mix = np.where(plain, 0.2 + 0.3 * rough, mix)[:, None]
    colour = looks.first[row] * (1 - mix) + looks.second[row] * mix
    return np.clip(colour * (1 + 0.35 * sharp * rough)[:, None], 0.01, 1)


def _pattern(texture: int, looks: Looks, points: np.ndarray, rough: np.ndarray) -> np.ndarray:
    if texture == MARBLE:
        return np.clip(0.5 + 1.6 * rough, 0, 1)
    if texture == BANDS:
        wave = points[:, 1] + 0.4 * points[:, 0] + 0.5 * rough
        return np.clip(0.5 + 3 * np.sin(2 * np.pi * wave), 0, 1)
    if texture == BOARD:
        return np.mod(np.floor(points + 0.01).sum(axis=1), 2)
    if texture == SPECKLE:
        return (_hash(looks.lattice, np.floor(points * 9)) > 0.7).astype(float)
    return _stones(looks.lattice, points)


def _stones(lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cells about scattered points, each of its own shade, with dark joints."""
    base = np.floor(points - 0.5)
    nearest, second = np.full(len(points), 9.0), np.full(len(points), 9.0)
    shade = np.zeros(len(points))
    for corner in np.ndindex(2, 2, 2):
        cell = base + corner
        shift = np.stack([_hash(lattice, cell + 5 * k + 1) for k in range(3)], axis=1)
        away = np.linalg.norm(points - cell - 0.25 - 0.5 * shift, axis=1)
        closer = away < nearest
        second = np.where(closer, nearest, np.minimum(second, away))
        nearest = np.where(closer, away, nearest)
        shade = np.where(closer, _hash(lattice, cell + 13), shade)
    return np.where(second - nearest < 0.08, 0.0, 0.25 + 0.75 * shade)


def light_up(
    things: list[Thing],
    lamp: Lamp,
    points: np.ndarray,
    normals: np.ndarray,
    owner: np.ndarray,
) -> np.ndarray:
    """
    Light (H, W, 3) on points (H, W, 3) with normals, ``owner`` (H, W) their thing or -1.

    Shadows and nearness are found on every second pixel.
    """
    height, width = owner.shape
    coarse, facing, own = points[::2, ::2], normals[::2, ::2], owner[::2, ::2].ravel()
    lifted = (coarse + 2e-3 * facing).reshape(-1, 3)
    towards = lamp.place - lifted
    distance = np.linalg.norm(towards, axis=1)
    towards /= distance[:, None]
    lit: np.ndarray = np.ones(len(lifted))
    clear: np.ndarray = np.ones(len(lifted))
    asked = np.flatnonzero((towards * facing.reshape(-1, 3)).sum(axis=1) > 0)
    for index, thing in enumerate(things):
        hit = march(thing, lifted[asked], towards[asked], distance[asked])
        lit[asked[np.isfinite(hit)]] = 0
        reach = 0.35 * thing.radius + 0.05
        near = np.flatnonzero(
            (own != index)
            & (((lifted - thing.centre) ** 2).sum(axis=1) < (thing.radius + reach) ** 2)
        )
        gap = np.clip(thing.at(lifted[near]) / reach, 0, 1)
        clear[near] = np.minimum(clear[near], 0.45 + 0.55 * gap)
    shape = coarse.shape[:2]
    both = np.stack([lit, clear], axis=-1).reshape(*shape, 2)
    both = cv2.resize(both, (width, height), interpolation=cv2.INTER_LINEAR)
    towards = lamp.place - points
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    cosine = np.clip((towards * normals).sum(axis=-1), 0, 1) * both[..., 0]
    above = (0.65 - 0.35 * normals[..., 1]) * both[..., 1]
    return cosine[..., None] * lamp.colour + above[..., None] * lamp.around


def sky(lamp: Lamp, lattice: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) of the sky with clouds for unit rays (H, W, 3)."""
    up = np.clip(-directions[..., 1:2], 0, 1)
    colour = lamp.sky[0] * (1 - up**0.6) + lamp.sky[1] * up**0.6
    flat = (directions / (up + 0.25)).reshape(-1, 3) * 2.5
    cover = fractal(lattice, flat) - 0.85
    cover = np.clip(cover * 3, 0, 1).reshape(up.shape) * np.clip(up * 4, 0, 1)
    return colour + 0.7 * cover * (lamp.sky.mean() + 0.4 - colour)


def expose(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn light (H, W, 3) into an image, uint8: exposure, white balance, blur, noise, gamma."""
    middle = np.median(light.mean(axis=-1)) + 1e-4
    image = light * (rng.uniform(0.12, 0.3) / middle) * np.exp(rng.normal(0, 0.06, 3))
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.45, 0.8))
    grain = rng.standard_normal(image.shape).astype(np.float32) * rng.uniform(0.002, 0.02)
    image = image + grain * np.sqrt(np.maximum(image, 0.02))
    # Highlights roll off instead of being cut.
    image = np.maximum(image, 0) * (1 + image / 9) / (1 + image * rng.uniform(0.1, 0.6))
    return np.rint(255 * np.clip(image, 0, 1) ** (1 / 2.2)).astype(np.uint8)
