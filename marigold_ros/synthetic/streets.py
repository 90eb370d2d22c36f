# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Streets: road, pavements, houses, cars, trees, poles and people, as solids with roles."""

from __future__ import annotations

from marigold_ros.synthetic.description import BALL, BOX, CYLINDER, PLANE, SolidList
from marigold_ros.synthetic.pieces import person, Piece
import numpy as np

FIRST, LAST = -25.0, 150.0  # stretch of the world along the road, m


def draw_street(
    rng: np.random.Generator,
) -> tuple[SolidList, np.ndarray, tuple[float, float, float]]:
    """
    Draw a street's solids.

    Returns
    -------
    solids : SolidList
    extent : (2, 3) float, m
        Where cameras may stand.
    lane : (x, z_first, z_last), m
        A straight stretch of the own lane without obstacles.

    """
    solids = SolidList()
    lanes = int(rng.choice([2, 2, 2, 3, 4]))
    lane_width = rng.uniform(2.7, 3.6)
    road = lanes * lane_width / 2
    crossing = rng.uniform(12, 60) if rng.random() < 0.3 else -1000.0
    ground = solids.material('road', (road, lane_width, lanes, crossing))
    solids.add(PLANE, (0, 0, 0), (1, 1, 1), ground)
    verge = rng.uniform(1.2, 4.5)
    style = rng.choice(['city', 'suburb', 'country'], p=[0.5, 0.35, 0.15])
    for side in (-1, 1):
        _pavement(solids, rng, side, road, verge, str(style))
        _houses(solids, rng, side, road + verge, str(style))
        _roadside(solids, rng, side, road, verge, str(style))
    lane_x = road - lane_width * 0.5 + rng.uniform(-0.25, 0.25)
    last = rng.uniform(25, 60) if rng.random() < 0.45 else 110.0
    _traffic(solids, rng, (lane_x, last), lanes, lane_width)
    _parked(solids, rng, road, (lane_x, lane_width))
    _distance(solids, rng)
    extent = np.array([[lane_x - 0.8, -2.2, 0.0], [lane_x + 0.8, -1.2, max(1.0, last - 12)]])
    return solids, extent, (float(lane_x), 0.0, float(last - 12))


def _pavement(
    solids: SolidList, rng: np.random.Generator, side: int, road: float, verge: float, style: str
) -> None:
    middle, length = (FIRST + LAST) / 2, (LAST - FIRST) / 2
    far = 80.0
    lawn = solids.material('grass' if style != 'city' else 'pavement')
    solids.add(BOX, (side * (road + verge + far / 2), 0, middle), (far / 2, 0.1, length), lawn)
    if style == 'country':
        soil = solids.material('grass')
        solids.add(BOX, (side * (road + verge / 2), 0, middle), (verge / 2, 0.04, length), soil)
        return
    stone, kerb = solids.material('pavement'), solids.material('kerb')
    height = rng.uniform(0.1, 0.16)
    solids.add(
        BOX, (side * (road + verge / 2), 0, middle), (verge / 2 - 0.1, height, length), stone
    )
    solids.add(BOX, (side * (road + 0.07), 0, middle), (0.07, height + 0.005, length), kerb)


def _houses(
    solids: SolidList, rng: np.random.Generator, side: int, edge: float, style: str
) -> None:
    z = FIRST + rng.uniform(0, 8)
    while z < LAST:
        if style == 'country' and rng.random() < 0.75:
            z += rng.uniform(8, 25)
            continue
        long = rng.uniform(7, 24) if style == 'city' else rng.uniform(7, 14)
        high = rng.uniform(6, 22) if style == 'city' else rng.uniform(3.5, 8)
        setback = rng.uniform(0, 1.0) if style == 'city' else rng.uniform(2, 9)
        deep = rng.uniform(8, 14)
        x = side * (edge + setback + deep / 2)
        facade = solids.material('building')
        solids.add(BOX, (x, -high / 2, z + long / 2), (deep / 2, high / 2, long / 2), facade)
        _house_details(solids, rng, side, (edge + setback, z, long, deep, high), facade)
        gap = rng.uniform(2, 9) if style != 'city' or rng.random() < 0.25 else 0.0
        if style != 'city' and rng.random() < 0.5:
            fence = solids.material('fence')
            tall = rng.uniform(0.6, 1.8)
            span = (long + gap) / 2
            solids.add(BOX, (side * edge, -tall / 2, z + span), (0.08, tall / 2, span), fence)
        z += long + gap


def _house_details(
    solids: SolidList, rng: np.random.Generator, side: int, place: tuple, facade: int
) -> None:
    """Roof, ground-floor band, door, balconies and chimneys."""
    front, z, long, deep, high = place
    middle = z + long / 2
    x = side * (front + deep / 2)
    roof = solids.material('roof')
    if high < 9:
        slices = 4
        for level in range(slices):
            narrow = 1 - level / slices
            solids.add(
                BOX,
                (x, -high - 0.45 * level - 0.2, middle),
                (deep / 2 * narrow + 0.25, 0.23, long / 2 + 0.2),
                roof,
            )
    else:
        solids.add(BOX, (x, -high, middle), (deep / 2 + 0.2, 0.25, long / 2 + 0.1), roof)
    face = side * front
    if rng.random() < 0.5:
        solids.add(BOX, (face, -1.6, middle), (0.08, 1.6, long / 2), solids.material('building'))
    door = z + rng.uniform(0.2, 0.8) * long
    solids.add(BOX, (face, -1.1, door), (0.12, 1.1, 0.55), solids.material('door'))
    if rng.random() < 0.35:
        awning = solids.material('cloth')
        solids.add(BOX, (face - side * 0.6, -2.7, door), (0.6, 0.08, rng.uniform(1, 2)), awning)
    if high > 8 and rng.random() < 0.4:
        for level in np.arange(4.0, high - 2, 3.0):
            where = z + rng.uniform(0.3, 0.7) * long
            solids.add(BOX, (face - side * 0.5, -level, where), (0.6, 0.5, 1.4), facade)


def _roadside(
    solids: SolidList, rng: np.random.Generator, side: int, road: float, verge: float, style: str
) -> None:
    """Trees, poles, bushes, signs and people beside the road."""
    leafy = rng.random() < (0.45 if style == 'city' else 0.75)
    pole = solids.material('pole')
    for z in np.arange(rng.uniform(2, 20), LAST, rng.uniform(14, 35)):
        x, high = side * (road + 0.5), rng.uniform(5, 9)
        solids.add(CYLINDER, (x, -high / 2, z), (0.09, high / 2, 0.09), pole)
        if rng.random() < 0.6:
            solids.add(BOX, (x - side * 0.8, -high, z), (0.9, 0.06, 0.12), pole)
        elif rng.random() < 0.6:
            sign = solids.material('sign')
            solids.add(BOX, (x, -2.6, z - 0.1), (0.35, 0.35, 0.02), sign)
    if leafy:
        for z in np.arange(rng.uniform(3, 15), 110, rng.uniform(8, 20)):
            x = side * (road + rng.uniform(0.6, 1.0) * verge + (3 if style != 'city' else 0))
            tree(solids, rng, x, z + rng.uniform(-2, 2))
    for _ in range(rng.integers(0, 7) if style != 'city' else rng.integers(0, 3)):
        bush(solids, rng, side * (road + verge + rng.uniform(0.3, 3)), rng.uniform(4, 70))
    for _ in range(rng.integers(0, 5)):
        x = side * (road + rng.uniform(0.3, 0.9) * verge)
        person(Piece(solids, (x, 0.1, rng.uniform(5, 50)), rng.uniform(-3, 3)), rng)
    for _ in range(rng.integers(0, 3)):
        x, z = side * (road + rng.uniform(0.4, 0.9) * verge), rng.uniform(5, 50)
        bin_ = solids.material('plastic')
        solids.add(CYLINDER, (x, -0.55, z), (0.28, 0.5, 0.28), bin_)


def tree(solids: SolidList, rng: np.random.Generator, x: float, z: float) -> None:
    """A trunk under a crown of balls."""
    high = rng.uniform(3.5, 9.5)
    clear = high * rng.uniform(0.25, 0.45)
    wide = high * rng.uniform(0.16, 0.3)
    trunk, leaf = solids.material('trunk'), solids.material('foliage')
    girth, slender = high * 0.022, rng.random() < 0.25
    solids.add(CYLINDER, (x, -high * 0.4, z), (girth, high * 0.4, girth), trunk)
    crown = (high - clear) / 2
    for _ in range(20 if z < 45 else 9):
        # Uniform in the ball, then stretched: crowns hang together and have ragged rims.
        point = rng.normal(0, 1, 3)
        point *= rng.random() ** (1 / 3) / np.linalg.norm(point)
        narrow = wide * (0.75 * (1 + point[1]) / 2 + 0.2 if slender else 1.0)
        size = wide * rng.uniform(0.22, 0.5, 3)
        centre = (x + narrow * point[0], -high + crown - point[1] * -crown, z + narrow * point[2])
        solids.add(BALL, centre, tuple(size), leaf, rng.uniform(0, 3))


def bush(solids: SolidList, rng: np.random.Generator, x: float, z: float) -> None:
    """A heap of balls, or a clipped hedge."""
    leaf = solids.material('foliage')
    if rng.random() < 0.3:
        high = rng.uniform(0.7, 1.8)
        solids.add(BOX, (x, -high / 2, z), (0.4, high / 2, rng.uniform(2, 6)), leaf)
        return
    for _ in range(rng.integers(3, 7)):
        size = rng.uniform(0.3, 0.8, 3)
        centre = (x + rng.normal(0, 0.5), -size[1] * 0.7, z + rng.normal(0, 0.6))
        solids.add(BALL, centre, tuple(size), leaf)


def car(solids: SolidList, rng: np.random.Generator, place: tuple, yaw: float) -> None:
    """Body, cabin, wheels and lights; now and then a van or a lorry."""
    piece = Piece(solids, (place[0], 0.0, place[1]), yaw)
    paint, glass = solids.material('car'), solids.material('glass')
    tyre = solids.material('tyre')
    long, wide = rng.uniform(3.7, 4.8), rng.uniform(1.65, 1.9)
    kind = rng.choice(['car', 'estate', 'van', 'lorry'], p=[0.55, 0.25, 0.14, 0.06])
    if kind == 'lorry':
        long, wide, high = rng.uniform(7, 11), 2.4, rng.uniform(2.8, 3.6)
        piece.add(BOX, (0, 0.7, -0.9), (wide, high - 0.7, long - 1.8), solids.material('building'))
        piece.add(BOX, (0, 0.4, long / 2 - 0.8), (wide, 2.2, 1.6), paint)
        piece.add(BOX, (0, 1.5, long / 2 - 0.8), (wide * 0.9, 0.8, 1.64), glass)
    elif kind == 'van':
        long = rng.uniform(4.6, 5.8)
        piece.add(BOX, (0, 0.3, -0.3), (wide, 1.8, long - 0.6), paint)
        piece.add(BOX, (0, 0.3, 0.2), (wide * 0.98, 0.8, long - 0.2), paint)
        piece.add(BOX, (0, 1.15, long / 2 - 0.7), (wide * 1.01, 0.65, 0.9), glass)
        piece.add(BOX, (0, 1.2, -long / 2 + 0.3), (wide * 0.8, 0.6, 0.62), glass)
    else:
        back = 0.15 if kind == 'car' else 0.45
        piece.add(BOX, (0, 0.28, 0), (wide, 0.6, long), paint)
        piece.add(BOX, (0, 0.85, -back), (wide * 0.88, 0.5, long * 0.52), glass)
        piece.add(BOX, (0, 1.32, -back), (wide * 0.82, 0.1, long * 0.46), paint)
    lights = solids.material('tail_light')
    for side in (-1, 1):
        piece.add(BOX, (side * wide * 0.4, 0.65, -long / 2), (0.28, 0.16, 0.06), lights)
        for end in (-1, 1):
            # Wheels stand as boxes: solids turn about the vertical only.
            piece.add(
                BOX, (side * (wide / 2 - 0.1), 0, end * long * 0.31), (0.22, 0.62, 0.62), tyre
            )
    piece.add(BOX, (0, 0.5, -long / 2), (0.5, 0.12, 0.05), solids.material('paper'))


def _traffic(
    solids: SolidList,
    rng: np.random.Generator,
    lane: tuple[float, float],
    lanes: int,
    lane_width: float,
) -> None:
    """Cars ahead in the own lane and in the others."""
    lane_x, last = lane
    if last < 100:
        car(solids, rng, (lane_x, last + 3), 0.0)
    road = lanes * lane_width / 2
    for index in range(lanes - 1):
        x = -road + (index + 0.5) * lane_width
        oncoming = index < lanes // 2
        z = rng.uniform(3, 40)
        while z < 100:
            car(solids, rng, (x + rng.uniform(-0.2, 0.2), z), np.pi if oncoming else 0.0)
            z += rng.uniform(12, 60)


def _parked(
    solids: SolidList, rng: np.random.Generator, road: float, lane: tuple[float, float]
) -> None:
    """Rows of parked cars, half on the pavement."""
    for side in (-1, 1):
        if rng.random() < 0.5:
            continue
        z = rng.uniform(2, 15)
        while z < rng.uniform(30, 80):
            x = side * (road + (0.95 if side > 0 else 0.5) + rng.uniform(0, 0.2))
            car(solids, rng, (x, z), rng.choice([0.0, np.pi]) + rng.normal(0, 0.03))
            z += rng.uniform(5.8, 9) if rng.random() < 0.7 else rng.uniform(10, 25)


def _distance(solids: SolidList, rng: np.random.Generator) -> None:
    """What closes the street far away: houses or hills, within the visible range."""
    kind = rng.random()
    if kind < 0.45:
        for _ in range(rng.integers(2, 7)):
            half = (rng.uniform(4, 14), rng.uniform(4, 16), rng.uniform(4, 10))
            centre = (rng.uniform(-50, 50), -half[1], rng.uniform(95, 135))
            solids.add(BOX, centre, half, solids.material('building'))
    elif kind < 0.75:
        hill = solids.material('hill')
        for _ in range(rng.integers(2, 6)):
            half = (rng.uniform(20, 50), rng.uniform(4, 14), rng.uniform(8, 15))
            solids.add(BALL, (rng.uniform(-90, 90), 0.0, rng.uniform(110, 130)), half, hill)
