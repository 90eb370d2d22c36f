# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Solids of the second generator as distance bounds, and ray marching to them.

A bound is zero on the surface and never above the true distance, so that a ray may always advance
by it. Each solid is marched alone, inside its bounding ball, to save evaluations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEPS = 160
CLOSE = 2e-5  # of the distance travelled, at which a ray has hit
Bound = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Thing:
    """
    A solid with its pose and material.

    ``bound`` maps points (N, 3) in its own frame to distance bounds (N,); a ball of ``radius``
    about the origin encloses it; world = turn (3, 3) @ own + centre (3,).
    """

    bound: Bound
    radius: float
    turn: np.ndarray
    centre: np.ndarray
    material: int

    def distance_bound(self, points: np.ndarray) -> np.ndarray:
        """Return the distance bound (N,) at points of the world (N, 3)."""
        return self.bound((points - self.centre) @ self.turn)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Return unit normals (N, 3) at surface points, by central differences."""
        step = 1e-4 * max(self.radius, 0.1)
        columns = [
            self.distance_bound(points + step * axis) - self.distance_bound(points - step * axis)
            for axis in np.eye(3)
        ]
        gradient = np.stack(columns, axis=1)
        return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)


def block(half: np.ndarray, rounding: float = 0.0) -> tuple[Bound, float]:
    """Return a box of half extents (3,) with rounded edges."""

    def bound(p: np.ndarray) -> np.ndarray:
        q = np.abs(p) - (half - rounding)
        outside = np.linalg.norm(np.maximum(q, 0), axis=1)
        return outside + np.minimum(q.max(axis=1), 0) - rounding

    return bound, float(np.linalg.norm(half))


def ring(wide: float, thick: float) -> tuple[Bound, float]:
    """Return a torus about y."""

    def bound(p: np.ndarray) -> np.ndarray:
        return np.hypot(np.hypot(p[:, 0], p[:, 2]) - wide, p[:, 1]) - thick

    return bound, wide + thick


def rod(half: float, thick: float) -> tuple[Bound, float]:
    """Return a capsule along y."""

    def bound(p: np.ndarray) -> np.ndarray:
        y = p[:, 1] - np.clip(p[:, 1], -half, half)
        return np.sqrt(p[:, 0] ** 2 + y * y + p[:, 2] ** 2) - thick

    return bound, half + thick


def cone(half: float, bottom: float, top: float) -> tuple[Bound, float]:
    """Return a frustum about y: radius ``bottom`` at y = half (down), ``top`` at y = -half."""
    slope = (bottom - top) / (2 * half)
    steep = np.hypot(1.0, slope)

    def bound(p: np.ndarray) -> np.ndarray:
        side = np.hypot(p[:, 0], p[:, 2]) - (bottom + top) / 2 - slope * p[:, 1]
        return np.maximum(side / steep, np.abs(p[:, 1]) - half)

    return bound, float(np.hypot(half, max(bottom, top)))


def crystal(normals: np.ndarray, offsets: np.ndarray, radius: float) -> tuple[Bound, float]:
    """Return the convex polyhedron ``normals @ p <= offsets``; unit (F, 3) and (F,)."""

    def bound(p: np.ndarray) -> np.ndarray:
        return (p @ normals.T - offsets).max(axis=1)

    return bound, radius


def bowl(wide: float, thick: float) -> tuple[Bound, float]:
    """Return the lower half of a hollow ball, open at y < 0 (up)."""

    def bound(p: np.ndarray) -> np.ndarray:
        return np.maximum(np.abs(np.linalg.norm(p, axis=1) - wide) - thick, -p[:, 1])

    return bound, wide + thick


TETRA = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
OCTA = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / np.sqrt(3)


def march(
    thing: Thing, origin: np.ndarray, directions: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """
    March rays to one solid.

    Parameters
    ----------
    thing : Thing
    origin : (3,) or (N, 3) float, m
    directions : (N, 3) float
        Unit.
    limit : (N,) float, m
        Hits beyond it do not count.

    Returns
    -------
    (N,) float
        Distance, inf for none.

    """
    found = np.full(len(directions), np.inf)
    offset = origin - thing.centre
    middle = -(offset * directions).sum(axis=-1)
    gap = thing.radius**2 - ((offset + middle[:, None] * directions) ** 2).sum(axis=-1)
    reach = np.sqrt(np.maximum(gap, 0)) + 1e-6
    rays = np.flatnonzero((gap > 0) & (middle + reach > 0) & (middle - reach < limit))
    if not len(rays):
        return found
    t = np.maximum(middle[rays] - reach[rays], 0.0)
    end = np.minimum(middle[rays] + reach[rays], limit[rays])
    start = (offset @ thing.turn) + np.zeros((len(directions), 3))
    ahead, start = directions[rays] @ thing.turn, start[rays]
    for _ in range(STEPS):
        gap = thing.bound(start + t[:, None] * ahead)
        arrived = gap < CLOSE * np.maximum(t, 0.2)
        found[rays[arrived]] = t[arrived]
        going = ~arrived & (t + gap < end)
        if not going.any():
            return found
        rays, t, end = rays[going], (t + gap)[going], end[going]
        start, ahead = start[going], ahead[going]
    return found
