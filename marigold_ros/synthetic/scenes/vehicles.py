# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Cars, vans, lorries, buses and bicycles, each built along z in a frame of its own, facing +z."""

from marigold_ros.synthetic.raycast.description import BALL, BOX, CABIN, CYLINDER, ROLLER
from marigold_ros.synthetic.scenes.pieces import Piece
import numpy as np

SHAPES = ('saloon', 'estate', 'jeep', 'van', 'lorry', 'bus')
SHARES = (0.34, 0.26, 0.18, 0.12, 0.07, 0.03)
ACROSS = np.pi / 2  # turns a solid's x along the vehicle


def car(piece: Piece, rng: np.random.Generator) -> None:
    """Add a vehicle with four wheels: private car, van, lorry or bus."""
    shape = str(rng.choice(SHAPES, p=SHARES))
    if shape in ('lorry', 'bus'):
        long, wide, wheel = _heavy(piece, rng, shape)
    elif shape == 'van':
        long, wide, wheel = _van(piece, rng)
    else:
        long, wide, wheel = _private(piece, rng, shape)
    lamps, tyre, rim, front = piece.materials('tail_light', 'tyre', 'metal', 'lamp')
    for side in (-1, 1):
        x = side * (wide / 2 - 0.18)
        piece.add(BOX, (x, wheel + 0.05, -long / 2), (0.3, 0.16, 0.06), lamps)
        piece.add(BOX, (x, wheel, long / 2), (0.32, 0.13, 0.06), front)
        for end in (-1, 1):
            at = (side * (wide / 2 - 0.09), 0, end * long * 0.31)
            piece.add(ROLLER, at, (0.2, wheel, wheel), tyre)
            hub = (at[0] + side * 0.02, wheel * 0.22, at[2])
            piece.add(ROLLER, hub, (0.2, wheel * 0.56, wheel * 0.56), rim)
    plate = piece.material('paper')
    for end in (-1, 1):
        piece.add(BOX, (0, wheel * 0.75, end * long / 2), (0.5, 0.12, 0.06), plate)


def _private(piece: Piece, rng: np.random.Generator, shape: str) -> tuple[float, float, float]:
    """Add a body with bumpers, and a cabin leaning in; return length, width, wheel diameter."""
    paint, glass, dark = piece.materials('car', 'glass', 'tyre')
    long, wide, wheel = rng.uniform(3.7, 4.8), rng.uniform(1.68, 1.9), rng.uniform(0.58, 0.68)
    lift = 0.12 if shape == 'jeep' else 0.0
    waist = 0.86 + lift + rng.uniform(-0.04, 0.06)
    piece.add(BOX, (0, 0.2 + lift, 0), (wide - 0.06, 0.2, long - 0.1), dark)
    piece.add(BOX, (0, 0.34 + lift, 0), (wide, waist - 0.5 - lift, long), paint)
    bonnet = (0.0, waist - 0.18, 0.0)
    piece.add(CABIN, bonnet, (long * 0.99, 0.2, wide * 0.96), paint, ACROSS)
    back, span = {'saloon': (-0.12, 0.62), 'estate': (-0.35, 0.74), 'jeep': (-0.3, 0.72)}[shape]
    span, high = span * long, rng.uniform(0.5, 0.62) + lift
    piece.add(CABIN, (0, waist, back), (span, high, wide * 0.86), glass, ACROSS)
    piece.add(BOX, (0, waist + high - 0.05, back), (wide * 0.82, 0.07, span * 0.62), paint)
    for z in (-0.28, 0.02, 0.28):
        piece.add(BOX, (0, waist, back + z * span), (wide * 0.868, high * 0.9, 0.06), paint)
    for side in (-1, 1):
        piece.add(BALL, (side * (wide / 2 + 0.08), waist, 0.18 * long), (0.2, 0.14, 0.1), paint)
    return long, wide, wheel


def _van(piece: Piece, rng: np.random.Generator) -> tuple[float, float, float]:
    """Add a van, some with a sign; return length, width and wheel diameter."""
    paint, glass = piece.materials('car', 'glass')
    long, wide, high = rng.uniform(4.6, 6.0), rng.uniform(1.85, 2.05), rng.uniform(1.9, 2.7)
    piece.add(BOX, (0, 0.3, -0.4), (wide, high - 0.3, long - 0.9), paint)
    piece.add(BOX, (0, 0.3, 0.1), (wide, 0.75, long - 0.2), paint)
    nose = (0, 1.05, long / 2 - 1.2)
    piece.add(CABIN, nose, (2.0, min(0.9, high - 1.05), wide * 0.92), glass, ACROSS)
    piece.add(BOX, (0, 1.15, -long / 2 + 0.2), (wide * 0.8, 0.6, 0.7), glass)
    if rng.random() < 0.4:
        piece.add(BOX, (0, 1.1, -0.6), (wide + 0.02, 0.5, long * 0.4), piece.material('sign'))
    return long, wide, 0.68


def _heavy(piece: Piece, rng: np.random.Generator, shape: str) -> tuple[float, float, float]:
    """Add a lorry or a bus; return length, width and wheel diameter."""
    paint, glass = piece.materials('car', 'glass')
    wide, high = 2.45, rng.uniform(2.8, 3.8)
    if shape == 'bus':
        long = rng.uniform(9, 12)
        high = 4.2 if rng.random() < 0.3 else 3.1
        piece.add(BOX, (0, 0.35, 0), (wide, high - 0.35, long), paint)
        for level in (1.3, 2.9) if high > 4 else (1.3,):
            piece.add(BOX, (0, level, 0), (wide + 0.02, 0.9, long * 0.92), glass)
            piece.add(BOX, (0, level, 0), (wide * 0.92, 0.95, long + 0.02), glass)
        return long, wide, 0.95
    long, load = rng.uniform(6, 10), piece.material('building')
    piece.add(BOX, (0, 0.7, 0), (wide * 0.6, 0.25, long), piece.material('tyre'))
    piece.add(BOX, (0, 0.5, long / 2 - 0.85), (wide * 0.95, 2.1, 1.7), paint)
    piece.add(BOX, (0, 1.5, long / 2 - 0.8), (wide * 0.9, 0.8, 1.64), glass)
    if rng.random() < 0.6:
        piece.add(BOX, (0, 0.95, -0.95), (wide, high - 0.95, long - 2.0), load)
        piece.add(BOX, (0, 1.5, -0.95), (wide + 0.03, 1.0, long * 0.4), piece.material('sign'))
    else:
        piece.add(BOX, (0, 0.95, -0.95), (wide, 0.15, long - 2.0), load)
        for x in (-1, 1):
            piece.add(BOX, (x * wide / 2, 0.95, -0.95), (0.06, 0.6, long - 2.0), load)
        for _ in range(rng.integers(2, 7)):
            size, z = tuple(rng.uniform(0.5, 1.3, 3)), rng.uniform(-0.42, 0.15) * long
            piece.add(BOX, (rng.uniform(-0.5, 0.5), 1.1, z), size, piece.material('carton'))
    return long, wide, 0.95


def bicycle(piece: Piece, rng: np.random.Generator) -> None:
    """Add a bicycle along z: two wheels, a frame of tubes, saddle and handlebar."""
    (tyre, paint), wheel = piece.materials('tyre', 'plastic'), rng.uniform(0.6, 0.7)
    for z in (-0.52, 0.52):
        piece.add(ROLLER, (0, 0, z), (0.035, wheel, wheel), tyre)
    piece.add(BOX, (0, 0.55, 0), (0.035, 0.04, 0.95), paint)
    piece.add(BOX, (0, 0.35, -0.1), (0.03, 0.04, 0.75), paint)
    piece.add(CYLINDER, (0, 0.3, -0.18), (0.035, 0.6, 0.035), paint)
    piece.add(CYLINDER, (0, 0.33, 0.45), (0.035, 0.65, 0.035), paint)
    piece.add(BOX, (0, 0.9, -0.2), (0.14, 0.05, 0.25), tyre)
    piece.add(ROLLER, (0, 0.96, 0.42), (0.52, 0.03, 0.03), tyre)


def cyclist(piece: Piece, rng: np.random.Generator) -> None:
    """Add somebody on a bicycle."""
    bicycle(piece, rng)
    top, skin, trousers = piece.materials('cloth', 'skin', 'cloth')
    for side in (-1, 1):
        piece.add(CYLINDER, (side * 0.1, 0.2 + 0.1 * side, 0.05), (0.12, 0.45, 0.13), trousers)
        piece.add(BALL, (side * 0.1, 0.7, -0.05), (0.17, 0.24, 0.5), trousers)
        piece.add(BALL, (side * 0.2, 1.05, 0.22), (0.1, 0.2, 0.55), top)
    piece.add(BALL, (0, 0.88, -0.05), (0.38, 0.65, 0.36), top)
    piece.add(BALL, (0, 1.5, 0.08), (0.18, 0.25, 0.22), skin)
    if rng.random() < 0.5:
        piece.add(BALL, (0, 1.62, 0.06), (0.24, 0.17, 0.28), piece.material('plastic'))
