# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Rooms: walls, doors, windows and furniture, drawn at random as solids with roles."""

from marigold_ros.synthetic.raycast.description import BOX, CYLINDER, ROLLER, SHELL, SolidList
from marigold_ros.synthetic.scenes.furniture import ceiling_lamp, FURNITURE, THEMES
from marigold_ros.synthetic.scenes.pieces import clutter, Piece
import numpy as np

SIZES = ((0.65, (2.6, 6.5), (2.8, 7.0)), (0.2, (1.4, 2.6), (7.0, 18.0)), (0.15, (8, 16), (9, 20)))


def draw_room(rng: np.random.Generator) -> tuple[SolidList, np.ndarray, np.ndarray | None]:
    """
    Draw a room: its solids, the box (2, 3) m where cameras may stand, and a focus (3,) or None.

    The focus is a table top worth a close-up (20 % of the rooms).
    """
    share, width_range, length_range = SIZES[rng.choice(3, p=[size[0] for size in SIZES])]
    width, length = rng.uniform(*width_range), rng.uniform(*length_range)
    height = rng.uniform(2.3, 3.2) if share > 0.15 else rng.uniform(3.0, 6.5)
    size, solids = (width, height, length), SolidList()
    second_wall = 'accent' if rng.random() < 0.3 else 'wall'
    shell, *_ = solids.materials('wall', second_wall, 'ceiling', 'floor', 'wall', 'wall')
    solids.add(SHELL, (0, -height / 2, 0), (width / 2, height / 2, length / 2), shell)
    _openings(solids, rng, size)
    theme = str(rng.choice(list(THEMES), p=[0.4, 0.16, 0.12, 0.2, 0.12]))
    _overhead(solids, rng, size, theme)
    focus, taken = None, []
    if rng.random() < 0.2:
        focus = _close_up_table(solids, rng, size)
        taken.append((focus[0], focus[2], 0.9))
    elif rng.random() < 0.45 and length > 4.5:
        taken += _partition(solids, rng, size)
    for _ in range(int(np.clip(width * length * rng.uniform(0.5, 1.2), 6, 20))):
        _place_furniture(solids, rng, size, theme, taken)
    extent = np.array([[-width / 2, -2.2, -length / 2], [width / 2, -0.4, length / 2]])
    return solids, extent, focus


def _openings(solids: SolidList, rng: np.random.Generator, size: tuple) -> None:
    """Add doors, windows, pictures, skirting and pillars on the walls."""
    width, height, length = size
    frame, skirting = solids.materials('frame', 'frame')
    for side in range(4):
        span = (length if side < 2 else width) - 0.4
        for _ in range(rng.integers(0, 3 if span < 6 else 5)):
            kind = rng.choice(['door', 'window', 'picture'], p=[0.3, 0.35, 0.35])
            wide, high, bottom = {
                'door': (rng.uniform(0.75, 1.0), 2.05, 0.0),
                'window': (rng.uniform(0.6, 2.2), rng.uniform(0.8, 1.5), rng.uniform(0.6, 1.0)),
                'picture': (rng.uniform(0.3, 1.2), rng.uniform(0.3, 0.9), rng.uniform(1.1, 1.5)),
            }[kind]
            if wide + 0.2 > span or bottom + high > height - 0.1:
                continue
            along = rng.uniform(-1, 1) * (span - wide) / 2
            piece = _on_wall(solids, side, along, size)
            inner = solids.material(str(kind))
            out = rng.uniform(0.045, 0.06)  # overlapping frames must not lie in one plane
            rim = 0.12 if kind != 'picture' else 0.06
            piece.add(BOX, (0, bottom, 0), (wide + rim, high + rim / 2, out), frame)
            piece.add(BOX, (0, bottom + 0.01, 0), (wide, high - 0.04, out + 0.02), inner)
            if kind == 'window':
                piece.add(BOX, (0, bottom, 0), (0.05, high, 0.1), frame)
                piece.add(BOX, (0, bottom - 0.06, 0), (wide + 0.2, 0.04, 0.36), frame)
        if rng.random() < 0.7:
            piece = _on_wall(solids, side, 0.0, size)
            piece.add(BOX, (0, 0, 0), (span + 0.4, 0.09, 0.03), skirting)
    for _ in range(rng.integers(0, 3)):
        pillar = solids.material('wall')
        side, thick = int(rng.integers(4)), rng.uniform(0.2, 0.6)
        span = (length if side < 2 else width) - thick
        piece = _on_wall(solids, side, rng.uniform(-0.5, 0.5) * span, size)
        piece.add(BOX, (0, 0, 0), (thick, height, thick * rng.uniform(0.6, 2.0)), pillar)


def _partition(solids: SolidList, rng: np.random.Generator, size: tuple) -> list:
    """Divide the room by a wall with openings; return the places (x, z, radius) it takes."""
    width, height, length = size
    wall, frame = solids.materials('wall', 'frame')
    z, thick = rng.uniform(-0.3, 0.3) * length, rng.uniform(0.06, 0.15)
    lintel = min(height - 0.1, rng.uniform(1.95, 2.3))
    x, taken = -width / 2, []
    while x < width / 2:
        end = min(x + rng.uniform(0.3, 0.7) * min(width, 4.0), width / 2)
        middle = ((x + end) / 2, -height / 2, z)
        solids.add(BOX, middle, ((end - x) / 2, height / 2, thick), wall)
        taken += [(at, z, 0.2) for at in np.arange(x, end, 0.4)]
        if end >= width / 2:
            break
        gap = rng.uniform(0.8, 1.0) if rng.random() < 0.6 else rng.uniform(1.2, 2.5)
        after = min(end + gap, width / 2)
        over, across = (height - lintel) / 2, (after - end) / 2
        solids.add(BOX, (end + across, -height + over, z), (across, over, thick), wall)
        for side in (end, after):
            solids.add(BOX, (side, -lintel / 2, z), (0.03, lintel / 2, thick + 0.02), frame)
        taken.append((end + across, z, 0.5))
        if rng.random() < 0.4 and gap < 1.1:
            leaf = Piece(solids, (end + 0.02, 0.0, z), rng.uniform(-1.6, 1.6))
            leaf.add(BOX, (gap / 2, 0, 0), (gap, lintel, 0.04), solids.material('door'))
        x = after
    return taken


def _overhead(solids: SolidList, rng: np.random.Generator, size: tuple, theme: str) -> None:
    """Add pipes below the ceiling (often in stores), or beams, or rows of lamps, or nothing."""
    width, height, length = size
    kind = rng.choice(['bare', 'beams', 'lamps', 'pipes'], p=[0.55, 0.15, 0.2, 0.1])
    if theme == 'store' and rng.random() < 0.6:
        kind = 'pipes'
    if kind == 'pipes':
        for _ in range(rng.integers(2, 6)):
            role, radius = solids.material('metal'), rng.uniform(0.02, 0.14)
            along = rng.random() < 0.5
            half = length / 2 if along else width / 2
            place = rng.uniform(-0.5, 0.5) * (width if along else length)
            y = -height + radius + rng.uniform(0, 0.25)
            centre = (place, y, 0.0) if along else (0.0, y, place)
            yaw = np.pi / 2 if along else 0.0
            solids.add(ROLLER, centre, (half, radius, radius), role, yaw)
        for _ in range(rng.integers(0, 3)):
            x, z = rng.uniform(-0.45, 0.45, 2) * (width, length)
            post = solids.material('metal')
            solids.add(CYLINDER, (x, -height / 2, z), (0.05, height / 2, 0.05), post)
    role = solids.material('furniture' if kind == 'beams' else 'lamp')
    if kind in ('beams', 'lamps'):
        thick = rng.uniform(0.05, 0.15) if kind == 'beams' else 0.04
        half = width / 2 if kind == 'beams' else rng.uniform(0.2, 0.7)
        for z in np.arange(-length / 2 + 0.6, length / 2, rng.uniform(0.7, 2.2)):
            beam = (half, thick, rng.uniform(0.06, 0.15))
            solids.add(BOX, (0.0, -height + thick, z), beam, role)


def _on_wall(solids: SolidList, side: int, along: float, size: tuple) -> Piece:
    """Return the frame of a thing on a wall: x along the wall, z out of it."""
    width, _, length = size
    if side < 2:
        return Piece(solids, ((-0.5, 0.5)[side] * width, 0.0, along), np.pi / 2)
    return Piece(solids, (along, 0.0, (-0.5, 0.5)[side - 2] * length), 0.0)


def _place_furniture(
    solids: SolidList, rng: np.random.Generator, size: tuple, theme: str, taken: list
) -> None:
    """Put one piece of furniture where there is room, against a wall or anywhere."""
    width, height, length = size
    weights = THEMES[theme]
    shares = np.array(list(weights.values())) / sum(weights.values())
    name = str(rng.choice(list(weights), p=shares))
    if name == 'ceiling_lamp':
        place = (rng.uniform(-0.3, 0.3) * width, height, rng.uniform(-0.4, 0.4) * length)
        ceiling_lamp(Piece(solids, place, 0.0), rng)
        return
    builder, radius, gap = FURNITURE[name]
    for _ in range(12):
        quarter = int(rng.integers(4))
        x = rng.uniform(-1, 1) * (width / 2 - radius)
        z = rng.uniform(-1, 1) * (length / 2 - radius)
        yaw = rng.uniform(-np.pi, np.pi)
        if gap is not None:
            yaw = quarter * np.pi / 2 + np.pi
            if quarter % 2 == 0:
                z = (1 - quarter) * (length / 2 - gap)
            else:
                x = (2 - quarter) * (width / 2 - gap)
        inside = abs(x) < width / 2 - 0.3 and abs(z) < length / 2 - 0.3
        if inside and all(np.hypot(x - a, z - b) > radius + c for a, b, c in taken):
            taken.append((x, z, radius * 0.9))
            builder(Piece(solids, (x, 0.0, z), yaw), rng)
            return


def _close_up_table(solids: SolidList, rng: np.random.Generator, size: tuple) -> np.ndarray:
    """Add a laden table and return the middle of its top, (3,) m."""
    x, z = rng.uniform(-0.2, 0.2) * size[0], rng.uniform(-0.2, 0.2) * size[2]
    piece = Piece(solids, (x, 0.0, z), rng.uniform(-np.pi, np.pi))
    high, wide, deep = rng.uniform(0.65, 0.8), rng.uniform(0.9, 1.6), rng.uniform(0.6, 0.95)
    wood = solids.material('furniture')
    piece.add(BOX, (0, high - 0.04, 0), (wide, 0.04, deep), wood)
    piece.add(BOX, (0, 0, 0), (wide * 0.7, high - 0.04, deep * 0.7), wood)
    clutter(piece, rng, high, (wide, deep), int(rng.integers(6, 24)))
    return np.array([x, -high, z])
