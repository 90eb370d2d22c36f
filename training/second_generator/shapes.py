# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Solids of the second generator, given by bounds on the distance to them, and rays marched to them.

Each bound is zero on the surface and nowhere above the true distance, so that a ray may always go
on by it. A solid is marched alone and only inside its bounding ball; meeting all solids at once
would cost as many evaluations again as there are solids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEPS = 160
CLOSE = 2e-5  # of the way so far, at which a ray has arrived
Bound = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Thing:
    """
    One solid.

    ``bound`` maps points (N, 3) in its own frame to bounds on the distance (N,), ``radius`` is
    that of a ball about the origin around it, ``turn`` (3, 3) and ``centre`` (3,) give
    world = turn @ own + centre, ``look`` is its row among the looks.
    """

    bound: Bound
    radius: float
    turn: np.ndarray
    centre: np.ndarray
    look: int

    def at(self, points: np.ndarray) -> np.ndarray:
        """Bound on the distance from points of the world (N, 3)."""
        return self.bound((points - self.centre) @ self.turn)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Unit normals (N, 3) at points of the surface, by differences."""
        step = 1e-4 * max(self.radius, 0.1)
        columns = [
            self.at(points + step * axis) - self.at(points - step * axis) for axis in np.eye(3)
        ]
        gradient = np.stack(columns, axis=1)
        return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)


def block(half: np.ndarray, rounding: float = 0.0) -> tuple[Bound, float]:
    """Box with half extents (3,), edges rounded."""

    def bound(p: np.ndarray) -> np.ndarray:
        q = np.abs(p) - (half - rounding)
        outside = np.linalg.norm(np.maximum(q, 0), axis=1)
        return outside + np.minimum(q.max(axis=1), 0) - rounding

    return bound, float(np.linalg.norm(half))


def ring(wide: float, thick: float) -> tuple[Bound, float]:
    """Torus about y."""

    def bound(p: np.ndarray) -> np.ndarray:
        return np.hypot(np.hypot(p[:, 0], p[:, 2]) - wide, p[:, 1]) - thick

    return bound, wide + thick


def rod(half: float, thick: float) -> tuple[Bound, float]:
    """Cylinder along y with round ends."""

    def bound(p: np.ndarray) -> np.ndarray:
        y = p[:, 1] - np.clip(p[:, 1], -half, half)
        return np.sqrt(p[:, 0] ** 2 + y * y + p[:, 2] ** 2) - thick

    return bound, half + thick


def cone(half: float, bottom: float, top: float) -> tuple[Bound, float]:
    """Frustum about y (down is positive): radius ``bottom`` at y = half, ``top`` at y = -half."""
    slope = (bottom - top) / (2 * half)
    steep = np.hypot(1.0, slope)

    def bound(p: np.ndarray) -> np.ndarray:
        side = np.hypot(p[:, 0], p[:, 2]) - (bottom + top) / 2 - slope * p[:, 1]
        return np.maximum(side / steep, np.abs(p[:, 1]) - half)

    return bound, float(np.hypot(half, max(bottom, top)))


def crystal(normals: np.ndarray, offsets: np.ndarray, radius: float) -> tuple[Bound, float]:
    """Convex polyhedron of half-spaces ``normals @ p <= offsets``; (F, 3) unit and (F,)."""

    def bound(p: np.ndarray) -> np.ndarray:
        return (p @ normals.T - offsets).max(axis=1)

    return bound, radius


def bowl(wide: float, thick: float) -> tuple[Bound, float]:
    """Lower half of a hollow ball, open at y < 0 (up)."""

    def bound(p: np.ndarray) -> np.ndarray:
        return np.maximum(np.abs(np.linalg.norm(p, axis=1) - wide) - thick, -p[:, 1])

    return bound, wide + thick


TETRA = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
OCTA = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / np.sqrt(3)


def march(
    thing: Thing, origin: np.ndarray, directions: np.ndarray, limit: np.ndarray
) -> np.ndarray:
    """
    Follow rays to one solid.

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
