# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Shading of rendered geometry: Lambert and highlights, shadows, ambient occlusion, sky and fog.

Shadows and ambient occlusion are computed at every second pixel and enlarged, which softens them.
"""

import cv2
from marigold_ros.synthetic.appearance.natural_textures import Atlas, draw_atlas, look_up
from marigold_ros.synthetic.appearance.sensor import develop
from marigold_ros.synthetic.appearance.textures import (
    albedo,
    fractal_noise,
    LATTICE,
    noise_lattice,
)
from marigold_ros.synthetic.raycast.description import Geometry, Lighting, PLANE, Scene, SHELL
from marigold_ros.synthetic.raycast.primitives import nearest_hit
import numpy as np

COARSE = 2  # shadows: every second pixel
FLAT = 0.18  # m; kerbs and rugs cast no shadow worth its time
STEPS = ((0, 2), (2, 0), (0, -2), (-2, 0), (5, 5), (5, -5), (-5, 5), (-5, -5))  # coarse pixels


def shade(scene: Scene, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    """
    Shade a scene into the image (H, W, 3) uint8 that a camera takes.

    ``geometry`` is of `render_geometry` for the same shapes; ``rng`` draws texture noise,
    exposure, white balance and sensor noise.
    """
    lattice, atlas = noise_lattice(rng), draw_atlas(rng)
    sky = geometry.material < 0
    depth = np.where(sky, np.float32(1.0), geometry.depth)
    material = np.maximum(geometry.material, 0)
    directions = np.moveaxis(geometry.camera.directions(), 0, -1)
    points = directions * depth[..., None] + geometry.camera.centre.astype(np.float32)
    focal = float(geometry.camera.K[0, 0])
    footprint = depth / focal / np.clip(np.abs(geometry.facing), 0.15, 1)
    colour = albedo(scene.materials, material, geometry.uv, footprint, lattice, atlas)
    light, highlight = _light(scene, geometry, points, directions, material, lattice)
    highlight += _reflections(scene, geometry, directions, material, atlas)
    glow = scene.materials.glow.astype(np.float32)[material]
    lit = colour * (light + glow[..., None]) + highlight
    radiance = with_fog(lit, depth, scene.lighting)
    if sky.any():
        radiance[sky] = _sky(scene.lighting, directions, lattice)[sky]
    return develop(np.maximum(radiance, 0), rng)


def _light(
    scene: Scene,
    geometry: Geometry,
    points: np.ndarray,
    directions: np.ndarray,
    material: np.ndarray,
    lattice: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the light arriving (H, W, 3) and mirrored highlights (H, W, 3)."""
    lighting, normal = scene.lighting, geometry.normal
    up = 0.5 - 0.5 * normal[..., 1:2]
    up_light, down_light = (
        x.astype(np.float32) for x in (lighting.ambient_up, lighting.ambient_down)
    )
    light = (down_light + (up_light - down_light) * up) * _openness(geometry, points)[..., None]
    highlight = np.zeros_like(light)
    gloss = scene.materials.gloss.astype(np.float32)[material]
    any_gloss = bool(gloss.any())
    lamps = zip(lighting.position, lighting.reach, lighting.colour.astype(np.float32), strict=True)
    for order, (position, reach, colour) in enumerate(lamps):
        towards = position.astype(np.float32) - points
        distance = np.sqrt(_dot(towards, towards))
        towards /= distance[..., None]
        cosine = _dot(normal, towards)
        strength = 1 / (1 + (distance / np.float32(reach)) ** 2)
        lit = np.clip(cosine, 0, 1) * strength
        if order == 0 and colour.max() > 0.1:
            shadow = share_of_lamp(scene, position, points, cosine > 0)
            shadow *= _pattern_of_light(lighting, points, lattice)
            lit *= shadow
            strength = strength * shadow
        light += lit[..., None] * colour
        if any_gloss:
            mirrored = 2 * cosine[..., None] * normal - towards
            along = -_dot(mirrored, directions) / np.sqrt(_dot(directions, directions))
            shine = np.clip(along, 0, 1) ** 24 * gloss * strength
            highlight += shine[..., None] * colour
    return light, highlight


def _pattern_of_light(
    lighting: Lighting, points: np.ndarray, lattice: np.ndarray
) -> np.ndarray | np.float32:
    """Return the share of the first lamp's light through windows or leaves, (H, W) or 1."""
    size = lighting.panes or lighting.dapple
    if not size:
        return np.float32(1)
    towards = lighting.position[0] / np.linalg.norm(lighting.position[0])
    across = np.cross(towards, [0.0, 1.0, 0.0])
    across /= max(np.linalg.norm(across), 1e-6)
    axes = np.stack([across, np.cross(towards, across)]).astype(np.float32) / np.float32(size)
    u, v = np.moveaxis(np.einsum('hwi,ki->hwk', points, axes), -1, 0)
    if lighting.dapple:
        cover = fractal_noise(lattice, u, v, np.full_like(u, 0.1))
        return np.clip(0.6 + 2.5 * cover, 0.1, 1).astype(np.float32)
    column, row = np.floor(u), np.floor(v)
    chance = lattice[np.mod(row, LATTICE).astype(int), np.mod(column, LATTICE).astype(int)]
    beside, over = 0.42 - np.abs(u - column - 0.5), 0.45 - np.abs(v - row - 0.5)
    bar = np.abs(np.abs(u - column - 0.5) - 0.02)
    edge = np.minimum(np.minimum(beside, over), bar) * 25
    return (np.clip(edge, 0, 1) * (chance > 0.2)).astype(np.float32)


def _reflections(
    scene: Scene, geometry: Geometry, directions: np.ndarray, material: np.ndarray, atlas: Atlas
) -> np.ndarray:
    """Return reflections on paint, glass and polish, (H, W, 3): bright above, dark below."""
    gloss = scene.materials.gloss.astype(np.float32)[material]
    mirrored = np.zeros((*material.shape, 3), dtype=np.float32)
    at = np.nonzero((gloss > 0.15) & (geometry.material >= 0))
    if not len(at[0]):
        return mirrored
    normal, view = geometry.normal[at], directions[at]
    view = view / np.sqrt(_dot(view, view))[:, None]
    cosine = -_dot(view, normal)
    bounced = view + 2 * cosine[:, None] * normal
    lighting = scene.lighting
    above = np.clip(0.5 - 3 * bounced[:, 1:2], 0, 1)
    bright = lighting.horizon + (lighting.zenith - lighting.horizon) * np.clip(above, 0, 1)
    dark = 0.25 * (lighting.ambient_up + lighting.ambient_down)
    turn = np.arctan2(bounced[:, 0], bounced[:, 2]) / np.float32(2 * np.pi)
    around = look_up(atlas.leaves, turn, bounced[:, 1] * 0.3, np.full_like(turn, 0.006))
    seen = (dark + (bright - dark) * above) * (0.4 + 0.6 * around)
    fresnel = 0.05 + 0.95 * (1 - np.clip(cosine, 0, 1)) ** 5
    mirrored[at] = (fresnel * gloss[at])[:, None] * seen
    return mirrored


def share_of_lamp(
    scene: Scene, position: np.ndarray, points: np.ndarray, facing: np.ndarray
) -> np.ndarray:
    """Return the share of a lamp's light that reaches each pixel, (H, W) in [0, 1]."""
    # Only pixels that face the lamp are tested; sky has no normal and faces nothing.
    tested = facing[::COARSE, ::COARSE]
    towards = points[::COARSE, ::COARSE][tested].T - position.astype(np.float32)[:, None]
    t, _ = nearest_hit(scene.solids, position, towards, ~_casters(scene))
    distance = np.sqrt((towards * towards).sum(axis=0))
    lit = np.ones(tested.shape, dtype=np.float32)
    lit[tested] = (1 - t) * distance < 0.03
    soft = cv2.blur(lit, (3, 3)) if np.isfinite(scene.lighting.reach[0]) else lit
    height, width = facing.shape
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)


def _casters(scene: Scene) -> np.ndarray:
    """Return which solids cast shadows, (P,) bool: neither lamps nor things flat on the ground."""
    solids = scene.solids
    lamps = [row for row, role in enumerate(scene.roles) if role == 'lamp']
    closed = (solids.kind != SHELL) & (solids.kind != PLANE)
    flat = solids.centre[:, 1] - solids.half[:, 1] > -FLAT
    return closed & ~flat & ~np.isin(solids.material, lamps)


def _openness(geometry: Geometry, points: np.ndarray) -> np.ndarray:
    """Share of ambient light left by nearby surfaces in view, (H, W) in [0, 1]."""
    coarse, normal = points[::COARSE, ::COARSE], geometry.normal[::COARSE, ::COARSE]
    depth = geometry.depth[::COARSE, ::COARSE]
    reach = 0.15 + 0.05 * np.where(np.isfinite(depth), depth, 100.0)
    closed = np.zeros(depth.shape, dtype=np.float32)
    rows, columns = (np.arange(size) for size in depth.shape)
    for down, right in STEPS:
        other = coarse[np.clip(rows + down, 0, len(rows) - 1)]
        other = other[:, np.clip(columns + right, 0, len(columns) - 1)]
        gap = other - coarse
        square = _dot(gap, gap) + np.float32(1e-6)
        rise = _dot(gap, normal) / np.sqrt(square)
        closed += np.clip(rise - 0.08, 0, 1) / (1 + square / reach**2)
    height, width = geometry.depth.shape
    openness = np.clip(1 - 1.8 * closed / len(STEPS), 0.25, 1)
    soft = cv2.blur(openness.astype(np.float32), (3, 3))
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the dot product along the last axis; several times faster than multiply and sum."""
    return np.einsum('...i,...i->...', first, second)


def with_fog(radiance: np.ndarray, depth: np.ndarray, lighting: Lighting) -> np.ndarray:
    if lighting.fog == 0:
        return radiance
    clear = np.exp(-lighting.fog * depth).astype(np.float32)[..., None]
    return radiance * clear + lighting.horizon.astype(np.float32) * (1 - clear)


def _sky(lighting: Lighting, directions: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return the colour of the sky: horizon to zenith, flat clouds, glow about the sun."""
    length = np.sqrt(_dot(directions, directions))
    up = np.clip(-directions[..., 1] / length, 0.001, 1)
    horizon, zenith = (x.astype(np.float32) for x in (lighting.horizon, lighting.zenith))
    sky = horizon + (zenith - horizon) * (np.sqrt(up))[..., None]
    if lighting.clouds > 0:
        flat = 1.2 / (up + 0.15)
        u, v = directions[..., 0] / length * flat, directions[..., 2] / length * flat
        cover = fractal_noise(lattice, u * 2, v * 2, np.full_like(u, 0.1))
        cover = np.clip((cover + 2 * lighting.clouds - 1.0) * 1.5, 0, 1) * np.clip(up * 5, 0, 1)
        cover *= max(0.0, 1 - 50 * lighting.fog)  # mist hides the clouds before the houses
        shadow = 0.75 + 0.35 * fractal_noise(lattice, u * 3 + 40, v * 3, np.full_like(u, 0.1))
        grey = np.float32(0.6 * max(horizon.mean(), zenith.mean()) + 0.3)
        sky += (grey * np.clip(shadow, 0.3, 1.2)[..., None] - sky) * cover[..., None]
    sun = lighting.position[0] / np.linalg.norm(lighting.position[0])
    near = np.clip(_dot(directions, sun.astype(np.float32)) / length, 0, 1)
    return sky + (0.8 * near**60)[..., None] * lighting.colour[0].astype(np.float32)
