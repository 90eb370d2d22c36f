# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Procedural textures of whole images: patterns in surface metres, faded before they alias.

A pattern maps a patch of pixels to the mix of its material's two colours (N,) and a factor on the
result, (N, 1), (N, 3) or scalar; patterns have period one. Noise is read from one periodic lattice
for all pixels at once, and patterns run once per kind, not once per material.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.synthetic.appearance.natural_textures import Atlas, look_up
from marigold_ros.synthetic.raycast.description import Materials
import numpy as np

LATTICE = 128  # noise repeats after so many periods
OCTAVES = 4

Pattern = tuple  # (mix, factor)


@dataclass(frozen=True)
class Patch:
    """
    Pixels of one kind of texture.

    ``u``, ``v`` (N,) in periods, ``metres`` (2, N), ``noise`` (N,) about [-1, 1], ``blur`` (N,)
    pixel size in periods, ``footprint`` (N,) the same in metres, ``seed`` (2, N) in [0, 100] per
    material, ``extra`` (4, N) layout, ``lattice`` (128, 128) random numbers,
    ``atlas`` tables of natural textures.
    """

    u: np.ndarray
    v: np.ndarray
    metres: np.ndarray
    noise: np.ndarray
    blur: np.ndarray
    footprint: np.ndarray
    seed: np.ndarray
    extra: np.ndarray
    lattice: np.ndarray
    atlas: Atlas


def _fade(value: np.ndarray, blur: np.ndarray, mean: float = 0.5) -> np.ndarray:
    """Blend a pattern of period one into its mean where a pixel covers too much of it."""
    return mean + (value - mean) * np.clip(1.5 - 2.0 * blur, 0, 1)


def _random(patch: Patch, column: np.ndarray, row: np.ndarray | float) -> np.ndarray:
    """Return a random number in [0, 1] per cell, another set per material."""
    x = np.mod(column + np.floor(patch.seed[0]), LATTICE).astype(np.int32)
    y = np.mod(row + np.floor(patch.seed[1]), LATTICE).astype(np.int32)
    return patch.lattice[y, x] * 0.5 + 0.5


def _gradient(patch: Patch) -> Pattern:
    turn = patch.seed[0]
    along = patch.u * np.sin(turn) + patch.v * np.cos(turn)
    return 0.5 + 0.5 * np.sin(along * 0.4 + patch.seed[1]), 1.0


def _checker(patch: Patch) -> Pattern:
    """Lay tiles with joints; two thirds of the materials have tiles of one colour."""
    u, v = patch.u, patch.v
    board = np.mod(np.floor(u) + np.floor(v), 2)
    gap = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v)))
    joint = gap < 0.02 + 0.3 * patch.blur
    board = np.where(patch.seed[0] < 35, board, 0.4 * _random(patch, np.floor(u), np.floor(v)))
    return _fade(board, patch.blur), (1 - _fade(joint * 0.35, patch.blur, 0.03))[:, None]


def _stripes(patch: Patch) -> Pattern:
    along = np.where(patch.seed[0] < 70, patch.u, patch.v)
    width = 0.2 + 0.006 * patch.seed[1]
    return _fade(along - np.floor(along) < width, patch.blur), 1.0


def _bricks(patch: Patch) -> Pattern:
    across, along = patch.v * 5, patch.u * 2
    row = np.floor(across)
    x = along + 0.5 * np.mod(row, 2)
    column = np.floor(x)
    joint = (x - column < 0.06) | (across - row < 0.14)
    mix = _fade(0.8 * _random(patch, column + 7 * row, row), patch.blur * 3, 0.4)
    return mix, (1 + _fade(joint * 0.35, patch.blur * 5, 0.06))[:, None]


def _planks(patch: Patch) -> Pattern:
    lengthways = patch.seed[0] < 50
    across = np.where(lengthways, patch.u, patch.v) * 4
    along = np.where(lengthways, patch.v, patch.u)
    plank = np.floor(across)
    board = np.floor(along * 0.5 + 5 * _random(patch, plank, plank * 3))
    grain = _fade(np.sin(9 * (across + 0.6 * patch.noise)), patch.blur * 8, 0.0)
    joint = across - plank < 0.05 + 0.6 * patch.blur
    mix = _fade(0.2 + 0.7 * _random(patch, plank, board + 5), patch.blur * 3) + 0.15 * grain
    return np.clip(mix, 0, 1), (1 - _fade(joint * 0.4, patch.blur * 3, 0.04))[:, None]


def _wood(patch: Patch) -> Pattern:
    lengthways = patch.seed[0] < 50
    across = np.where(lengthways, patch.u, patch.v) * 2
    along = np.where(lengthways, patch.v, patch.u)
    phase = across + 0.5 * patch.noise + 0.2 * np.sin(along)
    return _fade(0.5 + 0.5 * np.sin(2 * np.pi * phase), patch.blur * 3), 1.0


def _patches(patch: Patch) -> Pattern:
    return np.clip(0.5 + (patch.noise - 0.1) * (1 + 0.04 * patch.seed[0]), 0, 1), 1.0


def _cells(patch: Patch) -> Pattern:
    """Paint cells of their own colours: books in a row, mosaics."""
    column = np.floor(patch.u)
    row = np.where(patch.seed[0] < 60, 0, np.floor(patch.v))
    channels = [_random(patch, column + 11 * k, row + 29 * k) for k in range(3)]
    grey = _random(patch, column + 50, row)
    tint = 0.35 + 0.6 * np.stack(channels, axis=1) + 0.8 * grey[:, None]
    mix = _random(patch, column + 3, row + 57)
    return _fade(mix, patch.blur), _fade(tint, patch.blur[:, None], 1.05)


def _facade(patch: Patch) -> Pattern:
    """Paint rows of windows with frames, some lit or reflecting, at one storey per period."""
    density = 0.7 + 0.012 * patch.seed[1]
    wide = 0.25 + 0.0025 * patch.seed[0]
    u = patch.u * density
    column, row = np.floor(u), np.floor(patch.v)
    x, y = np.abs(u - column - 0.5), np.abs(patch.v - row - 0.5)
    tall = 0.2 + 0.0012 * patch.seed[1]
    pane = (x < wide) & (y < tall)
    rim = (x < wide + 0.04) & (y < tall + 0.03) & ~pane
    bar = (x < 0.02) & (patch.seed[0] < 60)
    chance = _random(patch, column, row)
    glass = np.where(chance > 0.88, 0.9, 0.12 + 0.4 * chance)
    ledge = (patch.v - row > 0.96) & (patch.seed[1] > 40)
    window = np.where(pane & ~bar, glass, np.where(rim | ledge, 1.2, 1.0))
    return 0.3 + 0.3 * np.clip(patch.noise, -1, 1), _fade(window, patch.blur * 2, 0.75)[:, None]


def _road(patch: Patch) -> Pattern:
    """Paint asphalt, lanes, edges and a crossing; layout: half, lane, lanes, crossing."""
    x, z = patch.metres
    half, lane, lanes, crossing = patch.extra
    line = np.round((x + half) / lane)
    off_line = np.abs(x + half - line * lane)
    inner = (line > 0.5) & (line < lanes - 0.5)
    period = 6 + 0.08 * patch.seed[0]
    dashed = np.mod(z + patch.seed[1], period) < period * 0.45
    solid = (line == np.floor(lanes / 2)) & (patch.seed[1] > 60)
    edge = (np.abs(np.abs(x) - half + 0.25) < 0.06) & (patch.seed[0] > 35)
    paint = (off_line < 0.07) & inner & (dashed | solid) | edge
    zebra = (np.abs(z - crossing - 1.8) < 1.8) & (np.mod(x, 1.0) < 0.5) & (np.abs(x) < half)
    painted = (paint | zebra) * np.clip(0.75 + 0.35 * patch.noise, 0, 1)
    # A line thinner than a pixel keeps its share of it.
    share = np.clip(0.14 / np.maximum(patch.footprint * 0.35, 0.14), 0.25, 1)
    painted = np.where(zebra, painted, painted * share)
    worn = 1 - 0.15 * np.exp(-((np.abs(off_line - lane / 2) - 0.75) ** 2) / 0.08)
    return np.clip(0.4 + 0.35 * patch.noise, 0, 1), (worn * (1 + 3.2 * painted))[:, None]


def _foliage(patch: Patch) -> Pattern:
    speckle = _random(patch, np.floor(patch.u * 6), np.floor(patch.v * 6))
    tone = 0.5 + 0.9 * _fade(speckle, patch.blur * 4) + 0.25 * patch.noise
    return np.clip(0.5 + 0.6 * patch.noise, 0, 1), np.clip(tone, 0.15, 2)[:, None]


def _natural(patch: Patch, levels: tuple[np.ndarray, ...], periods: float) -> np.ndarray:
    """Read a table that repeats after so many periods; half of the materials lose its colours."""
    u, v = patch.u / periods + patch.seed[0], patch.v / periods + patch.seed[1]
    tone = look_up(levels, u, v, patch.blur / periods)
    grey = (patch.seed[0] % 1.0 < 0.5)[:, None]
    return np.where(grey, tone.mean(axis=1, keepdims=True), tone)


def _leaves(patch: Patch) -> Pattern:
    return 0.5 + 0.3 * np.clip(patch.noise, -1, 1), _natural(patch, patch.atlas.leaves, 3.0)


def _clouds(patch: Patch) -> Pattern:
    strength = (0.15 + 0.008 * patch.seed[1])[:, None]
    tone = 1 + strength * (_natural(patch, patch.atlas.clouds, 3.0) - 1)
    return np.clip(1.5 * tone.mean(axis=1) - 1.0, 0, 1), tone


def _print(patch: Patch) -> Pattern:
    """Print coloured fields with lines of dark marks, as on boxes and sheets of paper."""
    field = _random(patch, np.floor(patch.u * 2), np.floor(patch.v * 2))
    line, along = patch.v * 14, patch.u * 30
    inked = _random(patch, np.floor(along), np.floor(line)) > 0.4
    written = (line - np.floor(line) < 0.5) & inked
    marks = _fade(np.where(field > 0.45, written, 0.0), patch.blur * 12, 0.2)
    mix = _fade(np.round(field * 3) / 3, patch.blur * 2)
    return mix, (1 - 0.75 * marks)[:, None]


def _outlook(patch: Patch) -> Pattern:
    """Paint the view from a window: pale sky over trees and houses, unrelated to any depth."""
    horizon = 0.02 * (patch.seed[1] - 50) + 0.3 * patch.noise
    sky = np.clip((horizon - patch.metres[1]) * 6 + 0.5, 0, 1)[:, None]
    u, v = patch.metres / 2.0 + patch.seed * 0.37
    view = look_up(patch.atlas.leaves, u, v, patch.footprint / 2.0)
    green = np.array([0.8, 1.0, 0.6], dtype=np.float32)
    return np.full_like(patch.u, 0.2), sky * 1.6 + (1 - sky) * 0.35 * view * green


PATTERNS = {
    pattern.__name__.removeprefix('_'): pattern
    for pattern in (
        *(_gradient, _checker, _stripes, _bricks, _planks, _wood, _patches, _cells),
        *(_facade, _road, _foliage, _leaves, _clouds, _print, _outlook),
    )
}
TEXTURES = ('plain', *PATTERNS)  # materials refer to them by number


def noise_lattice(rng: np.random.Generator) -> np.ndarray:
    """Draw the random lattice that all textures of one image read, (128, 128) float32."""
    return rng.uniform(-1, 1, (LATTICE, LATTICE)).astype(np.float32)


def smooth_noise(lattice: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return value noise at (H, W) coordinates in periods; about in [-1, 1]."""
    u = (u - np.floor(u / LATTICE) * LATTICE).astype(np.float32)
    v = (v - np.floor(v / LATTICE) * LATTICE).astype(np.float32)
    return cv2.remap(lattice, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def fractal_noise(
    lattice: np.ndarray, u: np.ndarray, v: np.ndarray, footprint: np.ndarray
) -> np.ndarray:
    """Sum octaves of noise at (H, W) coordinates; octaves finer than a pixel fade out."""
    total = np.zeros_like(u)
    for octave in range(OCTAVES):
        factor = 2.0**octave
        fade = np.clip(1.6 - 2.2 * footprint * factor, 0, 1)
        noise = smooth_noise(lattice, u * factor + 17.3 * octave, v * factor)
        total += 0.62**octave * fade * noise
    return total


def albedo(
    materials: Materials,
    material: np.ndarray,
    uv: np.ndarray,
    footprint: np.ndarray,
    lattice: np.ndarray,
    atlas: Atlas,
) -> np.ndarray:
    """
    Return the linear reflectance (H, W, 3) float32 of every pixel from its material.

    ``material`` (H, W) is the row per pixel (any valid one for sky), ``uv`` (H, W, 2) m,
    ``footprint`` (H, W) m the size of a pixel on the surface, ``lattice`` of `noise_lattice`,
    ``atlas`` of `draw_atlas`.
    """
    scale = materials.scale.astype(np.float32)[material]
    offset = materials.offset.astype(np.float32)
    u, v, blur = uv[..., 0] / scale, uv[..., 1] / scale, footprint / scale
    noise = fractal_noise(lattice, u + offset[material, 0], v + offset[material, 1], blur)
    texture = materials.texture[material]
    mix = np.clip(0.5 + 0.25 * noise, 0, 1)
    tone = np.ones((*material.shape, 3), dtype=np.float32)
    for name, pattern in PATTERNS.items():
        at = np.nonzero(texture == TEXTURES.index(name))
        if not len(at[0]):
            continue
        rows = material[at]
        patch = Patch(
            u=u[at],
            v=v[at],
            metres=uv[at].T,
            noise=noise[at],
            blur=blur[at],
            seed=offset[rows].T,
            extra=materials.extra.astype(np.float32)[rows].T,
            footprint=footprint[at],
            lattice=lattice,
            atlas=atlas,
        )
        mix[at], tone[at] = pattern(patch)
    colour_a = materials.colour_a.astype(np.float32)[material]
    colour_b = materials.colour_b.astype(np.float32)[material]
    contrast = materials.contrast.astype(np.float32)[material]
    dirt = np.clip(1 + 0.5 * contrast * noise, 0.1, 2) * _stains(uv, footprint, contrast, atlas)
    colour = (colour_a + (colour_b - colour_a) * mix[..., None]) * tone * dirt[..., None]
    return np.minimum(colour, np.float32(1.6))


def _stains(
    uv: np.ndarray, footprint: np.ndarray, contrast: np.ndarray, atlas: Atlas
) -> np.ndarray:
    """Return a grey factor (H, W) of 1/f noise that repeats after three metres."""
    u, v = (uv[..., axis].ravel() / 3.0 for axis in (0, 1))
    cloud = look_up(atlas.clouds, u, v, footprint.ravel() / 3.0)[:, 0].reshape(contrast.shape)
    return 1 + np.clip(contrast, 0, 0.6) * (cloud - 1)
