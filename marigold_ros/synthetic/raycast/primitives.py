# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Ray against solid: one interval per ray and solid, and the nearest hit.

Rays enter as three planes (x, y, z), so that a rectangle of pixels is a view. All solids but the
plane are convex: a ray is inside on one interval [near, far], and the visible point is near (far
for the shell, which is seen from within).
"""

from functools import reduce

from marigold_ros.synthetic.raycast.description import (
    BALL,
    CYLINDER,
    PLANE,
    ROLLER,
    SHELL,
    Solids,
    TAPER,
    ViewCamera,
)
import numpy as np

NEAR = 1e-3  # smallest ray parameter that counts as in front
TINY = 1e-12  # keeps 1/0 finite: rays along a face hit at a parameter beyond any scene
CHUNK = 16384  # rays and
BLOCK = 32  # solids at a time in the culling product, which then stays in the cache
SLACK = 1e-5  # on cosines of culling cones, for float32
EDGES = np.array([(i, j) for i in range(8) for j in range(i + 1, 8) if (i ^ j) in (1, 2, 4)])
CORNERS = np.array([[1 if i & b else -1 for b in (1, 2, 4)] for i in range(8)], dtype=np.float64)


def ray_interval(kind: int, origin: tuple, direction: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of ray parameters inside a unit shape; empty where near > far."""
    if kind == PLANE:
        near = -origin[1] / (direction[1] + TINY)
        return near, np.full_like(near, np.inf)
    if kind == BALL:
        return _round(origin, direction)
    if kind == CYLINDER:
        return _overlap(_round(origin[::2], direction[::2]), _slab(origin[1], direction[1]))
    if kind == ROLLER:
        return _overlap(_round(origin[1:], direction[1:]), _slab(origin[0], direction[0]))
    if kind in TAPER:
        return _tapered(TAPER[kind], origin, direction)
    return _overlap(*(_slab(origin[axis], direction[axis]) for axis in range(3)))


def _overlap(*intervals: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    starts, ends = zip(*intervals, strict=True)
    return reduce(np.maximum, starts), reduce(np.minimum, ends)


def _tapered(top: float, origin: tuple, direction: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Interval inside a unit cube whose sides in x lean in to ``top`` at y = -1."""
    near, far = _overlap(_slab(origin[1], direction[1]), _slab(origin[2], direction[2]))
    lean, reach = (1 - top) / 2, (1 + top) / 2
    for side in (-1.0, 1.0):
        rise = side * direction[0] - lean * direction[1] + TINY
        t = (reach - side * origin[0] + lean * origin[1]) / rise
        near = np.where(rise < 0, np.maximum(near, t), near)
        far = np.where(rise < 0, far, np.minimum(far, t))
    return near, far


def _slab(origin: float, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = 1.0 / (direction + TINY)
    middle = -origin * inverse
    reach = np.abs(inverse)
    return middle - reach, middle + reach


def _round(origin: tuple, direction: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Interval inside the unit circle or ball, by the closest approach (no cancellation)."""
    pairs = list(zip(origin, direction, strict=True))
    square = sum(d * d for _, d in pairs) + TINY
    closest = -sum(o * d for o, d in pairs) / square
    gap = 1.0 - sum((o + closest * d) ** 2 for o, d in pairs)
    reach = np.sqrt(np.maximum(gap, 0) / square)
    missed = gap <= 0
    return np.where(missed, np.inf, closest - reach), np.where(missed, -np.inf, closest + reach)


def to_local(solids: Solids, row: int, vector: np.ndarray | tuple) -> tuple:
    """Transform a vector (three planes) into the unit frame of one solid."""
    half, yaw = solids.half[row], solids.yaw[row]
    if yaw == 0.0:
        return tuple(vector[axis] * float(1.0 / half[axis]) for axis in range(3))
    cosine, sine = float(np.cos(yaw)), float(np.sin(yaw))
    x = vector[0] * (cosine / half[0]) - vector[2] * (sine / half[0])
    z = vector[0] * (sine / half[2]) + vector[2] * (cosine / half[2])
    return x, vector[1] * float(1.0 / half[1]), z


def _entry(solids: Solids, row: int, origin: np.ndarray, directions: tuple) -> np.ndarray:
    """Ray parameter of the visible surface of one solid, inf for a miss."""
    kind = int(solids.kind[row])
    local_origin = tuple(float(x) for x in to_local(solids, row, origin - solids.centre[row]))
    near, far = ray_interval(kind, local_origin, to_local(solids, row, directions))
    t = far if kind == SHELL else near
    return np.where((near <= far) & (t > NEAR), t, np.float32(np.inf))


def nearest_hit(
    solids: Solids, origin: np.ndarray, directions: np.ndarray, skip: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the nearest solid along rays (3, N) from one origin, culled by bounding balls.

    ``skip`` (P,) bool leaves solids out. Returns t (N,) float32 and the solid's row (N,) int32,
    inf and -1 for none.
    """
    count = directions.shape[1]
    t, primitive = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.int32)
    rows = np.arange(len(solids)) if skip is None else np.flatnonzero(~skip)
    for first in range(0, count, CHUNK):
        part = slice(first, first + CHUNK)
        t[part], primitive[part] = _nearest_of_chunk(solids, rows, origin, directions[:, part])
    return t, primitive


def _nearest_of_chunk(
    solids: Solids, rows: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest of the solids in ``rows``, as `nearest_hit` does."""
    t = np.full(directions.shape[1], np.inf, dtype=np.float32)
    primitive = np.full(directions.shape[1], -1, dtype=np.int32)
    length = np.sqrt((directions * directions).sum(axis=0)) + np.float32(TINY)
    unit = np.ascontiguousarray(directions) / length
    towards, cosine = bounding_cones(solids, rows, origin)
    beam = _in_beam(unit, towards, cosine)
    rows, towards, cosine = rows[beam], towards[beam], cosine[beam]
    for first in range(0, len(rows), BLOCK):
        block = slice(first, first + BLOCK)
        # Not a BLAS product: its threads cost a hundred times more on a busy machine.
        near_enough = np.einsum('rk,kn->rn', towards[block], unit) > cosine[block, None]
        for order, row in enumerate(rows[block]):
            candidates = np.flatnonzero(near_enough[order])
            if not len(candidates):
                continue
            entry = _entry(solids, row, origin, tuple(directions[:, candidates]))
            closer = entry < t[candidates]
            t[candidates[closer]] = entry[closer]
            primitive[candidates[closer]] = row
    return t, primitive


def bounding_cones(
    solids: Solids, rows: np.ndarray, origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return cones around solids seen from ``origin``: axes (R, 3), cosines of half angles (R,).

    A cosine below -1 takes in every ray: planes, shells, and solids whose ball holds the origin.
    """
    offset = solids.centre[rows] - origin
    distance = np.maximum(np.linalg.norm(offset, axis=1), 1e-9)
    radius = np.linalg.norm(solids.half[rows], axis=1) * 1.001
    everywhere = (radius >= distance) | np.isin(solids.kind[rows], (PLANE, SHELL))
    cosine = np.sqrt(1.0 - np.minimum(radius / distance, 1.0) ** 2) - SLACK
    cosine[everywhere] = -2.0
    return (offset / distance[:, None]).astype(np.float32), cosine.astype(np.float32)


def _in_beam(unit: np.ndarray, towards: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Return which cones touch the one cone around all rays (3, N), (R,) bool."""
    if not unit.shape[1]:
        return np.zeros(len(cosine), dtype=bool)
    axis = unit.mean(axis=1)
    axis /= np.linalg.norm(axis) + TINY
    beam = np.arccos(np.clip(np.einsum('k,kn->n', axis, unit).min(), -1, 1))
    apart = np.arccos(np.clip(towards @ axis, -1, 1))
    return apart <= beam + np.arccos(np.clip(cosine, -1, 1)) + 0.01


def nearest_in_view(solids: Solids, camera: ViewCamera) -> tuple[np.ndarray, np.ndarray]:
    """Return z-depth (H, W) float32 and row (H, W) int32 of the nearest solid; inf, -1: none."""
    directions = camera.directions()
    depth = np.full(directions.shape[1:], np.inf, dtype=np.float32)
    primitive = np.full(directions.shape[1:], -1, dtype=np.int32)
    rectangles, closest = view_rectangles(solids, camera)
    # Front to back, so that what hides behind a finished rectangle is skipped unseen.
    for row in np.argsort(closest, kind='stable'):
        left, right, top, bottom = rectangles[row]
        if left >= right or top >= bottom:
            continue
        best = depth[top:bottom, left:right]
        if closest[row] > best.max():
            continue
        view = tuple(directions[axis, top:bottom, left:right] for axis in range(3))
        entry = _entry(solids, row, camera.centre, view)
        closer = entry < best
        np.copyto(best, entry, where=closer)
        np.copyto(primitive[top:bottom, left:right], np.int32(row), where=closer)
    return depth, primitive


def view_rectangles(solids: Solids, camera: ViewCamera) -> tuple[np.ndarray, np.ndarray]:
    """
    Return pixel rectangles (P, 4) int that bound each solid, and a lower bound of its z-depth.

    Rectangles are left, right, top, bottom, the ends exclusive; empty behind the camera.
    """
    T_cam_world = np.linalg.inv(camera.T_world_cam)
    points = solid_corners(solids) @ T_cam_world[:3, :3].T + T_cam_world[:3, 3]
    plane = 0.02
    start, end = points[:, EDGES[:, 0]], points[:, EDGES[:, 1]]
    step = end[..., 2] - start[..., 2]
    fraction = (plane - start[..., 2]) / np.where(step == 0, 1.0, step)
    crossing = (fraction > 0) & (fraction < 1)
    cut = start + fraction[..., None] * (end - start)
    cut[..., 2] = plane
    candidates = np.concatenate([points, cut], axis=1)
    use = np.concatenate([points[..., 2] >= plane, crossing], axis=1)
    z = np.where(use, candidates[..., 2], 1.0)
    u = candidates[..., 0] / z * camera.K[0, 0] + camera.K[0, 2]
    v = candidates[..., 1] / z * camera.K[1, 1] + camera.K[1, 2]
    limits = []
    for values, size in ((u, camera.width), (v, camera.height)):
        low = np.where(use, values, np.inf).min(axis=1)
        high = np.where(use, values, -np.inf).max(axis=1)
        limits += [np.clip(np.floor(low), 0, size), np.clip(np.ceil(high) + 1, 0, size)]
    rectangles = np.stack(limits, axis=1).astype(np.int64)
    closest = points[..., 2].min(axis=1)
    unbounded = np.isin(solids.kind, (PLANE, SHELL))
    rectangles[unbounded] = (0, camera.width, 0, camera.height)
    closest[unbounded] = np.finfo(np.float32).min
    return rectangles, closest


def solid_corners(solids: Solids) -> np.ndarray:
    """Return the corners of each solid's own box in the world, (P, 8, 3) m."""
    local = CORNERS[None] * solids.half[:, None, :]
    cosine, sine = np.cos(solids.yaw)[:, None], np.sin(solids.yaw)[:, None]
    x = cosine * local[..., 0] + sine * local[..., 2]
    z = -sine * local[..., 0] + cosine * local[..., 2]
    return np.stack([x, local[..., 1], z], axis=-1) + solids.centre[:, None, :]
