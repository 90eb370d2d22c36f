# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A second, independent generator of images with exact depth, for choosing between checkpoints.

A network also learns the habits of the generator of its training scenes, which scores on scenes of
the same generator do not reveal. This one shares none of its code: distance bounds are marched
instead of intersecting ray intervals; scenes hold polyhedra, rings, rocks and terrain instead of
furniture and cars; textures fill space instead of lying on faces.
"""

from __future__ import annotations

from marigold_ros.errors import ConfigurationError
from marigold_ros.synthetic.raycast.description import Sample
from marigold_training.second_generator.materials import (
    draw_materials,
    expose,
    Lamp,
    reflectance,
    RenderedMaterials,
    shade,
    sky,
)
from marigold_training.second_generator.scenes import draw_layout, Ground, SceneLayout
from marigold_training.second_generator.shapes import CLOSE, march
import numpy as np

FAR = 80.0  # m; beyond it is sky
TRIES = 200
GROUND, CEILING = 0, 1  # rows of the materials; walls follow
LAND_STEPS = 250


def make_second_sample(seed: int, width: int = 256, height: int = 192) -> Sample:
    """
    Render one image with its depth; a seed always gives the same bytes.

    Parameters
    ----------
    seed : int
    width, height : int, px

    Returns
    -------
    Sample
        ``rgb`` (H, W, 3) uint8, ``depth`` (H, W) float32 z in metres, inf for sky; its ``kind``
        is 'second'.

    Raises
    ------
    ConfigurationError
        If no scene with an unobstructed view was found.

    """
    rng = np.random.default_rng([seed, 2])
    for _ in range(TRIES):
        layout = draw_layout(rng)
        centre, turn = _draw_pose(rng, layout)
        if not _is_free(layout, centre):
            continue
        focal = width / 2 / np.tan(np.deg2rad(rng.uniform(42, 95)) / 2)
        rays, along = _rays(focal, turn, width, height)
        t, owner = trace(layout, centre, rays.reshape(-1, 3))
        z = t * along.ravel()
        if len(np.unique(owner[owner >= 0])) < 3 or z.min() < 0.15:
            continue
        rgb = _image(layout, rng, (centre, rays, focal), (t, owner))
        return Sample(rgb, z.reshape(height, width).astype(np.float32), 'second')
    raise ConfigurationError(f'no free view in {TRIES} scenes of seed {seed}; choose another seed')


def _draw_pose(rng: np.random.Generator, layout: SceneLayout) -> tuple[np.ndarray, np.ndarray]:
    """Draw the camera's position (3,) and rotation (3, 3) world from camera."""
    roll = np.deg2rad(rng.normal(0, 3))
    if layout.kind == 'heap':
        around, pitch = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(8, 50))
        away = rng.uniform(0.6, 1.6)
        flat = np.cos(pitch)
        back = np.array([np.sin(around) * flat, np.sin(pitch), np.cos(around) * flat])
        centre = layout.focus - away * back
        return centre, _turn(around, pitch + np.deg2rad(rng.normal(0, 4)), roll)
    pitch = np.deg2rad(rng.uniform(-4, 22))
    x, z = (0.0, 0.0) if layout.kind == 'yard' else rng.uniform(-3, 3, 2)
    yaw = rng.normal(0, 0.15) if layout.kind == 'yard' else np.arctan2(-x, -z) + rng.normal(0, 0.5)
    land = float(layout.ground.height(np.array(x), np.array(z)))
    return np.array([x, -land - rng.uniform(0.6, 2.1), z]), _turn(yaw, pitch, roll)


def _turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) by yaw to the right, then pitch down, then roll."""
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    down = np.cross(forward, right)
    leaned = np.cos(roll) * right + np.sin(roll) * down
    return np.stack([leaned, np.cross(forward, leaned), forward], axis=1)


def _rays(
    focal: float, turn: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unit rays (H, W, 3) in the world, and their component along the optical axis (H, W)."""
    u, v = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    rays = np.stack([u / focal, v / focal, np.ones_like(u)], axis=-1)
    length = np.linalg.norm(rays, axis=-1)
    return (rays / length[..., None]) @ turn.T, 1 / length


def _is_free(layout: SceneLayout, centre: np.ndarray) -> bool:
    inside = (layout.normals @ centre < layout.offsets - 0.4).all()
    above = -centre[1] - layout.ground.height(centre[0], centre[2]) > 0.25
    clear = all(thing.distance_bound(centre[None])[0] > 0.2 for thing in layout.things)
    return bool(inside and above and clear)


def trace(
    layout: SceneLayout, centre: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Trace unit rays (N, 3) to their first hit.

    Returns
    -------
    t : (N,) float, m
        Distance, inf for no hit within 80 m.
    owner : (N,) int
        Index of the thing; -1 nothing, -2 ground, -3 - k the k-th wall.

    """
    t = _march_ground(layout.ground, centre, rays)
    owner = np.where(np.isfinite(t), -2, -1)
    for index, (normal, offset) in enumerate(zip(layout.normals, layout.offsets, strict=True)):
        speed = rays @ normal
        reach = (offset - normal @ centre) / np.where(speed > 1e-9, speed, np.inf)
        reach = np.where(speed > 1e-9, reach, np.inf)
        owner = np.where(reach < t, -3 - index, owner)
        t = np.minimum(t, reach)
    for index, thing in enumerate(layout.things):
        hit = march(thing, centre, rays, np.minimum(t, FAR))
        owner = np.where(hit < t, index, owner)
        t = np.minimum(t, hit)
    return t, owner


def _march_ground(ground: Ground, centre: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Trace rays to the ground: in closed form if flat, else by steps bounded by its slope."""
    if not ground.rise:
        falling = rays[:, 1] > 1e-9
        t = np.where(falling, -centre[1] / np.where(falling, rays[:, 1], 1.0), np.inf)
        return np.where(t < FAR, t, np.inf)
    found, t = np.full(len(rays), np.inf), np.zeros(len(rays))
    going = np.arange(len(rays))
    # Smoothstep has slopes up to 1.5 along each axis; each octave adds 0.8 times the last.
    steepest = 1.5 * np.sqrt(2) * ground.rise / ground.wave * (1 + 0.8 + 0.64)
    for _ in range(LAND_STEPS):
        point = centre + t[going, None] * rays[going]
        gap = -point[:, 1] - ground.height(point[:, 0], point[:, 2])
        arrived = gap < CLOSE * np.maximum(t[going], 0.2)
        found[going[arrived]] = t[going[arrived]]
        steps = gap / (rays[going, 1] + steepest).clip(0.05)
        t[going] += steps
        going = going[~arrived & (t[going] < FAR)]
        if not len(going):
            break
    return found


def _image(
    layout: SceneLayout, rng: np.random.Generator, view: tuple, hits: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    centre, rays, focal = view
    t, owner = hits
    height, width = rays.shape[:2]
    open_sky = owner == -1
    points = centre + np.where(open_sky, 1.0, t)[:, None] * rays.reshape(-1, 3)
    normals, own, row = _surfaces(layout, points, owner)
    materials = draw_materials(rng, len(layout.sizes), np.array(layout.sizes))
    lamp = _draw_lamp(rng, layout)
    footprint = np.where(open_sky, 1.0, t) / focal
    colour = reflectance(materials, row, own, footprint)
    shape = (height, width, 3)
    light = shade(
        layout.things,
        lamp,
        points.reshape(shape),
        normals.reshape(shape),
        owner.reshape(shape[:2]),
    )
    image = colour.reshape(shape) * light + _shine(materials, row, normals, rays, lamp).reshape(
        shape
    )
    haze = np.exp(-np.where(open_sky, 0, t) * rng.uniform(0, 0.01)).reshape(height, width, 1)
    image = image * haze + (1 - haze) * lamp.sky[0]
    seen = open_sky.reshape(height, width, 1)
    return expose(np.where(seen, sky(lamp, materials.lattice, rays), image), rng)


def _surfaces(
    layout: SceneLayout, points: np.ndarray, owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normals (N, 3), points in their things' frames (N, 3), and rows of the materials (N,)."""
    normals, own = np.zeros_like(points), points.copy()
    row = np.full(len(points), GROUND)
    land = owner == -2
    x, z = points[land, 0], points[land, 2]
    step, height = 1e-3, layout.ground.height
    slope_x = (height(x + step, z) - height(x - step, z)) / (2 * step)
    slope_z = (height(x, z + step) - height(x, z - step)) / (2 * step)
    raised = np.stack([-slope_x, -np.ones_like(x), -slope_z], axis=1)
    normals[land] = raised / np.linalg.norm(raised, axis=1, keepdims=True)
    for index, normal in enumerate(layout.normals):
        at = owner == -3 - index
        normals[at] = -normal
        last = index == len(layout.normals) - 1
        # All walls of a hall but one look alike.
        row[at] = CEILING if last else 2 + min(index, 1)
    for index, thing in enumerate(layout.things):
        at = np.flatnonzero(owner == index)
        if len(at):
            normals[at] = thing.normals(points[at])
            own[at] = (points[at] - thing.centre) @ thing.turn
            row[at] = thing.material
    return normals, own, row


def _draw_lamp(rng: np.random.Generator, layout: SceneLayout) -> Lamp:
    strength, around = rng.uniform(0.6, 3.0), rng.uniform(0.2, 0.8)
    warm = np.exp(rng.normal(0, 0.12) * np.array([1, 0, -1]))
    blue = np.array([0.55, 0.7, 1.0]) ** rng.uniform(0, 1.5)
    pale = np.array([1.0, 0.98, 0.95]) * rng.uniform(0.6, 1.4)
    if len(layout.offsets):
        place = np.array([*rng.uniform(-1.5, 1.5, 2), 0])[[0, 2, 1]]
        place[1] = -rng.uniform(0.7, 0.95) * layout.offsets[-1]
    else:
        high, angle = np.deg2rad(rng.uniform(12, 75)), rng.uniform(0, 2 * np.pi)
        ahead = np.cos(high)
        place = 500 * np.array([ahead * np.sin(angle), -np.sin(high), ahead * np.cos(angle)])
    return Lamp(place, strength * warm, around * blue**0.4, np.stack([pale, pale * blue]))


def _shine(
    materials: RenderedMaterials,
    row: np.ndarray,
    normals: np.ndarray,
    rays: np.ndarray,
    lamp: Lamp,
) -> np.ndarray:
    """Sheen (N, 3) at grazing angles, in the colour of the ambient light."""
    cosine = np.clip(-(normals * rays.reshape(-1, 3)).sum(axis=1), 0, 1)
    sheen = materials.shine[row] * (0.05 + 0.95 * (1 - cosine) ** 4)
    return sheen[:, None] * lamp.around
