# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Materials and light of the second generator: solid textures, one lamp, ambient occlusion.

Unlike in the first generator, textures fill space (noise, cells, bands and boards in three
dimensions) and ambient occlusion comes from the distance bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
from marigold_training.second_generator.shapes import march, Thing
import numpy as np
from scipy.ndimage import map_coordinates

PLAIN, MARBLE, STONES, BANDS, BOARD, SPECKLE = range(6)
LATTICE = 32
PALETTE = 6


@dataclass(frozen=True)
class RenderedMaterials:
    """``texture``, reflectances ``first``, ``second`` (M, 3), ``period`` m, ``shine`` by row."""

    texture: np.ndarray
    first: np.ndarray
    second: np.ndarray
    period: np.ndarray
    shine: np.ndarray
    lattice: np.ndarray


@dataclass(frozen=True)
class Lamp:
    """Position (3,) m and colour of the lamp, colours of the ambient light and the sky."""

    place: np.ndarray
    colour: np.ndarray
    around: np.ndarray
    sky: np.ndarray  # (2, 3) horizon and zenith


def draw_materials(rng: np.random.Generator, count: int, sizes: np.ndarray) -> RenderedMaterials:
    """Draw ``count`` materials for things of about ``sizes`` (count,) metres."""
    palette = _palette(rng)
    picked = palette[rng.integers(0, PALETTE, (count, 2))]
    tint = np.exp(rng.normal(0, 0.25, (count, 2, 1)))
    colours = np.clip(picked * tint, 0.02, 0.95)
    mixed = rng.uniform(0.0, 0.7, (count, 1))
    return RenderedMaterials(
        texture=rng.choice(6, count, p=[0.25, 0.25, 0.12, 0.12, 0.1, 0.16]),
        first=colours[:, 0],
        second=colours[:, 1] * (1 - mixed) + colours[:, 0] * mixed,
        period=np.maximum(sizes, 0.02) * np.exp(rng.normal(-0.9, 0.7, count)),
        shine=rng.uniform(0, 0.6, count) * (rng.random(count) < 0.3),
        lattice=rng.random((LATTICE,) * 3).astype(np.float32),
    )


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Draw matching reflectances: greys and browns, with some vivid ones."""
    grey = rng.uniform(0.04, 0.75, (PALETTE, 1))
    lean = rng.normal(0, 1, (PALETTE, 3)) * rng.choice([0.08, 0.25, 0.7], (PALETTE, 1))
    return np.clip(grey * np.exp(lean + rng.normal(0, 0.1, 3)), 0.02, 0.9)


def smooth_noise(lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return smooth noise in [0, 1] at points (N, 3) in periods."""
    cell = np.floor(points)
    part = points - cell
    smooth = cell + part * part * (3 - 2 * part)
    return map_coordinates(lattice, smooth.T, order=1, mode='grid-wrap')


def fractal(lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return four octaves of noise, about 0.9 on average."""
    total = np.zeros(len(points))
    for octave in range(4):
        total += 0.5**octave * smooth_noise(lattice, points * 2**octave + 3 * octave)
    return total


def _hash(lattice: np.ndarray, cell: np.ndarray) -> np.ndarray:
    x, y, z = np.mod(cell, LATTICE).astype(np.int64).T
    return lattice[x, y, z]


def reflectance(
    materials: RenderedMaterials, row: np.ndarray, points: np.ndarray, footprint: np.ndarray
) -> np.ndarray:
    """Return the colour (N, 3) of materials (N,) at points (N, 3) m in each thing's frame."""
    period = materials.period[row]
    scaled = points / period[:, None] + 7.3 * row[:, None]
    sharp = np.clip(1.5 - 2 * footprint / period, 0, 1)
    rough = fractal(materials.lattice, scaled) - 0.9
    mix = np.full(len(row), 0.5)
    for texture in (MARBLE, STONES, BANDS, BOARD, SPECKLE):
        at = np.flatnonzero(materials.texture[row] == texture)
        if len(at):
            mix[at] = 0.5 + sharp[at] * (_pattern(texture, materials, scaled[at], rough[at]) - 0.5)
    plain = materials.texture[row] == PLAIN
    mix = np.where(plain, 0.2 + 0.3 * rough, mix)[:, None]
    colour = materials.first[row] * (1 - mix) + materials.second[row] * mix
    return np.clip(colour * (1 + 0.35 * sharp * rough)[:, None], 0.01, 1)


def _pattern(
    texture: int, materials: RenderedMaterials, points: np.ndarray, rough: np.ndarray
) -> np.ndarray:
    if texture == MARBLE:
        return np.clip(0.5 + 1.6 * rough, 0, 1)
    if texture == BANDS:
        wave = points[:, 1] + 0.4 * points[:, 0] + 0.5 * rough
        return np.clip(0.5 + 3 * np.sin(2 * np.pi * wave), 0, 1)
    if texture == BOARD:
        return np.mod(np.floor(points + 0.01).sum(axis=1), 2)
    if texture == SPECKLE:
        return (_hash(materials.lattice, np.floor(points * 9)) > 0.7).astype(float)
    return _stones(materials.lattice, points)


def _stones(lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cells around scattered points, each of its own shade, with dark joints."""
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


def shade(
    things: list[Thing], lamp: Lamp, points: np.ndarray, normals: np.ndarray, owner: np.ndarray
) -> np.ndarray:
    """
    Return the light (H, W, 3) on points (H, W, 3); ``owner`` (H, W) is their thing or -1.

    Shadows and ambient occlusion are computed on every second pixel.
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
        gap = np.clip(thing.distance_bound(lifted[near]) / reach, 0, 1)
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
    """Return the colours (H, W, 3) of a cloudy sky for unit rays (H, W, 3)."""
    up = np.clip(-directions[..., 1:2], 0, 1)
    colour = lamp.sky[0] * (1 - up**0.6) + lamp.sky[1] * up**0.6
    flat = (directions / (up + 0.25)).reshape(-1, 3) * 2.5
    cover = fractal(lattice, flat) - 0.85
    cover = np.clip(cover * 3, 0, 1).reshape(up.shape) * np.clip(up * 4, 0, 1)
    return colour + 0.7 * cover * (lamp.sky.mean() + 0.4 - colour)


def expose(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convert light (H, W, 3) to uint8: exposure, white balance, blur, noise, gamma."""
    middle = np.median(light.mean(axis=-1)) + 1e-4
    image = light * (rng.uniform(0.12, 0.3) / middle) * np.exp(rng.normal(0, 0.06, 3))
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.45, 0.8))
    grain = rng.standard_normal(image.shape).astype(np.float32) * rng.uniform(0.002, 0.02)
    image = image + grain * np.sqrt(np.maximum(image, 0.02))
    # Highlights roll off instead of clipping.
    image = np.maximum(image, 0) * (1 + image / 9) / (1 + image * rng.uniform(0.1, 0.6))
    return np.rint(255 * np.clip(image, 0, 1) ** (1 / 2.2)).astype(np.uint8)
