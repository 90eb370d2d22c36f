# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Pieces that rooms and streets share: a frame to build in, people, and small clutter."""

from marigold_ros.synthetic.raycast.description import (
    BALL,
    BOX,
    CABIN,
    CYLINDER,
    ROLLER,
    ROOF,
    SolidList,
    Triple,
)
import numpy as np


class Piece:
    """A piece of furniture in its own frame: x across, z deep, heights counted up from 0."""

    def __init__(self, solids: SolidList, place: Triple, yaw: float) -> None:
        self.solids, self.place, self.yaw = solids, place, yaw
        self.cosine, self.sine = np.cos(yaw), np.sin(yaw)
        self.material, self.materials = solids.material, solids.materials

    def add(self, kind: int, centre: Triple, size: Triple, material: int, turn: float = 0) -> None:
        """Add a solid by (x, bottom, z) and full size (across, high, deep)."""
        x, bottom, z = centre
        world = (
            self.place[0] + self.cosine * x + self.sine * z,
            -(self.place[1] + bottom + size[1] / 2),
            self.place[2] - self.sine * x + self.cosine * z,
        )
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        self.solids.add(kind, world, half, material, self.yaw + turn)


def person(piece: Piece, rng: np.random.Generator) -> None:
    """Add a person: legs in shoes, hips, trunk, arms, neck and head; some carry a bag."""
    skin, top, trousers, hair, shoes = piece.materials('skin', 'cloth', 'cloth', 'hair', 'tyre')
    k, step, stout = rng.uniform(0.8, 1.1), rng.uniform(-0.2, 0.2), rng.uniform(0.85, 1.25)
    for side in (-1, 1):
        z = side * step
        piece.add(BOX, (side * 0.1 * k, 0.0, z + 0.05), (0.1 * k, 0.09 * k, 0.26 * k), shoes)
        piece.add(CYLINDER, (side * 0.1 * k, 0.05, z), (0.13 * k, 0.45 * k, 0.14 * k), trousers)
        thigh = (side * 0.1 * k, 0.42 * k, z * 0.6)
        piece.add(CYLINDER, thigh, (0.17 * k, 0.45 * k, 0.18 * k), trousers)
        arm = (side * 0.25 * k * stout, 0.8 * k, -z * 0.5)
        piece.add(CYLINDER, arm, (0.1 * k, 0.6 * k, 0.11 * k), top)
        piece.add(BALL, (arm[0], 0.73 * k, arm[2]), (0.09 * k, 0.13 * k, 0.1 * k), skin)
    wide, deep = 0.4 * k * stout, 0.24 * k * stout
    piece.add(CYLINDER, (0, 0.82 * k, 0), (wide * 0.9, 0.5 * k, deep), top)
    piece.add(BALL, (0, 1.18 * k, 0), (wide * 1.15, 0.3 * k, deep * 1.05), top)
    piece.add(CYLINDER, (0, 1.35 * k, 0), (0.11 * k, 0.15 * k, 0.11 * k), skin)
    piece.add(BALL, (0, 1.46 * k, 0), (0.16 * k, 0.25 * k, 0.2 * k), skin)
    piece.add(BALL, (0, 1.57 * k, -0.02), (0.18 * k, 0.16 * k, 0.2 * k), hair)
    if rng.random() < 0.3:
        bag = piece.material('fabric')
        piece.add(BOX, (0, 0.9 * k, -deep * 0.8), (0.3 * k, 0.42 * k, 0.16 * k), bag)


def clutter(
    piece: Piece, rng: np.random.Generator, level: float, area: tuple[float, float], count: int
) -> None:
    """Add small things on a surface at a height, some in groups of the same kind."""
    while count > 0:
        build = THINGS[rng.integers(len(THINGS))]
        group = int(rng.integers(2, 5)) if rng.random() < 0.15 else 1
        x, z = rng.uniform(-0.43, 0.43) * area[0], rng.uniform(-0.4, 0.4) * area[1]
        for _ in range(group):
            turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.7 else rng.normal(0, 0.1)
            material = piece.material(ROLES[rng.integers(len(ROLES))])
            build(_On(piece, x, level, z, turn, material), rng)
            x = float(np.clip(x + rng.normal(0, 0.12), -0.45 * area[0], 0.45 * area[0]))
            z = float(np.clip(z + rng.normal(0, 0.08), -0.42 * area[1], 0.42 * area[1]))
        count -= group


class _On:
    """A place on a surface, for small things built from a few solids."""

    def __init__(
        self, piece: Piece, x: float, level: float, z: float, turn: float, material: int
    ) -> None:
        self.piece, self.x, self.level, self.z = piece, x, level, z
        self.turn, self.material = turn, material

    def put(
        self, kind: int, bottom: float, size: tuple, material: int | None = None, dx: float = 0.0
    ) -> None:
        """Add a solid by height above the surface and full size, ``dx`` along the thing's x."""
        x, z = self.x + np.cos(self.turn) * dx, self.z - np.sin(self.turn) * dx
        chosen = self.material if material is None else material
        self.piece.add(kind, (x, self.level + bottom, z), size, chosen, self.turn)


def _box(on: _On, rng: np.random.Generator) -> None:
    on.put(BOX, 0, tuple(rng.uniform(0.04, 0.3, 3)))


def _books(on: _On, rng: np.random.Generator) -> None:
    bottom = 0.0
    for _ in range(rng.integers(1, 6)):
        high, material = rng.uniform(0.01, 0.045), on.piece.material('fabric')
        on.put(BOX, bottom, (rng.uniform(0.12, 0.2), high, rng.uniform(0.16, 0.28)), material)
        bottom += high


def _sheet(on: _On, rng: np.random.Generator) -> None:
    on.put(BOX, 0, (0.21, 0.004, 0.29), on.piece.material('paper'))


def _mug(on: _On, rng: np.random.Generator) -> None:
    wide, high = rng.uniform(0.06, 0.14), rng.uniform(0.06, 0.18)
    on.put(CYLINDER, 0, (wide, high, wide))
    on.put(BOX, high * 0.25, (wide * 0.5, high * 0.5, 0.015), dx=wide * 0.6)


def _bowl(on: _On, rng: np.random.Generator) -> None:
    wide = rng.uniform(0.12, 0.3)
    on.put(BALL, -0.03, (wide, wide * 0.5, wide))
    for _ in range(rng.integers(0, 4)):
        fruit = on.piece.material('plastic')
        on.put(BALL, wide * 0.3, (0.08, 0.08, 0.08), fruit, dx=rng.uniform(-0.3, 0.3) * wide)


def _ball(on: _On, rng: np.random.Generator) -> None:
    wide = rng.uniform(0.05, 0.22)
    on.put(BALL, 0, (wide, wide * rng.uniform(0.6, 1.1), wide))


def _bottle(on: _On, rng: np.random.Generator) -> None:
    wide, high = rng.uniform(0.05, 0.1), rng.uniform(0.12, 0.24)
    on.put(CYLINDER, 0, (wide, high, wide))
    on.put(BALL, high - wide / 2, (wide, wide, wide))
    on.put(CYLINDER, high, (wide * 0.4, wide * 0.5 + 0.06, wide * 0.4))


def _screen(on: _On, rng: np.random.Generator) -> None:
    dark, size = on.piece.material('screen'), (rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.4), 0.03)
    on.put(BOX, 0.07, size, dark)
    on.put(BOX, 0.09, (size[0] - 0.04, size[1] - 0.04, 0.036), on.piece.material('picture'))
    on.put(BOX, 0, (0.06, 0.1, 0.04), dark)
    on.put(BOX, 0, (0.22, 0.015, 0.16), dark)


def _tray(on: _On, rng: np.random.Generator) -> None:
    on.put(BOX, 0, (rng.uniform(0.2, 0.45), rng.uniform(0.01, 0.05), rng.uniform(0.12, 0.3)))


def _tent(on: _On, rng: np.random.Generator) -> None:
    on.put((ROOF, CABIN)[rng.integers(2)], 0, tuple(rng.uniform(0.06, 0.25, 3)))


def _roll(on: _On, rng: np.random.Generator) -> None:
    wide = rng.uniform(0.03, 0.14)
    on.put(ROLLER, 0, (rng.uniform(0.1, 0.5), wide, wide))


def _lamp(on: _On, rng: np.random.Generator) -> None:
    high, wide = rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.35)
    on.put(CYLINDER, 0, (wide * 0.6, 0.02, wide * 0.6))
    on.put(CYLINDER, 0, (0.02, high, 0.02))
    on.put(CABIN, high - 0.05, (wide, wide * 0.7, wide), on.piece.material('lamp'))


def _sprig(on: _On, rng: np.random.Generator) -> None:
    wide, leaf = rng.uniform(0.08, 0.2), on.piece.material('foliage')
    on.put(CYLINDER, 0, (wide, wide, wide))
    for _ in range(rng.integers(4, 9)):
        size = wide * rng.uniform(0.4, 1.2, 3)
        on.put(BALL, wide * rng.uniform(0.8, 2.2), tuple(size), leaf, wide * rng.normal(0, 0.5))


def _bag(on: _On, rng: np.random.Generator) -> None:
    cloth = on.piece.material('fabric')
    for _ in range(rng.integers(2, 5)):
        size = rng.uniform(0.1, 0.3, 3)
        on.put(BALL, -0.02, tuple(size), cloth, rng.normal(0, 0.07))


THINGS = (
    *(_box, _books, _sheet, _mug, _bowl, _ball, _bottle),
    *(_screen, _tray, _tent, _roll, _lamp, _sprig, _bag),
)
ROLES = ('plastic', 'plastic', 'carton', 'paper', 'fabric', 'metal', 'furniture', 'picture')
