# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Ranges of colour and texture per role: the table that `appearance` draws from."""

from __future__ import annotations

from dataclasses import dataclass

from marigold_ros.synthetic.appearance.patterns import (
    BRICKS,
    CELLS,
    CHECKER,
    CLOUDS,
    FACADE,
    FOLIAGE,
    GRADIENT,
    LEAVES,
    OUTLOOK,
    PATCHES,
    PLAIN,
    PLANKS,
    PRINT,
    ROAD,
    STRIPES,
    WOOD,
)

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """Ranges from which a role's appearance is drawn; colours in display HSV."""

    textures: tuple[int, ...]
    hue: Range
    saturation: Range
    value: Range
    scale: Range = (0.1, 1.0)
    difference: float = 0.3
    contrast: Range = (0.05, 0.3)
    gloss: Range = (0.0, 0.1)
    glow: Range = (0.0, 0.0)


ANY = (0.0, 1.0)
LOOKS = {
    'wall': Look(
        (PLAIN, PLAIN, PLAIN, GRADIENT, PLAIN, BRICKS, STRIPES, CLOUDS, CLOUDS),
        (0.02, 0.6),
        (0, 0.22),
        (0.4, 0.95),
        (0.1, 0.7),
        0.12,
        (0.0, 0.15),
    ),
    'accent': Look(
        (PLAIN, STRIPES, PATCHES, BRICKS, CELLS), ANY, (0.1, 0.55), (0.2, 0.8), (0.1, 0.6), 0.2
    ),
    'ceiling': Look(
        (PLAIN, PLAIN, CHECKER, PLANKS),
        (0.05, 0.6),
        (0, 0.08),
        (0.65, 0.98),
        (0.4, 0.9),
        0.06,
        (0.0, 0.1),
    ),
    'floor': Look(
        (PLANKS, PLANKS, CHECKER, BRICKS, PATCHES, PLAIN, CELLS, WOOD, CLOUDS, CLOUDS),
        (0.02, 0.15),
        (0.05, 0.6),
        (0.15, 0.8),
        (0.15, 0.9),
        0.3,
        (0.05, 0.45),
        (0, 0.5),
    ),
    'frame': Look((PLAIN, WOOD), (0.03, 0.6), (0, 0.3), (0.2, 0.95)),
    'door': Look(
        (PLAIN, WOOD, PLANKS, GRADIENT), (0.02, 0.65), (0.05, 0.55), (0.15, 0.85), (0.2, 0.8)
    ),
    'window': Look(
        (OUTLOOK, OUTLOOK, GRADIENT),
        (0.5, 0.62),
        (0.0, 0.25),
        (0.3, 1.0),
        (0.5, 2),
        0.5,
        glow=(0.0, 5.0),
    ),
    'picture': Look(
        (PATCHES, CELLS, CHECKER, GRADIENT, FOLIAGE, LEAVES, LEAVES, PRINT),
        ANY,
        (0.1, 0.7),
        (0.15, 0.9),
        (0.05, 0.4),
        0.9,
    ),
    'furniture': Look(
        (WOOD, WOOD, PLAIN, PLANKS, GRADIENT),
        (0.02, 0.12),
        (0.15, 0.75),
        (0.12, 0.92),
        (0.1, 0.5),
        0.25,
        (0.05, 0.3),
        (0, 0.4),
    ),
    'fabric': Look(
        (PATCHES, STRIPES, CHECKER, PLAIN, PLAIN, FOLIAGE, CLOUDS, LEAVES),
        ANY,
        (0.05, 0.55),
        (0.12, 0.85),
        (0.03, 0.3),
        0.35,
        (0.1, 0.5),
    ),
    'books': Look((CELLS,), ANY, (0.15, 0.6), (0.15, 0.8), (0.02, 0.06), 0.9),
    'metal': Look((PLAIN, GRADIENT), (0.05, 0.65), (0, 0.12), (0.15, 0.85), gloss=(0.2, 0.9)),
    'lamp': Look((PLAIN, GRADIENT), (0.08, 0.15), (0.0, 0.4), (0.7, 1.0), glow=(0.0, 2.0)),
    'plastic': Look(
        (PLAIN, PLAIN, STRIPES, GRADIENT), ANY, (0.05, 0.8), (0.1, 0.9), gloss=(0.0, 0.6)
    ),
    'paper': Look(
        (PLAIN, PATCHES, PRINT, PRINT), (0.05, 0.6), (0, 0.15), (0.6, 0.97), (0.05, 0.3), 0.6
    ),
    'carton': Look(
        (PLAIN, PLAIN, STRIPES, PRINT, CELLS),
        (0.06, 0.11),
        (0.15, 0.6),
        (0.3, 0.85),
        (0.1, 0.5),
        0.4,
    ),
    'screen': Look(
        (PLAIN, GRADIENT, PATCHES),
        (0.5, 0.7),
        (0, 0.4),
        (0.03, 0.2),
        (0.1, 0.4),
        gloss=(0.2, 0.7),
        glow=(0, 0.5),
    ),
    'skin': Look((PLAIN,), (0.03, 0.08), (0.25, 0.55), (0.3, 0.9)),
    'hair': Look((PLAIN,), (0.03, 0.12), (0.1, 0.6), (0.05, 0.5), contrast=(0.3, 0.6)),
    'cloth': Look((PLAIN, PLAIN, STRIPES, PATCHES), ANY, (0.05, 0.6), (0.05, 0.8), (0.04, 0.3)),
    'road': Look(
        (ROAD,), (0.05, 0.65), (0.0, 0.1), (0.22, 0.6), (0.3, 1.5), 0.12, (0.03, 0.25), (0, 0.15)
    ),
    'pavement': Look(
        (CHECKER, BRICKS, PLAIN),
        (0.03, 0.6),
        (0, 0.15),
        (0.3, 0.75),
        (0.3, 1.0),
        0.12,
        (0.1, 0.4),
    ),
    'kerb': Look((PLAIN, STRIPES), (0.05, 0.6), (0, 0.08), (0.4, 0.8), (0.8, 1.5), 0.15),
    'grass': Look(
        (FOLIAGE, PATCHES, CLOUDS),
        (0.17, 0.32),
        (0.4, 0.8),
        (0.2, 0.6),
        (0.3, 2.0),
        0.3,
        (0.3, 0.7),
    ),
    'building': Look(
        (FACADE, FACADE, FACADE, BRICKS, PLAIN, GRADIENT, CLOUDS, CELLS),
        (0.0, 0.16),
        (0.02, 0.5),
        (0.25, 0.9),
        (2.2, 3.6),
        0.25,
        (0.05, 0.25),
    ),
    'roof': Look((PLAIN, STRIPES, BRICKS), (0.0, 0.1), (0.1, 0.6), (0.15, 0.6), (0.2, 0.5)),
    'fence': Look(
        (STRIPES, PLANKS, PLAIN, BRICKS, FOLIAGE),
        (0.03, 0.35),
        (0.05, 0.5),
        (0.2, 0.9),
        (0.12, 0.4),
    ),
    'car': Look((PLAIN,), ANY, (0.0, 0.75), (0.05, 0.92), contrast=(0.0, 0.08), gloss=(0.3, 1.0)),
    'glass': Look((GRADIENT, PLAIN), (0.5, 0.62), (0.0, 0.25), (0.04, 0.3), gloss=(0.4, 1.0)),
    'tyre': Look((PLAIN,), (0.05, 0.6), (0, 0.1), (0.04, 0.15)),
    'tail_light': Look((PLAIN,), (0.97, 1.03), (0.7, 0.95), (0.4, 0.9), glow=(0, 0.6)),
    'trunk': Look((WOOD, STRIPES), (0.04, 0.1), (0.15, 0.5), (0.15, 0.5), (0.05, 0.2)),
    'foliage': Look(
        (FOLIAGE, FOLIAGE, LEAVES),
        (0.14, 0.38),
        (0.35, 0.85),
        (0.15, 0.6),
        (0.08, 0.6),
        0.4,
        (0.4, 0.9),
    ),
    'pole': Look((PLAIN, PLAIN, WOOD), (0.05, 0.6), (0, 0.3), (0.1, 0.75), gloss=(0, 0.4)),
    'sign': Look((CHECKER, PLAIN, CELLS, PRINT), ANY, (0.3, 0.95), (0.4, 0.95), (0.2, 0.7), 0.8),
    'hill': Look((FOLIAGE, PATCHES), (0.15, 0.45), (0.15, 0.5), (0.2, 0.5), (4, 12)),
}
# Roles whose look carries meaning of its own, and which therefore keep it.
KEPT = ('road', 'lamp', 'window', 'glass', 'tail_light', 'tyre', 'skin', 'foliage')
SURPRISES = (LEAVES, LEAVES, CLOUDS, CLOUDS, PATCHES, PRINT, CELLS, CHECKER)
