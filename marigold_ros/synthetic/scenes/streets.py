# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Streets: road, pavements, houses, traffic, poles and people, as solids with roles."""

from marigold_ros.synthetic.raycast.description import BALL, BOX, CYLINDER, PLANE, ROOF, SolidList
from marigold_ros.synthetic.scenes.greenery import bush, tree
from marigold_ros.synthetic.scenes.pieces import person, Piece
from marigold_ros.synthetic.scenes.vehicles import bicycle, car, cyclist
import numpy as np

FIRST, LAST = -25.0, 150.0  # stretch of the world along the road, m


def draw_street(
    rng: np.random.Generator,
) -> tuple[SolidList, np.ndarray, tuple[float, float, float]]:
    """
    Draw a street: its solids, the box (2, 3) m where cameras may stand, and a free lane.

    The lane (x, z_first, z_last) m is a straight stretch of the own lane without obstacles.
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
    _parked(solids, rng, road)
    _over_the_road(solids, rng, road + verge)
    _distance(solids, rng)
    extent = np.array([[lane_x - 0.8, -2.2, 0.0], [lane_x + 0.8, -1.2, max(1.0, last - 12)]])
    return solids, extent, (float(lane_x), 0.0, float(last - 12))


def _pavement(
    solids: SolidList, rng: np.random.Generator, side: int, road: float, verge: float, style: str
) -> None:
    middle, length, far = (FIRST + LAST) / 2, (LAST - FIRST) / 2, 80.0
    lawn = solids.material('grass' if style != 'city' else 'pavement')
    solids.add(BOX, (side * (road + verge + far / 2), 0, middle), (far / 2, 0.1, length), lawn)
    if style == 'country':
        soil = solids.material('grass')
        solids.add(BOX, (side * (road + verge / 2), 0, middle), (verge / 2, 0.04, length), soil)
        return
    stone, kerb = solids.materials('pavement', 'kerb')
    height = rng.uniform(0.1, 0.16)
    slab = (verge / 2 - 0.1, height, length)
    solids.add(BOX, (side * (road + verge / 2), 0, middle), slab, stone)
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
            fence, tall, span = solids.material('fence'), rng.uniform(0.6, 1.8), (long + gap) / 2
            solids.add(BOX, (side * edge, -tall / 2, z + span), (0.08, tall / 2, span), fence)
        z += long + gap


def _house_details(
    solids: SolidList, rng: np.random.Generator, side: int, place: tuple, facade: int
) -> None:
    """Add roof, chimneys, ground-floor band, door, windows, awning and balconies."""
    front, z, long, deep, high = place
    x, middle, roof = side * (front + deep / 2), z + long / 2, solids.material('roof')
    if high < 9 or rng.random() < 0.25:
        rise = rng.uniform(1.0, 2.4)
        if rng.random() < 0.6:
            half, yaw = (deep / 2 + 0.35, rise, long / 2 + 0.2), 0.0
        else:
            half, yaw = (long / 2 + 0.2, rise, deep / 2 + 0.35), np.pi / 2
        solids.add(ROOF, (x, -high - rise, middle), half, roof, yaw)
        for _ in range(rng.integers(0, 3)):
            where = middle + rng.uniform(-0.4, 0.4) * long
            solids.add(BOX, (x, -high - 2 * rise, where), (0.3, 0.9, 0.4), facade)
    else:
        solids.add(BOX, (x, -high, middle), (deep / 2 + 0.2, 0.25, long / 2 + 0.1), roof)
    face = side * front
    if rng.random() < 0.5:
        solids.add(BOX, (face, -1.6, middle), (0.08, 1.6, long / 2), solids.material('building'))
    door = z + rng.uniform(0.2, 0.8) * long
    solids.add(BOX, (face, -1.1, door), (0.12, 1.1, 0.55), solids.material('door'))
    if rng.random() < 0.6:
        _bays(solids, rng, face - side * 0.05, (z, long, high))
    if rng.random() < 0.35:
        awning = solids.material('cloth')
        solids.add(BOX, (face - side * 0.6, -2.7, door), (0.6, 0.08, rng.uniform(1, 2)), awning)
    if high > 8 and rng.random() < 0.4:
        for level in np.arange(4.0, high - 2, 3.0):
            where = z + rng.uniform(0.3, 0.7) * long
            solids.add(BOX, (face - side * 0.5, -level, where), (0.6, 0.5, 1.4), facade)


def _bays(solids: SolidList, rng: np.random.Generator, x: float, place: tuple) -> None:
    """Add windows or shop fronts that stand out of the wall."""
    z, long, high = place
    glass, frame = solids.materials('glass', 'frame')
    step = rng.uniform(2.2, 4.0)
    tall, bottom = (2.2, 0.4) if rng.random() < 0.5 else (1.3, 1.0)
    for where in np.arange(z + step / 2, z + long - 1, step):
        half = step * 0.3
        solids.add(BOX, (x, -bottom - tall / 2, where), (0.06, tall / 2, half), glass)
        solids.add(BOX, (x, -bottom + 0.05, where), (0.14, 0.06, half + 0.1), frame)
        if high > 5.5 and rng.random() < 0.8:
            solids.add(BOX, (x, -4.4, where), (0.06, 0.7, half * 0.8), glass)


def _roadside(
    solids: SolidList, rng: np.random.Generator, side: int, road: float, verge: float, style: str
) -> None:
    """Add poles, signs, trees, bushes, people and bicycles beside the road."""
    leafy = rng.random() < (0.5 if style == 'city' else 0.8)
    near, far = (6, 11) if rng.random() < 0.35 else (9, 22)  # avenues, and single trees
    pole = solids.material('pole')
    for z in np.arange(rng.uniform(2, 20), LAST, rng.uniform(14, 35)):
        x, high = side * (road + 0.5), rng.uniform(5, 9)
        solids.add(CYLINDER, (x, -high / 2, z), (0.09, high / 2, 0.09), pole)
        if rng.random() < 0.6:
            solids.add(BOX, (x - side * 0.8, -high, z), (0.9, 0.06, 0.12), pole)
        elif rng.random() < 0.6:
            solids.add(BOX, (x, -2.6, z - 0.1), (0.35, 0.35, 0.02), solids.material('sign'))
    if leafy:
        for z in np.arange(rng.uniform(3, 15), 110, rng.uniform(near, far)):
            x = side * (road + rng.uniform(0.6, 1.0) * verge + (3 if style != 'city' else 0))
            tree(solids, rng, x, z + rng.uniform(-2, 2))
    for _ in range(rng.integers(0, 7 if style != 'city' else 3)):
        bush(solids, rng, side * (road + verge + rng.uniform(0.3, 3)), rng.uniform(4, 70))
    for _ in range(rng.integers(0, 5)):
        x, z = side * (road + rng.uniform(0.3, 0.9) * verge), rng.uniform(3, 50)
        for _ in range(1 if rng.random() < 0.7 else rng.integers(2, 4)):
            person(Piece(solids, (x, 0.1, z), rng.uniform(-3, 3)), rng)
            x, z = x + side * rng.uniform(0.5, 0.9), z + rng.normal(0, 0.6)
    if rng.random() < 0.3:
        z = rng.uniform(4, 40)
        for _ in range(rng.integers(1, 7)):
            place = (side * (road + 0.6 * verge), 0.1, z)
            bicycle(Piece(solids, place, rng.normal(1.4, 0.2)), rng)
            z += rng.uniform(0.4, 0.9)
    _bollards(solids, rng, side, road)
    for _ in range(rng.integers(0, 3)):
        x, z = side * (road + rng.uniform(0.4, 0.9) * verge), rng.uniform(5, 50)
        solids.add(CYLINDER, (x, -0.55, z), (0.28, 0.5, 0.28), solids.material('plastic'))


def _bollards(solids: SolidList, rng: np.random.Generator, side: int, road: float) -> None:
    """Add a row of posts, of cones, posts with a guard rail, or nothing at the kerb."""
    kind = rng.choice(['none', 'posts', 'rail', 'cones'], p=[0.6, 0.2, 0.1, 0.1])
    first, x = rng.uniform(2, 20), side * (road + 0.25)
    role = solids.material('sign' if kind == 'cones' else 'pole')
    if kind == 'rail':
        half = rng.uniform(5, 25)
        solids.add(BOX, (x, -0.6, first + half), (0.05, 0.15, half), role)
    if kind == 'none':
        return
    cones = kind == 'cones'
    shape, step, high, wide = (ROOF, 3.0, 0.35, 0.16) if cones else (CYLINDER, 2.0, 0.45, 0.07)
    for z in np.arange(first, first + rng.uniform(5, 30), step):
        solids.add(shape, (x, -high, z), (wide, high, wide), role)


def _over_the_road(solids: SolidList, rng: np.random.Generator, reach: float) -> None:
    """Add a footbridge, a gantry with signs, traffic lights on arms, or nothing."""
    kind, z = rng.random(), rng.uniform(18, 70)
    if kind < 0.06:
        deck = solids.material('building')
        solids.add(BOX, (0, -6.2, z), (reach + 8, 0.6, rng.uniform(1, 5)), deck)
        for side in (-1, 1):
            solids.add(BOX, (side * (reach - 0.4), -3, z), (0.4, 3, 0.6), deck)
    elif kind < 0.3:
        metal, light = solids.materials('pole', 'tail_light')
        board = solids.material('sign' if kind < 0.16 else 'tyre')
        size = (1.6, 0.7, 0.08) if kind < 0.16 else (0.18, 0.5, 0.15)
        for side in (-1, 1) if kind < 0.12 or kind > 0.22 else (1,):
            x = side * (reach - 0.6)
            solids.add(CYLINDER, (x, -3, z), (0.1, 3, 0.1), metal)
            solids.add(BOX, (x * 0.75, -5.8, z), (abs(x) * 0.28, 0.06, 0.06), metal)
            solids.add(BOX, (x * 0.55, -5.6, z - 0.2), size, board)
            if size[0] < 1:
                solids.add(BALL, (x * 0.55, -5.9, z - 0.32), (0.1, 0.1, 0.06), light)


def _traffic(
    solids: SolidList, rng: np.random.Generator, lane: tuple, lanes: int, lane_width: float
) -> None:
    """Add a car ahead at the end of the free lane (x, z_last), cars and cyclists in the others."""
    lane_x, last = lane
    if last < 100:
        car(Piece(solids, (lane_x, 0.0, last + 3), 0.0), rng)
    road = lanes * lane_width / 2
    for index in range(lanes - 1):
        x, yaw = -road + (index + 0.5) * lane_width, np.pi if index < lanes // 2 else 0.0
        if rng.random() < 0.2:
            cyclist(Piece(solids, (x - 0.3 * lane_width, 0.0, rng.uniform(5, 40)), yaw), rng)
        z = rng.uniform(3, 40)
        while z < 100:
            car(Piece(solids, (x + rng.uniform(-0.2, 0.2), 0.0, z), yaw), rng)
            z += rng.uniform(9, 14) if rng.random() < 0.35 else rng.uniform(12, 50)


def _parked(solids: SolidList, rng: np.random.Generator, road: float) -> None:
    """Add rows of parked cars, half on the pavement."""
    for side in (-1, 1):
        if rng.random() < 0.4:
            continue
        z, last = rng.uniform(1, 12), rng.uniform(25, 80)
        while z < last:
            x = side * (road + (0.95 if side > 0 else 0.5) + rng.uniform(0, 0.2))
            yaw = rng.choice([0.0, np.pi]) + rng.normal(0, 0.03)
            car(Piece(solids, (x, 0.0, z), yaw), rng)
            z += rng.uniform(5.6, 8) if rng.random() < 0.75 else rng.uniform(10, 25)


def _distance(solids: SolidList, rng: np.random.Generator) -> None:
    """Add houses or hills that close the street far away, within the visible range."""
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
