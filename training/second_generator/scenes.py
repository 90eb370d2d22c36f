# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What stands where in the second generator: yards, halls and heaps, stairs, tables and trees."""

from __future__ import annotations

import numpy as np

from second_generator import shapes as shapes
from second_generator.layout import (
    Ground,
    lay_down,
    Layout,
    RELIEF,
    rock,
    spin,
    upright,
)


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw a yard on open land, a hall, or a heap to be seen from close by."""
    kind = str(rng.choice(['yard', 'hall', 'heap'], p=[0.35, 0.4, 0.25]))
    rise = rng.uniform(0.1, 1.2) if kind == 'yard' and rng.random() < 0.6 else 0.0
    ground = Ground(rise, rng.uniform(5, 14), rng.random((RELIEF, RELIEF)))
    walls = kind == 'hall' or (kind == 'heap' and rng.random() < 0.7)
    normals, offsets = _hall(rng) if walls else (np.zeros((0, 3)), np.zeros(0))
    layout = Layout(ground, normals, offsets, kind=kind)
    for _ in range(2 + len(layout.offsets)):
        layout.look(3.0)
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
        builders = (
            _single,
            _single,
            _single,
            _stairs,
            _table,
            _gate,
            _tree,
            _boards,
            _pile,
            _tree,
        )
        builders[rng.integers(len(builders))](layout, rng, place)
    return layout


def _hall(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Walls at odd angles under a ceiling that may slope; outward normals and offsets."""
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


def _inside(layout: Layout, place: tuple, margin: float) -> bool:
    point = np.array([place[0], 0.0, place[1]])
    return bool((layout.normals @ point < layout.offsets - margin).all())


def _single(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    large = 2.5 if layout.kind == 'yard' else 1.2
    lay_down(layout, rng, place, rng.uniform(0.25, 1.0) * large)


def _pile(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    span = rng.uniform(0.2, 0.8)
    for _ in range(rng.integers(3, 7)):
        x, z = place + rng.normal(0, 0.5 * span, 2)
        lay_down(layout, rng, (x, z), span * rng.uniform(0.4, 1.0))


def _heap(layout: Layout, rng: np.random.Generator) -> None:
    """Many small things around one place, mostly on a slab."""
    slab, high = rng.random() < 0.7, rng.uniform(0.3, 0.8)
    if slab:
        half = np.array([rng.uniform(0.4, 0.9), high / 2, rng.uniform(0.3, 0.7)])
        layout.add(shapes.block(half, 0.01), (0, -high / 2, 0), layout.look(1.0))
    for _ in range(rng.integers(12, 30)):
        x, z = rng.normal(0, 0.22, 2)
        lay_down(layout, rng, (x, z), rng.uniform(0.05, 0.3))
    layout.focus = np.array([0.0, -(high if slab else 0.0) - 0.05, 0.0])


def _houses(layout: Layout, rng: np.random.Generator) -> None:
    """Large blocks and pyramids on them, and long walls, behind the rest."""
    for _ in range(rng.integers(0, 7)):
        z = rng.uniform(9, 45)
        x, turn = rng.uniform(-0.9, 0.9) * z, upright(rng.normal(0, 0.3))
        half, look = rng.uniform(1.0, 5.0, 3), layout.look(1.5)
        if rng.random() < 0.3:
            half = half * [1.5, 0.25, 0.05]
        ground = -float(layout.ground.height(np.array(x), np.array(z)))
        layout.add(shapes.block(half), (x, ground - half[1] + 0.3, z), look, turn)
        if rng.random() < 0.5 and half[2] > 0.5:
            across = np.array([[1.0, 0, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]])
            slopes = np.append((across * [1, 1, 1] - [0, 1.0, 0]) / np.sqrt(2), [[0, 1.0, 0]], 0)
            wide = float(min(half[0], half[2]))
            offsets = np.append(np.full(4, wide / np.sqrt(2)), 0.0)
            roof = shapes.crystal(slopes, offsets, 1.8 * wide)
            top = (x, ground - 2 * half[1] + 0.3, z)
            layout.add(roof, top, layout.look(0.8), turn)


def _stairs(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    turn, look = upright(rng.uniform(0, 7)), layout.look(0.8)
    rise, run, half = rng.uniform(0.12, 0.2), rng.uniform(0.22, 0.35), rng.uniform(0.4, 1.0)
    ground = -layout.ground.height(*map(np.array, place))
    for step in range(rng.integers(3, 10)):
        size = np.array([half, rise * (step + 1) / 2 + 0.1, run / 2])
        away = turn @ np.array([0, 0, step * run])
        centre = (place[0] + away[0], ground - size[1] + 0.2, place[1] + away[2])
        layout.add(shapes.block(size), centre, look, turn)


def _table(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    turn, look, high = upright(rng.uniform(0, 7)), layout.look(0.5), rng.uniform(0.4, 1.0)
    wide, deep = rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.5)
    ground = -layout.ground.height(*map(np.array, place))
    top = (place[0], ground - high, place[1])
    layout.add(shapes.block(np.array([wide, 0.025, deep]), 0.01), top, look, turn)
    for x in (-0.85, 0.85):
        for z in (-0.85, 0.85):
            away = turn @ np.array([x * wide, 0, z * deep])
            leg = (place[0] + away[0], ground - high / 2, place[1] + away[2])
            layout.add(shapes.rod(high / 2, 0.025), leg, look)
    for _ in range(rng.integers(0, 4)):
        away = turn @ (rng.uniform(-0.7, 0.7, 3) * [wide, 0, deep])
        lay_down(layout, rng, (place[0] + away[0], place[1] + away[2]), rng.uniform(0.1, 0.35))


def _gate(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    turn, look, high = upright(rng.uniform(0, 7)), layout.look(1.0), rng.uniform(0.8, 2.2)
    half, thick = rng.uniform(0.4, 1.0), rng.uniform(0.06, 0.2)
    ground = -layout.ground.height(*map(np.array, place))
    for side in (-1, 1):
        away = turn @ np.array([side * half, 0, 0])
        foot = (place[0] + away[0], ground - high / 2, place[1] + away[2])
        layout.add(shapes.block(np.array([thick, high / 2 + 0.1, thick])), foot, look, turn)
    # A ring on edge: its lower half closes the arch below the lintel's height.
    edge = turn @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    layout.add(shapes.ring(half, thick * 0.8), (place[0], ground - high, place[1]), look, edge)


def _tree(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    scale = rng.uniform(1.5, 4.0) if layout.kind == 'yard' else rng.uniform(0.6, 1.4)
    ground = -layout.ground.height(*map(np.array, place))
    bark, leaf = layout.look(0.2), layout.look(0.4)
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
        layout.add(rock(rng, 0.16 * scale), centre, leaf, spin(rng))


def _boards(layout: Layout, rng: np.random.Generator, place: tuple) -> None:
    """Shelves with things on them."""
    turn, look = upright(rng.uniform(0, 7)), layout.look(0.6)
    wide, deep, gap = rng.uniform(0.3, 0.8), rng.uniform(0.12, 0.25), rng.uniform(0.3, 0.5)
    ground = -layout.ground.height(*map(np.array, place))
    levels = int(rng.integers(2, 5))
    for side in (-1, 1):
        away = turn @ np.array([side * wide, 0, 0])
        panel = (place[0] + away[0], ground - gap * levels / 2, place[1] + away[2])
        layout.add(shapes.block(np.array([0.02, gap * levels / 2, deep])), panel, look, turn)
    for level in range(levels):
        board = (place[0], ground - gap * (level + 0.5), place[1])
        layout.add(shapes.block(np.array([wide, 0.015, deep])), board, look, turn)
        for _ in range(rng.integers(0, 3)):
            size = rng.uniform(0.1, 0.8 * gap)
            away = turn @ np.array([rng.uniform(-0.8, 0.8) * wide, 0, 0])
            half = size / 2 * np.array([rng.uniform(0.3, 1.0), 1.0, 0.5])
            thing = (place[0] + away[0], board[1] - 0.015 - half[1], place[1] + away[2])
            layout.add(shapes.block(half, 0.005), thing, layout.look(size), turn)
