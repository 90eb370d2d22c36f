# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Furniture of rooms: each builder adds one piece, as solids with roles, in the piece's frame."""

from collections.abc import Callable

from marigold_ros.synthetic.raycast.description import BALL, BOX, CABIN, CYLINDER, ROLLER
from marigold_ros.synthetic.scenes.pieces import clutter, person, Piece
import numpy as np


def dining(piece: Piece, rng: np.random.Generator) -> None:
    """A laid table with slatted chairs pushed up to it."""
    wood, chair = piece.solids.material('furniture'), piece.solids.material('furniture')
    seat = piece.solids.material('fabric') if rng.random() < 0.5 else chair
    wide, deep, high = rng.uniform(1.2, 2.4), rng.uniform(0.8, 1.1), rng.uniform(0.7, 0.78)
    piece.add(BOX, (0, high - 0.04, 0), (wide, 0.04, deep), wood)
    for x in (-1, 1):
        for z in (-1, 1):
            leg = (x * (wide / 2 - 0.08), 0, z * (deep / 2 - 0.08))
            piece.add(BOX, leg, (0.07, high, 0.07), wood)
    if rng.random() < 0.5:
        piece.add(BOX, (0, high, 0), (wide * 0.6, 0.006, 0.35), piece.solids.material('fabric'))
    tall = rng.uniform(0.85, 1.15)
    for along in np.arange(-wide / 2 + 0.35, wide / 2 - 0.2, rng.uniform(0.5, 0.7)):
        for side in (-1, 1):
            if rng.random() < 0.8:
                away = deep / 2 + rng.uniform(-0.1, 0.3)
                _slatted_chair(piece, (along, side * away), side, tall, (chair, seat))
    clutter(piece, rng, high, (wide, deep), int(rng.integers(1, 9)))


def _slatted_chair(
    piece: Piece, place: tuple, side: int, tall: float, materials: tuple[int, int]
) -> None:
    """Four legs, a seat, and a back of slats away from the table."""
    x, z = place
    wood, seat = materials
    piece.add(BOX, (x, 0.42, z), (0.42, 0.05, 0.42), seat)
    for dx in (-0.18, 0.18):
        piece.add(BOX, (x + dx, 0, z - side * 0.18), (0.04, 0.44, 0.04), wood)
        piece.add(BOX, (x + dx, 0, z + side * 0.19), (0.04, tall, 0.04), wood)
    for level in (0.62, 0.75, tall - 0.12):
        piece.add(BOX, (x, level, z + side * 0.19), (0.36, 0.08, 0.025), wood)


def desk(piece: Piece, rng: np.random.Generator) -> None:
    """An office desk at a wall: screens, keyboard, drawers, a swivel chair."""
    top, dark = piece.solids.material('furniture'), piece.solids.material('screen')
    metal, wide = piece.solids.material('metal'), rng.uniform(1.1, 1.8)
    piece.add(BOX, (0, 0.7, 0), (wide, 0.03, 0.75), top)
    for x in (-1, 1):
        piece.add(BOX, (x * (wide / 2 - 0.03), 0, 0), (0.05, 0.7, 0.65), metal)
    piece.add(BOX, (wide / 2 - 0.3, 0.1, 0), (0.42, 0.5, 0.6), top)
    for index in range(rng.integers(1, 3)):
        place = rng.normal(0, 0.05) + (0.55 * index - 0.25)
        piece.add(BOX, (place, 0.85, -0.15), (0.52, 0.32, 0.03), dark)
        piece.add(
            BOX, (place, 0.865, -0.145), (0.49, 0.29, 0.03), piece.solids.material('picture')
        )
        piece.add(BOX, (place, 0.73, -0.18), (0.05, 0.2, 0.04), dark)
        piece.add(BOX, (place, 0.73, -0.15), (0.24, 0.015, 0.18), dark)
    piece.add(BOX, (0, 0.73, 0.12), (0.42, 0.02, 0.14), piece.solids.material('plastic'))
    clutter(piece, rng, 0.73, (wide, 0.7), int(rng.integers(2, 8)))
    swivel_chair(_beside(piece, rng.normal(0, 0.2), rng.uniform(0.55, 0.9), np.pi), rng)


def _beside(piece: Piece, x: float, z: float, turn: float) -> Piece:
    """Frame of a second piece at a place in the frame of the first."""
    a, b = piece.cosine * x + piece.sine * z, piece.cosine * z - piece.sine * x
    place = (piece.place[0] + a, piece.place[1], piece.place[2] + b)
    return Piece(piece.solids, place, piece.yaw + turn)


def swivel_chair(piece: Piece, rng: np.random.Generator) -> None:
    """A seat on a column with five feet on castors."""
    cloth, black = piece.solids.material('fabric'), piece.solids.material('tyre')
    own_turn = rng.uniform(-0.8, 0.8)
    for index in range(5):
        angle = 2 * np.pi * index / 5 + own_turn
        x, z = 0.15 * np.sin(angle), 0.15 * np.cos(angle)
        piece.add(BOX, (x, 0.06, z), (0.05, 0.04, 0.32), black, angle)
        piece.add(BALL, (2 * x, 0, 2 * z), (0.06, 0.06, 0.06), black)
    piece.add(CYLINDER, (0, 0.08, 0), (0.06, 0.36, 0.06), black)
    piece.add(BOX, (0, 0.44, 0), (0.48, 0.08, 0.46), cloth)
    piece.add(BOX, (0, 0.6, -0.24), (0.44, rng.uniform(0.4, 0.65), 0.06), cloth)
    for x in (-0.27, 0.27):
        piece.add(BOX, (x, 0.62, 0), (0.05, 0.03, 0.26), black)
        piece.add(BOX, (x, 0.45, 0), (0.03, 0.18, 0.05), black)


def kitchen(piece: Piece, rng: np.random.Generator) -> None:
    """A run of cupboards with a worktop, hob or sink, wall cupboards, and a fridge."""
    body, top = piece.solids.material('furniture'), piece.solids.material('metal')
    metal, units = piece.solids.material('metal'), int(rng.integers(2, 5))
    wide = 0.6 * units
    piece.add(BOX, (0, 0.1, 0), (wide, 0.78, 0.56), body)
    piece.add(BOX, (0, 0, -0.03), (wide, 0.1, 0.5), piece.solids.material('tyre'))
    piece.add(BOX, (0, 0.88, 0.01), (wide + 0.02, 0.04, 0.61), top)
    hung = rng.random() < 0.7
    for index in range(units):
        x = (index + 0.5) * 0.6 - wide / 2
        kind = rng.choice(['doors', 'drawers', 'oven'], p=[0.5, 0.3, 0.2])
        front = piece.solids.material('screen') if kind == 'oven' else body
        for level in (0.12, 0.37, 0.62) if kind == 'drawers' else (0.12,):
            high = 0.23 if kind == 'drawers' else 0.73
            piece.add(BOX, (x, level, 0.28), (0.58, high, 0.02), front)
            piece.add(BOX, (x, level + high - 0.05, 0.3), (0.3, 0.02, 0.03), metal)
        if hung and rng.random() < 0.85:
            piece.add(BOX, (x, 1.4, -0.12), (0.58, 0.7, 0.32), body)
            piece.add(BOX, (x + 0.2, 1.44, 0.05), (0.02, 0.12, 0.03), metal)
    piece.add(CYLINDER, (wide * 0.2, 0.92, -0.2), (0.03, 0.3, 0.03), metal)
    if rng.random() < 0.5:
        tall, fridge = rng.uniform(1.4, 2.0), piece.solids.material('metal')
        away = wide / 2 + 0.32
        piece.add(BOX, (away, 0, 0), (0.6, tall, 0.62), fridge)
        piece.add(
            BOX, (away, tall * 0.66, 0.31), (0.59, 0.012, 0.02), piece.solids.material('tyre')
        )
        piece.add(BOX, (away - 0.24, tall * 0.4, 0.32), (0.025, 0.4, 0.05), metal)
    clutter(piece, rng, 0.92, (wide, 0.45), int(rng.integers(2, 9)))


def rack(piece: Piece, rng: np.random.Generator) -> None:
    """Open shelves on posts, full of boxes and things of all sorts."""
    metal, wide = piece.solids.material('metal'), rng.uniform(0.8, 2.0)
    deep, high = rng.uniform(0.35, 0.55), rng.uniform(1.2, 2.3)
    for side in (-1, 1):
        for end in (-1, 1):
            post = (side * wide / 2, 0, end * deep / 2)
            piece.add(BOX, post, (0.04, high, 0.04), metal)
    board = piece.solids.material('furniture')
    for level in np.arange(0.1, high - 0.1, rng.uniform(0.35, 0.5)):
        piece.add(BOX, (0, level, 0), (wide, 0.025, deep), board)
        x = -wide / 2 + 0.05
        while rng.random() < 0.9:
            size = (rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.32), deep * rng.uniform(0.5, 1.0))
            if x + size[0] > wide / 2:
                break
            role = str(rng.choice(['carton', 'plastic', 'carton', 'books', 'fabric']))
            kind = BOX if rng.random() < 0.75 else (CYLINDER, BALL, CABIN)[rng.integers(3)]
            place = (x + size[0] / 2, level + 0.025, rng.normal(0, 0.02))
            piece.add(kind, place, size, piece.solids.material(role), rng.normal(0, 0.08))
            x += size[0] + rng.uniform(0, 0.15)


def workbench(piece: Piece, rng: np.random.Generator) -> None:
    """A heavy bench heaped with tools, boxes below, boards with hooks above."""
    wood, wide = piece.solids.material('furniture'), rng.uniform(1.2, 2.6)
    high = rng.uniform(0.8, 0.95)
    piece.add(BOX, (0, high - 0.06, 0), (wide, 0.06, 0.65), wood)
    for x in (-1, 0, 1):
        piece.add(BOX, (x * (wide / 2 - 0.06), 0, 0.2), (0.1, high, 0.1), wood)
    if rng.random() < 0.7:
        piece.add(BOX, (0, rng.uniform(1.3, 1.6), -0.24), (wide, 0.03, 0.22), wood)
    clutter(piece, rng, high, (wide, 0.6), int(rng.integers(6, 15)))
    for _ in range(rng.integers(1, 5)):
        size = tuple(rng.uniform(0.2, 0.5, 3))
        place = (rng.uniform(-0.4, 0.4) * wide, 0, rng.uniform(-0.1, 0.15))
        piece.add(BOX, place, size, piece.solids.material('carton'), rng.normal(0, 0.3))


def heap(piece: Piece, rng: np.random.Generator) -> None:
    """Things left lying on the floor."""
    span = rng.uniform(0.4, 1.1)
    clutter(piece, rng, 0.0, (span, span), int(rng.integers(3, 9)))
    if rng.random() < 0.3:
        size = (rng.uniform(0.6, 1.8), 0.08, 0.08)
        role = piece.solids.material('plastic')
        piece.add(ROLLER, (0, 0, 0), size, role, rng.uniform(-np.pi, np.pi))


def boiler(piece: Piece, rng: np.random.Generator) -> None:
    """A tank with pipes up to the ceiling, or a metal cupboard of a heater."""
    tank, pipe = piece.solids.material('metal'), piece.solids.material('metal')
    wide, high = rng.uniform(0.4, 0.65), rng.uniform(1.0, 1.7)
    kind = CYLINDER if rng.random() < 0.6 else BOX
    piece.add(kind, (0, 0.12, 0), (wide, high, wide), tank)
    piece.add(CYLINDER, (0, 0, 0), (wide * 0.8, 0.12, wide * 0.8), piece.solids.material('tyre'))
    for x in (-0.12, 0.12):
        piece.add(CYLINDER, (x, high, 0), (0.05, 1.0, 0.05), pipe)
    piece.add(BOX, (0, high * 0.5, wide / 2), (0.16, 0.2, 0.02), piece.solids.material('paper'))


def radiator(piece: Piece, rng: np.random.Generator) -> None:
    """Ribs of a heater under a rail."""
    white, ribs = piece.solids.material('frame'), int(rng.integers(8, 18))
    high = rng.uniform(0.45, 0.7)
    for rib in range(ribs):
        piece.add(BOX, ((rib - ribs / 2) * 0.06, 0.12, -0.1), (0.035, high, 0.09), white)
    piece.add(BOX, (0, 0.12 + high, -0.1), (ribs * 0.06 + 0.03, 0.03, 0.1), white)


def armchair(piece: Piece, rng: np.random.Generator) -> None:
    """A tall upholstered chair with wings on short legs."""
    cloth, wood = piece.solids.material('fabric'), piece.solids.material('furniture')
    wide, tall = rng.uniform(0.65, 0.9), rng.uniform(0.85, 1.2)
    piece.add(BOX, (0, 0.16, 0), (wide, 0.28, 0.7), cloth)
    piece.add(BOX, (0, 0.3, -0.3), (wide * 0.85, tall - 0.3, 0.16), cloth)
    piece.add(ROLLER, (0, tall - 0.1, -0.3), (wide * 0.85, 0.18, 0.18), cloth)
    piece.add(BALL, (0, 0.36, 0.04), (wide * 0.75, 0.2, 0.6), cloth)
    for x in (-1, 1):
        piece.add(BOX, (x * wide * 0.45, 0.3, 0.02), (0.13, 0.28, 0.62), cloth)
        piece.add(BOX, (x * wide * 0.42, 0.55, -0.2), (0.07, tall - 0.65, 0.25), cloth)
        for z in (-0.28, 0.28):
            piece.add(CYLINDER, (x * wide * 0.42, 0, z), (0.05, 0.17, 0.05), wood)


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
    'dining': (dining, 1.1, False),
    'desk': (desk, 0.8, True),
    'swivel_chair': (swivel_chair, 0.4, False),
    'kitchen': (kitchen, 1.3, True),
    'rack': (rack, 0.8, True),
    'workbench': (workbench, 1.0, True),
    'heap': (heap, 0.5, False),
    'boiler': (boiler, 0.5, True),
    'radiator': (radiator, 0.4, True),
    'armchair': (armchair, 0.5, False),
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
