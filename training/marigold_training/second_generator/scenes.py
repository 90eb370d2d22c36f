# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Scenes of the second generator: yards, halls and heaps with stairs, tables, trees and shelves.

Axes: x right, y down, z forward, metres. Things rest on what lies below them, found by a ray from
above, so that heaps pile up instead of floating.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from marigold_training.second_generator import shapes
from marigold_training.second_generator.shapes import march, Thing
import numpy as np

RELIEF = 64  # cells of the height table
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 15)] * 3), axis=-1).reshape(-1, 3)
DOWN = np.array([[0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class Ground:
    """Terrain of height ``rise`` m above y = 0 in waves of ``wave`` m."""

    rise: float
    wave: float
    table: np.ndarray

    def height(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the terrain height at places, m."""
        total = np.zeros(np.broadcast(x, z).shape)
        for octave in range(3 if self.rise else 0):
            u, v = (c / self.wave * 2**octave + 11 * octave for c in (x, z))
            total = total + 0.4**octave * _bumps(self.table, u, v)
        return self.rise * total


def _bumps(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Interpolate heights in [0, 1] smoothly in a periodic table."""
    i, j = np.floor(u), np.floor(v)
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = i.astype(int) % RELIEF, j.astype(int) % RELIEF
    k, m = (i + 1) % RELIEF, (j + 1) % RELIEF
    first = table[i, j] * (1 - b) + table[i, m] * b
    return first * (1 - a) + (table[k, j] * (1 - b) + table[k, m] * b) * a


@dataclass
class SceneLayout:
    """A scene under construction: ground, things, and walls as planes ``n . p = c``, if any."""

    ground: Ground
    normals: np.ndarray
    offsets: np.ndarray
    things: list[Thing] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)  # of materials
    focus: np.ndarray = field(default_factory=lambda: np.zeros(3))
    kind: str = 'yard'

    def new_material(self, size: float) -> int:
        """Reserve a material for a thing of some size and return its row."""
        self.sizes.append(size)
        return len(self.sizes) - 1

    def add(
        self, solid: tuple, place: tuple, material: int, turn: np.ndarray | None = None
    ) -> None:
        """Add a solid centred at a place."""
        turned = np.eye(3) if turn is None else turn
        bound, radius = solid
        self.things.append(Thing(bound, radius, turned, np.array(place, dtype=float), material))

    def top(self, x: float, z: float) -> float:
        """Return the height of the highest surface at a place."""
        start = np.array([x, -50.0, z])
        falls = [march(thing, start, DOWN, np.array([100.0]))[0] for thing in self.things]
        land = float(self.ground.height(np.array(x), np.array(z)))
        return max([land, *(50.0 - fall for fall in falls if np.isfinite(fall))])


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation (3, 3) uniformly."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def yaw_rotation(angle: float) -> np.ndarray:
    """Return the rotation (3, 3) about the vertical."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def draw_solid(rng: np.random.Generator, size: float) -> tuple:
    """Draw a solid about ``size`` m long."""
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
    """Draw an irregular convex polyhedron."""
    normals = rng.normal(size=(14, 3))
    normals = np.concatenate([normals, np.eye(3), -np.eye(3)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return shapes.crystal(normals, half * rng.uniform(0.45, 0.6, 20), half * 1.05)


def place_on_top(layout: SceneLayout, rng: np.random.Generator, place: tuple, size: float) -> None:
    """Place a random solid on what is below, half of them upright, slightly sunk in."""
    solid = draw_solid(rng, size)
    turn = yaw_rotation(rng.uniform(0, 7)) if rng.random() < 0.5 else random_rotation(rng)
    own = GRID * solid[1]
    within = (own @ turn.T)[solid[0](own) <= 0.04 * size]
    below = within[:, 1].max(initial=0.2 * size) - 0.05 * size
    # On a tree or a gate it would seem to float.
    land = float(layout.ground.height(*map(np.array, place)))
    floor = layout.top(*place)
    y = -(floor if floor - land < 1.2 else land) - below
    layout.add(solid, (place[0], y, place[1]), layout.new_material(size), turn)


def draw_layout(rng: np.random.Generator) -> SceneLayout:
    """Draw a yard on open ground, a hall, or a heap to see from close by."""
    kind = str(rng.choice(['yard', 'hall', 'heap'], p=[0.35, 0.4, 0.25]))
    rise = rng.uniform(0.1, 1.2) if kind == 'yard' and rng.random() < 0.6 else 0.0
    ground = Ground(rise, rng.uniform(5, 14), rng.random((RELIEF, RELIEF)))
    walls = kind == 'hall' or (kind == 'heap' and rng.random() < 0.7)
    normals, offsets = _hall(rng) if walls else (np.zeros((0, 3)), np.zeros(0))
    layout = SceneLayout(ground, normals, offsets, kind=kind)
    for _ in range(2 + len(layout.offsets)):
        layout.new_material(3.0)
    if kind == 'heap':
        _heap(layout, rng)
        return layout
    reach = 6.0 if kind == 'hall' else 30.0
    if kind == 'yard':
        _houses(layout, rng)
    for _ in range(rng.integers(9, 22) if kind == 'hall' else rng.integers(14, 28)):
        z = 1.8 * (reach / 1.8) ** rng.random()
        place = (rng.uniform(-0.7, 0.7) * (z + 1), z)
        if layout.kind == 'hall':
            place = tuple(rng.uniform(-4.5, 4.5, 2))
        if not _inside(layout, place, 0.5):
            continue
        _BUILDERS[rng.integers(len(_BUILDERS))](layout, rng, place)
    return layout


def _hall(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Outward normals and offsets of walls at odd angles and of a ceiling that may slope."""
    count = int(rng.integers(4, 8))
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count
    angles += rng.uniform(0, 2 * np.pi)
    lean = rng.normal(0, 0.02, count)
    normals = np.stack([np.sin(angles), lean, np.cos(angles)], axis=1)
    ceiling = np.array([rng.normal(0, 0.1), -1.0, rng.normal(0, 0.1)])
    normals = np.concatenate([normals, ceiling[None]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = np.append(rng.uniform(2.5, 7.0, count), rng.uniform(2.4, 4.5))
    return normals, offsets


def _inside(layout: SceneLayout, place: tuple, margin: float) -> bool:
    point = np.array([place[0], 0.0, place[1]])
    return bool((layout.normals @ point < layout.offsets - margin).all())


def _single(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    large = 2.5 if layout.kind == 'yard' else 1.2
    place_on_top(layout, rng, place, rng.uniform(0.25, 1.0) * large)


def _pile(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    span = rng.uniform(0.2, 0.8)
    for _ in range(rng.integers(3, 7)):
        x, z = place + rng.normal(0, 0.5 * span, 2)
        place_on_top(layout, rng, (x, z), span * rng.uniform(0.4, 1.0))


def _heap(layout: SceneLayout, rng: np.random.Generator) -> None:
    """Add many small things around one place, mostly on a slab."""
    slab, high = rng.random() < 0.7, rng.uniform(0.3, 0.8)
    if slab:
        half = np.array([rng.uniform(0.4, 0.9), high / 2, rng.uniform(0.3, 0.7)])
        layout.add(shapes.block(half, 0.01), (0, -high / 2, 0), layout.new_material(1.0))
    for _ in range(rng.integers(12, 30)):
        x, z = rng.normal(0, 0.22, 2)
        place_on_top(layout, rng, (x, z), rng.uniform(0.05, 0.3))
    layout.focus = np.array([0.0, -(high if slab else 0.0) - 0.05, 0.0])


def _houses(layout: SceneLayout, rng: np.random.Generator) -> None:
    """Add large blocks, some with a pyramid roof, and long walls behind the rest."""
    for _ in range(rng.integers(0, 7)):
        z = rng.uniform(9, 45)
        x, turn = rng.uniform(-0.9, 0.9) * z, yaw_rotation(rng.normal(0, 0.3))
        half, material = rng.uniform(1.0, 5.0, 3), layout.new_material(1.5)
        if rng.random() < 0.3:
            half = half * [1.5, 0.25, 0.05]
        ground = -float(layout.ground.height(np.array(x), np.array(z)))
        layout.add(shapes.block(half), (x, ground - half[1] + 0.3, z), material, turn)
        if rng.random() < 0.5 and half[2] > 0.5:
            across = np.array([[1.0, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]])
            slopes = np.append((across - [0, 1.0, 0]) / np.sqrt(2), [[0, 1.0, 0]], 0)
            wide = float(min(half[0], half[2]))
            offsets = np.append(np.full(4, wide / np.sqrt(2)), 0.0)
            roof = shapes.crystal(slopes, offsets, 1.8 * wide)
            top = (x, ground - 2 * half[1] + 0.3, z)
            layout.add(roof, top, layout.new_material(0.8), turn)


def _stairs(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    turn, material = yaw_rotation(rng.uniform(0, 7)), layout.new_material(0.8)
    rise, run, half = rng.uniform(0.12, 0.2), rng.uniform(0.22, 0.35), rng.uniform(0.4, 1.0)
    ground = -layout.ground.height(*map(np.array, place))
    for step in range(rng.integers(3, 10)):
        size = np.array([half, rise * (step + 1) / 2 + 0.1, run / 2])
        away = turn @ np.array([0, 0, step * run])
        centre = (place[0] + away[0], ground - size[1] + 0.2, place[1] + away[2])
        layout.add(shapes.block(size), centre, material, turn)


def _table(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    turn, material = yaw_rotation(rng.uniform(0, 7)), layout.new_material(0.5)
    high, wide, deep = rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.5)
    ground = -layout.ground.height(*map(np.array, place))
    top = (place[0], ground - high, place[1])
    layout.add(shapes.block(np.array([wide, 0.025, deep]), 0.01), top, material, turn)
    for x in (-0.85, 0.85):
        for z in (-0.85, 0.85):
            away = turn @ np.array([x * wide, 0, z * deep])
            leg = (place[0] + away[0], ground - high / 2, place[1] + away[2])
            layout.add(shapes.rod(high / 2, 0.025), leg, material)
    for _ in range(rng.integers(0, 4)):
        away = turn @ (rng.uniform(-0.7, 0.7, 3) * [wide, 0, deep])
        place_on_top(layout, rng, (place[0] + away[0], place[1] + away[2]), rng.uniform(0.1, 0.35))


def _gate(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    turn, material = yaw_rotation(rng.uniform(0, 7)), layout.new_material(1.0)
    high, half, thick = rng.uniform(0.8, 2.2), rng.uniform(0.4, 1.0), rng.uniform(0.06, 0.2)
    ground = -layout.ground.height(*map(np.array, place))
    for side in (-1, 1):
        away = turn @ np.array([side * half, 0, 0])
        foot = (place[0] + away[0], ground - high / 2, place[1] + away[2])
        layout.add(shapes.block(np.array([thick, high / 2 + 0.1, thick])), foot, material, turn)
    # A ring on edge: its lower half closes the arch below the lintel's height.
    edge = turn @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    layout.add(shapes.ring(half, thick * 0.8), (place[0], ground - high, place[1]), material, edge)


def _tree(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    scale = rng.uniform(1.5, 4.0) if layout.kind == 'yard' else rng.uniform(0.6, 1.4)
    ground = -layout.ground.height(*map(np.array, place))
    bark, leaf = layout.new_material(0.2), layout.new_material(0.4)
    trunk = (place[0], ground - 0.25 * scale, place[1])
    layout.add(shapes.rod(0.3 * scale, 0.035 * scale), trunk, bark)
    if rng.random() < 0.4:
        for tier in range(3):
            wide = scale * (0.32 - 0.08 * tier)
            centre = (place[0], ground - scale * (0.5 + 0.2 * tier), place[1])
            layout.add(shapes.cone(0.16 * scale, wide, 0.02), centre, leaf)
        return
    for _ in range(rng.integers(8, 15)):
        x, y, z = rng.normal(0, 0.14, 3) * scale
        centre = (place[0] + x, ground - 0.72 * scale + y, place[1] + z)
        layout.add(rock(rng, 0.16 * scale), centre, leaf, random_rotation(rng))


def _boards(layout: SceneLayout, rng: np.random.Generator, place: tuple) -> None:
    """Add shelves with things on them."""
    turn, material = yaw_rotation(rng.uniform(0, 7)), layout.new_material(0.6)
    wide, deep, gap = rng.uniform(0.3, 0.8), rng.uniform(0.12, 0.25), rng.uniform(0.3, 0.5)
    ground = -layout.ground.height(*map(np.array, place))
    levels = int(rng.integers(2, 5))
    for side in (-1, 1):
        away = turn @ np.array([side * wide, 0, 0])
        panel = (place[0] + away[0], ground - gap * levels / 2, place[1] + away[2])
        layout.add(shapes.block(np.array([0.02, gap * levels / 2, deep])), panel, material, turn)
    for level in range(levels):
        board = (place[0], ground - gap * (level + 0.5), place[1])
        layout.add(shapes.block(np.array([wide, 0.015, deep])), board, material, turn)
        for _ in range(rng.integers(0, 3)):
            size = rng.uniform(0.1, 0.8 * gap)
            away = turn @ np.array([rng.uniform(-0.8, 0.8) * wide, 0, 0])
            half = size / 2 * np.array([rng.uniform(0.3, 1.0), 1.0, 0.5])
            thing = (place[0] + away[0], board[1] - 0.015 - half[1], place[1] + away[2])
            layout.add(shapes.block(half, 0.005), thing, layout.new_material(size), turn)


_BUILDERS = (*[_single] * 3, _stairs, _table, _gate, _tree, _boards, _pile, _tree)
