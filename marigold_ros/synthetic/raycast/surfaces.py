# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Normals and surface coordinates where camera and LiDAR rays end.

Camera rays have z = 1 in the camera frame, so their ray parameter is the z-depth itself.
"""

from collections.abc import Callable
from functools import partial

from marigold_ros.synthetic.raycast.description import (
    BALL,
    BOX,
    CYLINDER,
    Geometry,
    Hits,
    PLANE,
    ROLLER,
    Scene,
    SHELL,
    Solids,
    TAPER,
    ViewCamera,
)
from marigold_ros.synthetic.raycast.primitives import nearest_hit, nearest_in_view
import numpy as np


def intersect(scene: Scene, origin: np.ndarray, directions: np.ndarray) -> Hits:
    """
    Follow rays from one origin (3,) m along ``directions`` (N, 3) to the first surface.

    Directions have any length; ``t`` counts in it, so that unit vectors give ranges.
    """
    planes = np.ascontiguousarray(np.asarray(directions, dtype=np.float32).T)
    solids = scene.solids
    t, primitive = nearest_hit(solids, np.asarray(origin, dtype=np.float64), planes)
    normal, _, material = surface(solids, origin, planes, t, primitive)
    return Hits(t, np.moveaxis(normal, 0, -1), material)


def render_geometry(scene: Scene, camera: ViewCamera) -> Geometry:
    """
    Render depth, normals and materials of a scene, without colour.

    Beyond ``scene.max_depth`` a pixel is sky (depth inf, material -1).
    """
    depth, primitive = nearest_in_view(scene.solids, camera)
    beyond = depth > scene.max_depth
    depth[beyond] = np.inf
    primitive[beyond] = -1
    shape = depth.shape
    directions = camera.directions().reshape(3, -1)
    normal, uv, material = surface(
        scene.solids, camera.centre, directions, depth.ravel(), primitive.ravel()
    )
    length = np.sqrt((directions * directions).sum(axis=0))
    facing = -(normal * directions).sum(axis=0) / length
    return Geometry(
        camera=camera,
        depth=depth,
        normal=np.ascontiguousarray(np.moveaxis(normal, 0, -1)).reshape(*shape, 3),
        material=material.reshape(shape),
        uv=np.ascontiguousarray(np.moveaxis(uv, 0, -1)).reshape(*shape, 2),
        facing=facing.reshape(shape),
    )


def surface(
    solids: Solids,
    origin: np.ndarray,
    directions: np.ndarray,
    t: np.ndarray,
    primitive: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return normal, surface coordinates and material where rays (3, N) end.

    The normal (3, N) float32 is a unit vector in the world frame, zero for a miss; coordinates
    (2, N) float32 are metres; the material (N,) int32 is -1 for a miss.
    """
    normal = np.zeros((3, len(t)), dtype=np.float32)
    uv = np.zeros((2, len(t)), dtype=np.float32)
    material = np.where(primitive < 0, -1, solids.material[primitive]).astype(np.int32)
    kinds = np.where(primitive < 0, -1, solids.kind[primitive])
    cosine, sine = np.cos(solids.yaw).astype(np.float32), np.sin(solids.yaw).astype(np.float32)
    for kind, local_surface in _SURFACES.items():
        rays = np.flatnonzero(kinds == kind)
        if not len(rays):
            continue
        row = primitive[rays]
        shift = (np.asarray(origin) - solids.centre).astype(np.float32)[row]
        point = directions[:, rays] * t[rays] + shift.T
        c, s = cosine[row], sine[row]
        point = np.stack([c * point[0] - s * point[2], point[1], s * point[0] + c * point[2]])
        local, uv[:, rays], face = local_surface(point, solids.half.astype(np.float32)[row].T)
        normal[0, rays] = c * local[0] + s * local[2]
        normal[1, rays] = local[1]
        normal[2, rays] = -s * local[0] + c * local[2]
        material[rays] += face
    return normal, uv, material


def _plane(point: np.ndarray, half: np.ndarray) -> tuple:
    local = np.zeros_like(point)
    local[1] = -1.0
    return local, point[::2], 0


def _box(point: np.ndarray, half: np.ndarray) -> tuple:
    unit = point / half
    return *_flat(point, unit, np.abs(unit).argmax(axis=0)), 0


def _flat(point: np.ndarray, unit: np.ndarray, axis: np.ndarray) -> tuple:
    """Return the normal along ``axis`` (N,) and the coordinates in the face across it."""
    local = np.where(axis == np.arange(3)[:, None], np.sign(unit), 0).astype(np.float32)
    u = np.where(axis == 0, point[2], point[0])
    return local, np.stack([u, np.where(axis == 1, point[2], point[1])])


def _shell(point: np.ndarray, half: np.ndarray) -> tuple:
    local, uv, _ = _box(point, half)
    axis = np.abs(local).argmax(axis=0)
    return -local, uv, 2 * axis + (local.sum(axis=0) > 0)


def _ball(point: np.ndarray, half: np.ndarray) -> tuple:
    local = point / (half * half)
    local = local / np.sqrt((local * local).sum(axis=0))
    unit = point / half
    radius = np.maximum(half[0], half[2])
    return local, np.stack([np.arctan2(unit[0], unit[2]) * radius, point[1]]), 0


def _cylinder(point: np.ndarray, half: np.ndarray) -> tuple:
    unit = point / half
    side = unit[0] ** 2 + unit[2] ** 2 > unit[1] ** 2
    local = np.stack([point[0] / half[0] ** 2, np.zeros_like(unit[0]), point[2] / half[2] ** 2])
    local = local / np.sqrt((local * local).sum(axis=0) + 1e-12)
    local = np.where(side, local, np.stack([local[1], np.sign(unit[1]), local[1]]))
    u = np.where(side, np.arctan2(unit[0], unit[2]) * half[0], point[0])
    return local, np.stack([u, np.where(side, point[1], point[2])]), 0


def _roller(point: np.ndarray, half: np.ndarray) -> tuple:
    local, uv, face = _cylinder(point[[1, 0, 2]], half[[1, 0, 2]])
    return local[[1, 0, 2]], uv, face


def _tapered(point: np.ndarray, half: np.ndarray, top: float) -> tuple:
    unit = point / half
    lean, reach = (1 - top) / 2, (1 + top) / 2
    slant = (np.abs(unit[0]) - lean * unit[1]) / reach
    axis = np.stack([slant, np.abs(unit[1]), np.abs(unit[2])]).argmax(axis=0)
    local, uv = _flat(point, unit, axis)
    leaning = np.stack([np.sign(unit[0]) / half[0], -lean / half[1], np.zeros_like(slant)])
    leaning = leaning / np.sqrt((leaning * leaning).sum(axis=0))
    return np.where(axis == 0, leaning, local), uv, 0


# By kind; each returns the local normal, uv and the offset of the material.
_SURFACES: dict[int, Callable[..., tuple]] = {
    PLANE: _plane,
    SHELL: _shell,
    BOX: _box,
    BALL: _ball,
    CYLINDER: _cylinder,
    ROLLER: _roller,
    **{kind: partial(_tapered, top=top) for kind, top in TAPER.items()},
}


def is_free(scene: Scene, points: np.ndarray, margin: float = 0.15) -> np.ndarray:
    """
    Return whether points (N, 3) lie in free space, at least about ``margin`` m from every solid.

    Boxes stand for balls and cylinders too, which is on the safe side.
    """
    solids = scene.solids
    offset = np.atleast_2d(points)[:, None, :] - solids.centre  # (N, P, 3)
    cosine, sine = np.cos(solids.yaw), np.sin(solids.yaw)
    x = cosine * offset[..., 0] - sine * offset[..., 2]
    z = sine * offset[..., 0] + cosine * offset[..., 2]
    local = np.abs(np.stack([x, offset[..., 1], z], axis=-1))
    inside = (local < solids.half + margin).all(axis=-1)
    outside_shell = (local > solids.half - margin).any(axis=-1)
    below = offset[..., 1] > -margin
    blocked = np.where(solids.kind == SHELL, outside_shell, inside)
    blocked = np.where(solids.kind == PLANE, below, blocked)
    return ~blocked.any(axis=1)
