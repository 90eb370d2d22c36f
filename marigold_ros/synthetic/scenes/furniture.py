# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Furniture of rooms: each builder adds one piece, as solids with roles, in the piece's frame."""

from collections.abc import Callable

from marigold_ros.synthetic.raycast.description import BALL, BOX, CABIN, CYLINDER, ROLLER
from marigold_ros.synthetic.scenes.pieces import clutter, person, Piece
import numpy as np


def _legs(
    piece: Piece, kind: int, area: tuple, inset: float, size: tuple[float, float], material: int
) -> None:
    """Add four legs of a thickness and height, ``inset`` from the edges of an area."""
    thick, high = size
    for x in (-1, 1):
        for z in (-1, 1):
            place = (x * (area[0] / 2 - inset), 0, z * (area[1] / 2 - inset))
            piece.add(kind, place, (thick, high, thick), material)


def dining(piece: Piece, rng: np.random.Generator) -> None:
    """Add a laid table with slatted chairs pushed up to it."""
    wood, chair = piece.materials('furniture', 'furniture')
    seat = piece.material('fabric') if rng.random() < 0.5 else chair
    wide, deep, high = rng.uniform(1.2, 2.4), rng.uniform(0.8, 1.1), rng.uniform(0.7, 0.78)
    piece.add(BOX, (0, high - 0.04, 0), (wide, 0.04, deep), wood)
    _legs(piece, BOX, (wide, deep), 0.08, (0.07, high), wood)
    if rng.random() < 0.5:
        piece.add(BOX, (0, high, 0), (wide * 0.6, 0.006, 0.35), piece.material('fabric'))
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
    """Add a chair with four legs, a seat, and a back of slats away from the table."""
    (x, z), (wood, seat) = place, materials
    piece.add(BOX, (x, 0.42, z), (0.42, 0.05, 0.42), seat)
    for dx in (-0.18, 0.18):
        piece.add(BOX, (x + dx, 0, z - side * 0.18), (0.04, 0.44, 0.04), wood)
        piece.add(BOX, (x + dx, 0, z + side * 0.19), (0.04, tall, 0.04), wood)
    for level in (0.62, 0.75, tall - 0.12):
        piece.add(BOX, (x, level, z + side * 0.19), (0.36, 0.08, 0.025), wood)


def desk(piece: Piece, rng: np.random.Generator) -> None:
    """Add an office desk at a wall: screens, keyboard, drawers, a swivel chair."""
    top, dark, metal = piece.materials('furniture', 'screen', 'metal')
    wide = rng.uniform(1.1, 1.8)
    piece.add(BOX, (0, 0.7, 0), (wide, 0.03, 0.75), top)
    for x in (-1, 1):
        piece.add(BOX, (x * (wide / 2 - 0.03), 0, 0), (0.05, 0.7, 0.65), metal)
    piece.add(BOX, (wide / 2 - 0.3, 0.1, 0), (0.42, 0.5, 0.6), top)
    for index in range(rng.integers(1, 3)):
        place = rng.normal(0, 0.05) + (0.55 * index - 0.25)
        piece.add(BOX, (place, 0.85, -0.15), (0.52, 0.32, 0.03), dark)
        piece.add(BOX, (place, 0.865, -0.145), (0.49, 0.29, 0.03), piece.material('picture'))
        piece.add(BOX, (place, 0.73, -0.18), (0.05, 0.2, 0.04), dark)
        piece.add(BOX, (place, 0.73, -0.15), (0.24, 0.015, 0.18), dark)
    piece.add(BOX, (0, 0.73, 0.12), (0.42, 0.02, 0.14), piece.material('plastic'))
    clutter(piece, rng, 0.73, (wide, 0.7), int(rng.integers(2, 8)))
    swivel_chair(_beside(piece, rng.normal(0, 0.2), rng.uniform(0.55, 0.9), np.pi), rng)


def _beside(piece: Piece, x: float, z: float, turn: float) -> Piece:
    """Return the frame of a second piece at a place in the frame of the first."""
    a, b = piece.cosine * x + piece.sine * z, piece.cosine * z - piece.sine * x
    place = (piece.place[0] + a, piece.place[1], piece.place[2] + b)
    return Piece(piece.solids, place, piece.yaw + turn)


def swivel_chair(piece: Piece, rng: np.random.Generator) -> None:
    """Add a seat on a column with five feet on castors."""
    cloth, black = piece.materials('fabric', 'tyre')
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
    """Add a run of cupboards with a worktop, a tap, wall cupboards, and a fridge."""
    body, top, metal = piece.materials('furniture', 'metal', 'metal')
    units = int(rng.integers(2, 5))
    wide = 0.6 * units
    piece.add(BOX, (0, 0.1, 0), (wide, 0.78, 0.56), body)
    piece.add(BOX, (0, 0, -0.03), (wide, 0.1, 0.5), piece.material('tyre'))
    piece.add(BOX, (0, 0.88, 0.01), (wide + 0.02, 0.04, 0.61), top)
    hung = rng.random() < 0.7
    for index in range(units):
        x = (index + 0.5) * 0.6 - wide / 2
        kind = rng.choice(['doors', 'drawers', 'oven'], p=[0.5, 0.3, 0.2])
        front = piece.material('screen') if kind == 'oven' else body
        for level in (0.12, 0.37, 0.62) if kind == 'drawers' else (0.12,):
            high = 0.23 if kind == 'drawers' else 0.73
            piece.add(BOX, (x, level, 0.28), (0.58, high, 0.02), front)
            piece.add(BOX, (x, level + high - 0.05, 0.3), (0.3, 0.02, 0.03), metal)
        if hung and rng.random() < 0.85:
            piece.add(BOX, (x, 1.4, -0.12), (0.58, 0.7, 0.32), body)
            piece.add(BOX, (x + 0.2, 1.44, 0.05), (0.02, 0.12, 0.03), metal)
    piece.add(CYLINDER, (wide * 0.2, 0.92, -0.2), (0.03, 0.3, 0.03), metal)
    if rng.random() < 0.5:
        tall, fridge = rng.uniform(1.4, 2.0), piece.material('metal')
        away = wide / 2 + 0.32
        piece.add(BOX, (away, 0, 0), (0.6, tall, 0.62), fridge)
        piece.add(BOX, (away, tall * 0.66, 0.31), (0.59, 0.012, 0.02), piece.material('tyre'))
        piece.add(BOX, (away - 0.24, tall * 0.4, 0.32), (0.025, 0.4, 0.05), metal)
    clutter(piece, rng, 0.92, (wide, 0.45), int(rng.integers(2, 9)))


def rack(piece: Piece, rng: np.random.Generator) -> None:
    """Add open shelves on posts, full of boxes and things of all sorts."""
    metal, wide = piece.material('metal'), rng.uniform(0.8, 2.0)
    deep, high = rng.uniform(0.35, 0.55), rng.uniform(1.2, 2.3)
    _legs(piece, BOX, (wide, deep), 0.0, (0.04, high), metal)
    board = piece.material('furniture')
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
            piece.add(kind, place, size, piece.material(role), rng.normal(0, 0.08))
            x += size[0] + rng.uniform(0, 0.15)


def workbench(piece: Piece, rng: np.random.Generator) -> None:
    """Add a heavy bench heaped with tools, a shelf above it and boxes below."""
    wood, wide, high = piece.material('furniture'), rng.uniform(1.2, 2.6), rng.uniform(0.8, 0.95)
    piece.add(BOX, (0, high - 0.06, 0), (wide, 0.06, 0.65), wood)
    for x in (-1, 0, 1):
        piece.add(BOX, (x * (wide / 2 - 0.06), 0, 0.2), (0.1, high, 0.1), wood)
    if rng.random() < 0.7:
        piece.add(BOX, (0, rng.uniform(1.3, 1.6), -0.24), (wide, 0.03, 0.22), wood)
    clutter(piece, rng, high, (wide, 0.6), int(rng.integers(6, 15)))
    for _ in range(rng.integers(1, 5)):
        size = tuple(rng.uniform(0.2, 0.5, 3))
        place = (rng.uniform(-0.4, 0.4) * wide, 0, rng.uniform(-0.1, 0.15))
        piece.add(BOX, place, size, piece.material('carton'), rng.normal(0, 0.3))


def heap(piece: Piece, rng: np.random.Generator) -> None:
    """Add a heap of things on the floor."""
    span = rng.uniform(0.4, 1.1)
    clutter(piece, rng, 0.0, (span, span), int(rng.integers(3, 9)))
    if rng.random() < 0.3:
        size, material = (rng.uniform(0.6, 1.8), 0.08, 0.08), piece.material('plastic')
        piece.add(ROLLER, (0, 0, 0), size, material, rng.uniform(-np.pi, np.pi))


def boiler(piece: Piece, rng: np.random.Generator) -> None:
    """Add a tank or a metal cupboard, with pipes up to the ceiling."""
    tank, pipe = piece.materials('metal', 'metal')
    wide, high = rng.uniform(0.4, 0.65), rng.uniform(1.0, 1.7)
    kind = CYLINDER if rng.random() < 0.6 else BOX
    piece.add(kind, (0, 0.12, 0), (wide, high, wide), tank)
    piece.add(CYLINDER, (0, 0, 0), (wide * 0.8, 0.12, wide * 0.8), piece.material('tyre'))
    for x in (-0.12, 0.12):
        piece.add(CYLINDER, (x, high, 0), (0.05, 1.0, 0.05), pipe)
    piece.add(BOX, (0, high * 0.5, wide / 2), (0.16, 0.2, 0.02), piece.material('paper'))


def radiator(piece: Piece, rng: np.random.Generator) -> None:
    """Add the ribs of a radiator under a rail."""
    white, ribs, high = piece.material('frame'), int(rng.integers(8, 18)), rng.uniform(0.45, 0.7)
    for rib in range(ribs):
        piece.add(BOX, ((rib - ribs / 2) * 0.06, 0.12, -0.1), (0.035, high, 0.09), white)
    piece.add(BOX, (0, 0.12 + high, -0.1), (ribs * 0.06 + 0.03, 0.03, 0.1), white)


def armchair(piece: Piece, rng: np.random.Generator) -> None:
    """Add a tall upholstered chair with wings on short legs."""
    cloth, wood = piece.materials('fabric', 'furniture')
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
    """Add a table with four legs and clutter on it."""
    wood = piece.material('furniture')
    wide, deep, high = rng.uniform(0.7, 1.8), rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.78)
    piece.add(BOX, (0, high - 0.04, 0), (wide, 0.04, deep), wood)
    _legs(piece, BOX, (wide, deep), 0.05, (0.06, high - 0.04), wood)
    clutter(piece, rng, high, (wide, deep), int(rng.integers(0, 9)))


def chair(piece: Piece, rng: np.random.Generator) -> None:
    """Add a seat with a back on four legs."""
    wood, seat = piece.materials('furniture', 'fabric')
    side, high = rng.uniform(0.38, 0.5), rng.uniform(0.4, 0.48)
    piece.add(BOX, (0, high - 0.05, 0), (side, 0.05, side), seat)
    piece.add(BOX, (0, high, -side / 2 + 0.02), (side, rng.uniform(0.35, 0.6), 0.04), seat)
    _legs(piece, CYLINDER, (side, side), 0.03, (0.04, high - 0.05), wood)


def sofa(piece: Piece, rng: np.random.Generator) -> None:
    """Add a sofa: base, back, arms and cushions."""
    cloth = piece.material('fabric')
    wide, deep = rng.uniform(1.0, 2.1), rng.uniform(0.75, 0.95)
    piece.add(BOX, (0, 0.05, 0), (wide, 0.36, deep), cloth)
    piece.add(BOX, (0, 0.05, -deep / 2 + 0.1), (wide, rng.uniform(0.65, 0.9), 0.2), cloth)
    for x in (-1, 1):
        piece.add(BOX, (x * (wide / 2 - 0.09), 0.05, 0), (0.18, 0.52, deep), cloth)
    for _ in range(rng.integers(0, 4)):
        cushion = piece.material('fabric')
        place = (rng.uniform(-0.35, 0.35) * wide, 0.41, -deep / 2 + 0.3)
        piece.add(BALL, place, (0.42, 0.4, 0.18), cushion, rng.uniform(-0.4, 0.4))


def bed(piece: Piece, rng: np.random.Generator) -> None:
    """Add a bed: frame, mattress, blanket and pillow."""
    wood, sheet, blanket = piece.materials('furniture', 'fabric', 'fabric')
    wide, deep = rng.uniform(0.9, 1.7), 2.0
    piece.add(BOX, (0, 0.1, 0), (wide, 0.22, deep), wood)
    piece.add(BOX, (0, 0.3, 0.02), (wide - 0.04, 0.2, deep - 0.06), sheet)
    piece.add(BOX, (0, 0.3, 0.35), (wide + 0.03, 0.22, deep - 0.7), blanket)
    piece.add(BOX, (0, 0.0, -deep / 2), (wide, rng.uniform(0.7, 1.1), 0.06), wood)
    piece.add(BALL, (0, 0.47, -0.7), (wide * 0.6, 0.16, 0.4), sheet)


def shelf(piece: Piece, rng: np.random.Generator) -> None:
    """Add a bookcase: sides, back, and boards with rows of books."""
    wood = piece.material('furniture')
    wide, high, deep = rng.uniform(0.6, 1.6), rng.uniform(0.9, 2.1), rng.uniform(0.24, 0.4)
    for x in (-1, 1):
        piece.add(BOX, (x * wide / 2, 0, 0), (0.03, high, deep), wood)
    piece.add(BOX, (0, 0, -deep / 2 + 0.01), (wide, high, 0.02), wood)
    for level in np.arange(0.05, high, rng.uniform(0.28, 0.42)):
        piece.add(BOX, (0, level, 0), (wide, 0.025, deep), wood)
        if rng.random() < 0.7 and level + 0.3 < high:
            row = rng.uniform(0.3, 0.95) * (wide - 0.06)
            place = ((row - wide + 0.06) / 2, level + 0.025, -0.02)
            size = (row, rng.uniform(0.18, 0.25), deep * 0.7)
            piece.add(BOX, place, size, piece.material('books'))


def cabinet(piece: Piece, rng: np.random.Generator) -> None:
    """Add a closed body with door fronts and handles."""
    body, front = piece.materials('furniture', 'furniture')
    wide, deep = rng.uniform(0.5, 1.8), rng.uniform(0.4, 0.62)
    high = rng.choice([rng.uniform(0.5, 1.0), rng.uniform(1.6, 2.2)])
    piece.add(BOX, (0, 0, 0), (wide, high, deep), body)
    doors = max(1, round(wide / rng.uniform(0.35, 0.6)))
    handle = piece.material('metal')
    for index in range(doors):
        x = ((index + 0.5) / doors - 0.5) * wide
        piece.add(BOX, (x, 0.06, deep / 2), (wide / doors - 0.02, high - 0.08, 0.02), front)
        grip = (x + wide / doors * 0.35, high * 0.5, deep / 2 + 0.02)
        piece.add(BOX, grip, (0.02, 0.14, 0.03), handle)
    if high < 1.1:
        clutter(piece, rng, high, (wide, deep), int(rng.integers(0, 7)))


def floor_lamp(piece: Piece, rng: np.random.Generator) -> None:
    """Add a floor lamp: foot, rod and a bright shade."""
    metal, shade = piece.materials('metal', 'lamp')
    high = rng.uniform(1.2, 1.8)
    piece.add(CYLINDER, (0, 0, 0), (0.3, 0.03, 0.3), metal)
    piece.add(CYLINDER, (0, 0, 0), (0.03, high, 0.03), metal)
    kind = (CYLINDER, CABIN, BALL)[rng.integers(3)]
    piece.add(kind, (0, high - 0.05, 0), (0.36, 0.3, 0.36), shade)


def ceiling_lamp(piece: Piece, rng: np.random.Generator) -> None:
    """Add a ball on a cord, or a flat panel."""
    shade = piece.material('lamp')
    if rng.random() < 0.5:
        drop = rng.uniform(0.2, 0.6)
        piece.add(CYLINDER, (0, -drop, 0), (0.015, drop, 0.015), piece.material('metal'))
        piece.add(BALL, (0, -drop - 0.3, 0), (0.4, 0.3, 0.4), shade)
        return
    piece.add(BOX, (0, -0.06, 0), (rng.uniform(0.3, 1.2), 0.06, rng.uniform(0.15, 0.6)), shade)


def plant(piece: Piece, rng: np.random.Generator) -> None:
    """Add a pot with leaves of overlapping balls."""
    pot, leaf = piece.materials('plastic', 'foliage')
    high, wide = rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.4)
    piece.add(CYLINDER, (0, 0, 0), (wide, high, wide), pot)
    piece.add(CYLINDER, (0, high, 0), (0.04, 0.4, 0.04), piece.material('trunk'))
    for _ in range(rng.integers(6, 14)):
        x, z = rng.normal(0, 0.14, 2)
        size, place = tuple(rng.uniform(0.1, 0.35, 3)), (x, high + rng.uniform(0.05, 0.7), z)
        piece.add(BALL, place, size, leaf, rng.uniform(0, 3))


def carton(piece: Piece, rng: np.random.Generator) -> None:
    """Add a pile of boxes."""
    bottom = 0.0
    for _ in range(rng.integers(1, 4)):
        size, turn = rng.uniform(0.2, 0.55, 3), rng.uniform(-0.4, 0.4)
        piece.add(BOX, (0, bottom, 0), tuple(size), piece.material('carton'), turn)
        bottom += size[1]


def rug(piece: Piece, rng: np.random.Generator) -> None:
    """Add a flat rug."""
    size = (rng.uniform(0.8, 2.4), rng.uniform(0.008, 0.02), rng.uniform(0.6, 1.6))
    piece.add(BOX, (0, 0, 0), size, piece.material('fabric'))


def curtain(piece: Piece, rng: np.random.Generator) -> None:
    """Add folds of cloth from near the ceiling to the floor."""
    cloth, folds = piece.material('fabric'), int(rng.integers(4, 9))
    high = rng.uniform(1.8, 2.25)
    for fold in range(folds):
        x = (fold - folds / 2) * 0.11
        piece.add(CYLINDER, (x, 0.03, -0.25), (0.12, high, rng.uniform(0.06, 0.16)), cloth)


# builder, radius of its place in metres, distance from the wall that it stands at in metres
FURNITURE: dict[str, tuple[Callable[[Piece, np.random.Generator], None], float, float | None]] = {
    'table': (table, 0.7, None),
    'chair': (chair, 0.4, None),
    'sofa': (sofa, 0.9, 0.5),
    'bed': (bed, 1.0, None),
    'shelf': (shelf, 0.7, 0.36),
    'cabinet': (cabinet, 0.7, 0.36),
    'floor_lamp': (floor_lamp, 0.3, None),
    'ceiling_lamp': (ceiling_lamp, 0.0, None),
    'plant': (plant, 0.4, None),
    'carton': (carton, 0.4, None),
    'rug': (rug, 0.1, None),
    'curtain': (curtain, 0.35, 0.5),
    'person': (person, 0.4, None),
    'dining': (dining, 1.1, None),
    'desk': (desk, 0.8, 0.5),
    'swivel_chair': (swivel_chair, 0.4, None),
    'kitchen': (kitchen, 1.3, 0.34),
    'rack': (rack, 0.8, 0.36),
    'workbench': (workbench, 1.0, 0.4),
    'heap': (heap, 0.5, None),
    'boiler': (boiler, 0.5, 0.5),
    'radiator': (radiator, 0.4, 0.5),
    'armchair': (armchair, 0.5, None),
}
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
