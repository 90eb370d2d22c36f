# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Furniture of rooms: each builder adds one piece, as solids with roles, in the piece's frame."""

from __future__ import annotations

from collections.abc import Callable

from marigold_ros.synthetic.raycast.description import BALL, BOX, CABIN, CYLINDER
from marigold_ros.synthetic.scenes import fittings
from marigold_ros.synthetic.scenes.pieces import clutter, person, Piece
import numpy as np


def table(piece: Piece, rng: np.random.Generator) -> None:
    """Four legs, a top, and clutter on it, sometimes chairs beside it."""
    wood = piece.solids.material('furniture')
    wide, deep = rng.uniform(0.7, 1.8), rng.uniform(0.5, 0.95)
    high = rng.uniform(0.4, 0.78)
    piece.add(BOX, (0, high - 0.04, 0), (wide, 0.04, deep), wood)
    for x in (-1, 1):
        for z in (-1, 1):
            leg = (x * (wide / 2 - 0.05), 0.0, z * (deep / 2 - 0.05))
            piece.add(BOX, leg, (0.06, high - 0.04, 0.06), wood)
    clutter(piece, rng, high, (wide, deep), int(rng.integers(0, 9)))


def chair(piece: Piece, rng: np.random.Generator) -> None:
    """A seat on four legs with a back."""
    wood = piece.solids.material('furniture')
    seat = piece.solids.material('fabric')
    side, high = rng.uniform(0.38, 0.5), rng.uniform(0.4, 0.48)
    piece.add(BOX, (0, high - 0.05, 0), (side, 0.05, side), seat)
    piece.add(BOX, (0, high, -side / 2 + 0.02), (side, rng.uniform(0.35, 0.6), 0.04), seat)
    for x in (-1, 1):
        for z in (-1, 1):
            leg = (x * (side / 2 - 0.03), 0.0, z * (side / 2 - 0.03))
            piece.add(CYLINDER, leg, (0.04, high - 0.05, 0.04), wood)


def sofa(piece: Piece, rng: np.random.Generator) -> None:
    """Base, back, arms and cushions."""
    cloth = piece.solids.material('fabric')
    wide, deep = rng.uniform(1.0, 2.1), rng.uniform(0.75, 0.95)
    piece.add(BOX, (0, 0.05, 0), (wide, 0.36, deep), cloth)
    piece.add(BOX, (0, 0.05, -deep / 2 + 0.1), (wide, rng.uniform(0.65, 0.9), 0.2), cloth)
    for x in (-1, 1):
        piece.add(BOX, (x * (wide / 2 - 0.09), 0.05, 0), (0.18, 0.52, deep), cloth)
    for _ in range(rng.integers(0, 4)):
        cushion = piece.solids.material('fabric')
        place = (rng.uniform(-0.35, 0.35) * wide, 0.41, -deep / 2 + 0.3)
        piece.add(BALL, place, (0.42, 0.4, 0.18), cushion, rng.uniform(-0.4, 0.4))


def bed(piece: Piece, rng: np.random.Generator) -> None:
    """Frame, mattress, blanket and pillows."""
    wood, sheet = piece.solids.material('furniture'), piece.solids.material('fabric')
    blanket = piece.solids.material('fabric')
    wide, deep = rng.uniform(0.9, 1.7), 2.0
    piece.add(BOX, (0, 0.1, 0), (wide, 0.22, deep), wood)
    piece.add(BOX, (0, 0.3, 0.02), (wide - 0.04, 0.2, deep - 0.06), sheet)
    piece.add(BOX, (0, 0.3, 0.35), (wide + 0.03, 0.22, deep - 0.7), blanket)
    piece.add(BOX, (0, 0.0, -deep / 2), (wide, rng.uniform(0.7, 1.1), 0.06), wood)
    piece.add(BALL, (0, 0.47, -0.7), (wide * 0.6, 0.16, 0.4), sheet)


def shelf(piece: Piece, rng: np.random.Generator) -> None:
    """Sides, back and boards with rows of books."""
    wood = piece.solids.material('furniture')
    wide, high, deep = rng.uniform(0.6, 1.6), rng.uniform(0.9, 2.1), rng.uniform(0.24, 0.4)
    for x in (-1, 1):
        piece.add(BOX, (x * wide / 2, 0, 0), (0.03, high, deep), wood)
    piece.add(BOX, (0, 0, -deep / 2 + 0.01), (wide, high, 0.02), wood)
    levels = np.arange(0.05, high, rng.uniform(0.28, 0.42))
    for level in levels:
        piece.add(BOX, (0, level, 0), (wide, 0.025, deep), wood)
        if rng.random() < 0.7 and level + 0.3 < high:
            row = rng.uniform(0.3, 0.95) * (wide - 0.06)
            place = ((row - wide + 0.06) / 2, level + 0.025, -0.02)
            size = (row, rng.uniform(0.18, 0.25), deep * 0.7)
            piece.add(BOX, place, size, piece.solids.material('books'))


def cabinet(piece: Piece, rng: np.random.Generator) -> None:
    """A closed body with door fronts and handles."""
    body, front = piece.solids.material('furniture'), piece.solids.material('furniture')
    wide, deep = rng.uniform(0.5, 1.8), rng.uniform(0.4, 0.62)
    high = rng.choice([rng.uniform(0.5, 1.0), rng.uniform(1.6, 2.2)])
    piece.add(BOX, (0, 0, 0), (wide, high, deep), body)
    doors = max(1, round(wide / rng.uniform(0.35, 0.6)))
    handle = piece.solids.material('metal')
    for index in range(doors):
        x = ((index + 0.5) / doors - 0.5) * wide
        size = (wide / doors - 0.02, high - 0.08, 0.02)
        piece.add(BOX, (x, 0.06, deep / 2), size, front)
        piece.add(
            BOX, (x + wide / doors * 0.35, high * 0.5, deep / 2 + 0.02), (0.02, 0.14, 0.03), handle
        )
    if high < 1.1:
        clutter(piece, rng, high, (wide, deep), int(rng.integers(0, 7)))


def floor_lamp(piece: Piece, rng: np.random.Generator) -> None:
    """A foot, a rod and a bright shade."""
    metal, shade = piece.solids.material('metal'), piece.solids.material('lamp')
    high = rng.uniform(1.2, 1.8)
    piece.add(CYLINDER, (0, 0, 0), (0.3, 0.03, 0.3), metal)
    piece.add(CYLINDER, (0, 0, 0), (0.03, high, 0.03), metal)
    kind = (CYLINDER, CABIN, BALL)[rng.integers(3)]
    piece.add(kind, (0, high - 0.05, 0), (0.36, 0.3, 0.36), shade)


def ceiling_lamp(piece: Piece, rng: np.random.Generator) -> None:
    """A ball on a cord, or a flat panel."""
    shade = piece.solids.material('lamp')
    if rng.random() < 0.5:
        drop = rng.uniform(0.2, 0.6)
        piece.add(CYLINDER, (0, -drop, 0), (0.015, drop, 0.015), piece.solids.material('metal'))
        piece.add(BALL, (0, -drop - 0.3, 0), (0.4, 0.3, 0.4), shade)
        return
    piece.add(BOX, (0, -0.06, 0), (rng.uniform(0.3, 1.2), 0.06, rng.uniform(0.15, 0.6)), shade)


def plant(piece: Piece, rng: np.random.Generator) -> None:
    """A pot with leaves of overlapping balls."""
    pot, leaf = piece.solids.material('plastic'), piece.solids.material('foliage')
    high, wide = rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.4)
    piece.add(CYLINDER, (0, 0, 0), (wide, high, wide), pot)
    piece.add(CYLINDER, (0, high, 0), (0.04, 0.4, 0.04), piece.solids.material('trunk'))
    for _ in range(rng.integers(6, 14)):
        x, z = rng.normal(0, 0.14, 2)
        size = rng.uniform(0.1, 0.35, 3)
        piece.add(
            BALL, (x, high + rng.uniform(0.05, 0.7), z), tuple(size), leaf, rng.uniform(0, 3)
        )


def carton(piece: Piece, rng: np.random.Generator) -> None:
    """A pile of boxes."""
    bottom = 0.0
    for _ in range(rng.integers(1, 4)):
        size = rng.uniform(0.2, 0.55, 3)
        turn = rng.uniform(-0.4, 0.4)
        piece.add(BOX, (0, bottom, 0), tuple(size), piece.solids.material('carton'), turn)
        bottom += size[1]


def rug(piece: Piece, rng: np.random.Generator) -> None:
    """A flat rug."""
    size = (rng.uniform(0.8, 2.4), rng.uniform(0.008, 0.02), rng.uniform(0.6, 1.6))
    piece.add(BOX, (0, 0, 0), size, piece.solids.material('fabric'))


def curtain(piece: Piece, rng: np.random.Generator) -> None:
    """Folds of cloth from near the ceiling to the floor."""
    cloth = piece.solids.material('fabric')
    folds, high = int(rng.integers(4, 9)), rng.uniform(1.8, 2.25)
    for fold in range(folds):
        x = (fold - folds / 2) * 0.11
        piece.add(CYLINDER, (x, 0.03, -0.25), (0.12, high, rng.uniform(0.06, 0.16)), cloth)


# builder, radius of its place in metres, stands at a wall
FURNITURE: dict[str, tuple[Callable[[Piece, np.random.Generator], None], float, bool]] = {
    'table': (table, 0.7, False),
    'chair': (chair, 0.4, False),
    'sofa': (sofa, 0.9, True),
    'bed': (bed, 1.0, False),
    'shelf': (shelf, 0.7, True),
    'cabinet': (cabinet, 0.7, True),
    'floor_lamp': (floor_lamp, 0.3, False),
    'ceiling_lamp': (ceiling_lamp, 0.0, False),
    'plant': (plant, 0.4, False),
    'carton': (carton, 0.4, False),
    'rug': (rug, 0.1, False),
    'curtain': (curtain, 0.35, True),
    'person': (person, 0.4, False),
    'dining': (fittings.dining, 1.1, False),
    'desk': (fittings.desk, 0.8, True),
    'swivel_chair': (fittings.swivel_chair, 0.4, False),
    'kitchen': (fittings.kitchen, 1.3, True),
    'rack': (fittings.rack, 0.8, True),
    'workbench': (fittings.workbench, 1.0, True),
    'heap': (fittings.heap, 0.5, False),
    'boiler': (fittings.boiler, 0.5, True),
    'radiator': (fittings.radiator, 0.4, True),
    'armchair': (fittings.armchair, 0.5, False),
}
NEAR_WALL = {'shelf': 0.36, 'cabinet': 0.36, 'rack': 0.36, 'kitchen': 0.34, 'workbench': 0.4}
# How often each piece stands in a room of a kind; those left out never do.
THEMES: dict[str, dict[str, float]] = {
    'home': {
        **{'table': 4, 'chair': 3, 'sofa': 3, 'bed': 2, 'shelf': 3, 'cabinet': 3, 'floor_lamp': 2},
        **{'ceiling_lamp': 2, 'plant': 2, 'rug': 2, 'curtain': 2, 'person': 1, 'dining': 3},
        **{'radiator': 1, 'armchair': 3, 'heap': 1, 'carton': 1},
    },
    'office': {
        **{'desk': 7, 'swivel_chair': 2, 'shelf': 3, 'cabinet': 3, 'plant': 2, 'ceiling_lamp': 3},
        **{'person': 2, 'table': 2, 'chair': 2, 'radiator': 1, 'carton': 1},
    },
    'kitchen': {
        **{'kitchen': 6, 'dining': 3, 'table': 2, 'chair': 2, 'cabinet': 2, 'ceiling_lamp': 2},
        **{'person': 1, 'plant': 1, 'heap': 1},
    },
    'store': {
        **{'rack': 6, 'workbench': 4, 'heap': 5, 'carton': 5, 'boiler': 2, 'table': 1, 'chair': 1},
        **{'cabinet': 2, 'person': 1, 'ceiling_lamp': 1},
    },
    'any': dict.fromkeys(FURNITURE, 1.0),
}
