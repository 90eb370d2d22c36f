# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A scene of the second generator while it is drawn: land, walls, and things that rest on others.

Axes as everywhere here: x right, y down, z forward, metres. Things rest on what lies below them,
found by a ray from above, so that heaps pile up instead of floating.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from second_generator import shapes as shapes
from second_generator.shapes import march, Thing

RELIEF = 64  # cells of the table of heights
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 15)] * 3), axis=-1).reshape(-1, 3)
DOWN = np.array([[0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class Ground:
    """Land: a height above y = 0 anywhere, ``rise`` m over waves of ``wave`` m."""

    rise: float
    wave: float
    table: np.ndarray

    def height(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Height of the land at places, m."""
        total = np.zeros(np.broadcast(x, z).shape)
        for octave in range(3 if self.rise else 0):
            u, v = (c / self.wave * 2**octave + 11 * octave for c in (x, z))
            total = total + 0.4**octave * _bumps(self.table, u, v)
        return self.rise * total


def _bumps(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth heights in [0, 1] between the corners of a periodic table."""
    i, j = np.floor(u), np.floor(v)
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = i.astype(int) % RELIEF, j.astype(int) % RELIEF
    k, m = (i + 1) % RELIEF, (j + 1) % RELIEF
    first = table[i, j] * (1 - b) + table[i, m] * b
    return first * (1 - a) + (table[k, j] * (1 - b) + table[k, m] * b) * a


@dataclass
class Layout:
    """A scene while it is drawn: land, things, and walls as planes ``n . p = c`` or none."""

    ground: Ground
    normals: np.ndarray
    offsets: np.ndarray
    things: list[Thing] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)  # of looks
    focus: np.ndarray = field(default_factory=lambda: np.zeros(3))
    kind: str = 'yard'

    def look(self, size: float) -> int:
        """Reserve a look for a thing of some size."""
        self.sizes.append(size)
        return len(self.sizes) - 1

    def add(self, solid: tuple, place: tuple, look: int, turn: np.ndarray | None = None) -> None:
        """Add a solid with its centre at a place."""
        turned = np.eye(3) if turn is None else turn
        bound, radius = solid
        self.things.append(Thing(bound, radius, turned, np.array(place, dtype=float), look))

    def top(self, x: float, z: float) -> float:
        """Height of the highest surface at a place."""
        start = np.array([x, -50.0, z])
        falls = [march(thing, start, DOWN, np.array([100.0]))[0] for thing in self.things]
        land = float(self.ground.height(np.array(x), np.array(z)))
        return max([land, *(50.0 - fall for fall in falls if np.isfinite(fall))])


def spin(rng: np.random.Generator) -> np.ndarray:
    """Turn (3, 3) drawn evenly from all."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def upright(angle: float) -> np.ndarray:
    """Turn about the vertical."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def draw_solid(rng: np.random.Generator, size: float) -> tuple:
    """Draw a shape about ``size`` m from end to end."""
    half = size / 2
    draw: tuple[Callable[[], tuple], ...] = (
        lambda: shapes.block(half * rng.uniform(0.25, 0.9, 3), 0.04 * size * rng.random()),
        lambda: shapes.block(half * rng.uniform(0.25, 0.9, 3)),
        lambda: shapes.ring(half * 0.75, half * rng.uniform(0.1, 0.25)),
        lambda: shapes.rod(half * rng.uniform(0.3, 0.8), half * rng.uniform(0.1, 0.4)),
        lambda: shapes.cone(half * 0.8, half * rng.uniform(0.3, 0.7), half * rng.uniform(0, 0.6)),
        lambda: shapes.crystal(shapes.TETRA, np.full(4, half / 3), half),
        lambda: shapes.crystal(shapes.OCTA, np.full(8, half * 3**-0.5), half),
        lambda: shapes.bowl(half * 0.85, half * 0.1),
        lambda: rock(rng, half),
    )
    return draw[rng.integers(len(draw))]()


def rock(rng: np.random.Generator, half: float) -> tuple:
    normals = rng.normal(size=(14, 3))
    normals = np.concatenate([normals, np.eye(3), -np.eye(3)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return shapes.crystal(normals, half * rng.uniform(0.45, 0.6, 20), half * 1.05)


def lay_down(layout: Layout, rng: np.random.Generator, place: tuple, size: float) -> None:
    """Lay a drawn solid on what is below; half of them upright, none quite on its tip."""
    solid = draw_solid(rng, size)
    turn = upright(rng.uniform(0, 7)) if rng.random() < 0.5 else spin(rng)
    own = GRID * solid[1]
    within = (own @ turn.T)[solid[0](own) <= 0.04 * size]
    below = within[:, 1].max(initial=0.2 * size) - 0.05 * size
    # What hangs in a tree or on a gate would look like floating.
    land = float(layout.ground.height(*map(np.array, place)))
    floor = layout.top(*place)
    y = -(floor if floor - land < 1.2 else land) - below
    layout.add(solid, (place[0], y, place[1]), layout.look(size), turn)
