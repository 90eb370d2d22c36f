# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What rooms and streets share: a frame to build a piece in, people, and small clutter."""

from __future__ import annotations

from marigold_ros.synthetic.description import BALL, BOX, CYLINDER, SolidList
import numpy as np


class Piece:
    """A piece of furniture in its own frame: x across, z deep, heights counted up from 0."""

    def __init__(self, solids: SolidList, place: tuple[float, float, float], yaw: float) -> None:
        self.solids = solids
        self.place = place
        self.yaw = yaw
        self.cosine, self.sine = np.cos(yaw), np.sin(yaw)

    def add(
        self,
        kind: int,
        centre: tuple[float, float, float],
        size: tuple[float, float, float],
        material: int,
        turn: float = 0.0,
    ) -> None:
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
    """Legs, trunk, arms and head."""
    skin, top = piece.solids.material('skin'), piece.solids.material('cloth')
    trousers, hair = piece.solids.material('cloth'), piece.solids.material('hair')
    scale, step = rng.uniform(0.88, 1.1), rng.uniform(-0.18, 0.18)
    for side in (-1, 1):
        leg = (side * 0.1 * scale, 0.0, side * step)
        piece.add(CYLINDER, leg, (0.16 * scale, 0.85 * scale, 0.17 * scale), trousers)
        arm = (side * 0.25 * scale, 0.75 * scale, -side * step * 0.7)
        piece.add(BALL, arm, (0.13 * scale, 0.68 * scale, 0.15 * scale), top)
    piece.add(BALL, (0, 0.7 * scale, 0), (0.45 * scale, 0.82 * scale, 0.3 * scale), top)
    piece.add(BALL, (0, 1.46 * scale, 0), (0.17 * scale, 0.25 * scale, 0.2 * scale), skin)
    piece.add(BALL, (0, 1.56 * scale, -0.02), (0.19 * scale, 0.18 * scale, 0.21 * scale), hair)


def clutter(
    piece: Piece, rng: np.random.Generator, level: float, area: tuple[float, float], count: int
) -> None:
    """Small things on a surface at a height: boxes, books, mugs, balls, screens."""
    for _ in range(count):
        x, z = rng.uniform(-0.42, 0.42) * area[0], rng.uniform(-0.4, 0.4) * area[1]
        turn = rng.uniform(-np.pi, np.pi)
        kind = rng.choice(['box', 'book', 'mug', 'ball', 'screen', 'bottle'])
        role = str(rng.choice(['plastic', 'carton', 'paper', 'fabric', 'metal', 'picture']))
        material = piece.solids.material(role)
        if kind == 'box':
            size = tuple(rng.uniform(0.05, 0.25, 3))
            piece.add(BOX, (x, level, z), size, material, turn)
        elif kind == 'book':
            piece.add(BOX, (x, level, z), (0.15, rng.uniform(0.01, 0.05), 0.21), material, turn)
        elif kind == 'mug':
            radius = rng.uniform(0.06, 0.12)
            piece.add(CYLINDER, (x, level, z), (radius, rng.uniform(0.07, 0.15), radius), material)
        elif kind == 'ball':
            radius = rng.uniform(0.06, 0.2)
            piece.add(BALL, (x, level, z), (radius, radius, radius), material)
        elif kind == 'bottle':
            radius = rng.uniform(0.05, 0.09)
            piece.add(CYLINDER, (x, level, z), (radius, 0.2, radius), material)
            piece.add(CYLINDER, (x, level, z), (radius * 0.4, 0.28, radius * 0.4), material)
        else:
            dark = piece.solids.material('screen')
            size = (rng.uniform(0.3, 0.6), rng.uniform(0.2, 0.36), 0.03)
            piece.add(BOX, (x, level + 0.06, z), size, dark, turn)
            piece.add(BOX, (x, level, z), (0.14, 0.08, 0.1), dark, turn)
