# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Procedural textures on whole images: patterns in surface metres, faded before they alias.

Noise is read from one periodic lattice with cubic interpolation for all pixels at once; patterns
run once per kind with parameters gathered per pixel, not once per material.
"""

from __future__ import annotations

import cv2
from marigold_ros.synthetic.appearance.natural import Atlas, look_up
from marigold_ros.synthetic.appearance.patterns import LATTICE, Patch, PATTERNS
from marigold_ros.synthetic.raycast.description import Materials
import numpy as np

OCTAVES = 4


def noise_lattice(rng: np.random.Generator) -> np.ndarray:
    """Draw the random lattice that all textures of one image read, (128, 128) float32."""
    return rng.uniform(-1, 1, (LATTICE, LATTICE)).astype(np.float32)


def smooth_noise(lattice: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Value noise at (H, W) coordinates in periods; about in [-1, 1]."""
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
        shift = 17.3 * octave
        total += 0.62**octave * fade * smooth_noise(lattice, u * factor + shift, v * factor)
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
    Colour every pixel by its material.

    Parameters
    ----------
    materials : Materials
    material : (H, W) int
        Row per pixel; sky pixels may hold any valid row.
    uv : (H, W, 2) float, m
    footprint : (H, W) float, m
        Size of a pixel on the surface.
    lattice : (128, 128) float
        Of `noise_lattice`.
    atlas : Atlas
        Of `draw_atlas`.

    Returns
    -------
    (H, W, 3) float32
        Linear reflectance.

    """
    scale = materials.scale.astype(np.float32)[material]
    offset = materials.offset.astype(np.float32)
    u = uv[..., 0] / scale
    v = uv[..., 1] / scale
    blur = footprint / scale
    noise = fractal_noise(lattice, u + offset[material, 0], v + offset[material, 1], blur)
    texture = materials.texture[material]
    mix = np.clip(0.5 + 0.25 * noise, 0, 1)
    tone = np.ones((*material.shape, 3), dtype=np.float32)
    for kind, pattern in PATTERNS.items():
        at = np.nonzero(texture == kind)
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
    """Grey factor (H, W) of 1/f noise that repeats after three metres."""
    u, v = (uv[..., axis].ravel() / 3.0 for axis in (0, 1))
    cloud = look_up(atlas.clouds, u, v, footprint.ravel() / 3.0)[:, 0].reshape(contrast.shape)
    return 1 + np.clip(contrast, 0, 0.6) * (cloud - 1)
