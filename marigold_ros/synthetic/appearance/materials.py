# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Materials: the ranges of colour and texture of each role, and drawing from them.

Colours are ranges of (hue, saturation, value) per role, muted as in life, so that no colour
reveals a depth.
"""

from dataclasses import dataclass, replace

from marigold_ros.synthetic.appearance.textures import TEXTURES
from marigold_ros.synthetic.raycast.description import Materials
import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """
    Ranges from which a role's appearance is drawn; colours in display HSV.

    ``textures`` are names of `TEXTURES`; what is named twice is drawn twice as often.
    """

    textures: str
    hue: Range
    saturation: Range
    value: Range
    scale: Range = (0.1, 1.0)
    difference: float = 0.3
    contrast: Range = (0.05, 0.3)
    gloss: Range = (0.0, 0.1)
    glow: Range = (0.0, 0.0)


ANY = (0.0, 1.0)
# fmt: off
MATERIALS = {
    'wall': Ranges(
        'plain plain plain gradient plain bricks stripes clouds clouds', (0.02, 0.6), (0, 0.22),
        (0.4, 0.95), (0.1, 0.7), 0.12, (0.0, 0.15)),
    'accent': Ranges(
        'plain stripes patches bricks cells', ANY, (0.1, 0.55), (0.2, 0.8), (0.1, 0.6), 0.2),
    'ceiling': Ranges(
        'plain plain checker planks', (0.05, 0.6), (0, 0.08), (0.65, 0.98), (0.4, 0.9), 0.06,
        (0.0, 0.1)),
    'floor': Ranges(
        'planks planks checker bricks patches plain cells wood clouds clouds', (0.02, 0.15),
        (0.05, 0.6), (0.15, 0.8), (0.15, 0.9), 0.3, (0.05, 0.45), (0, 0.5)),
    'frame': Ranges('plain wood', (0.03, 0.6), (0, 0.3), (0.2, 0.95)),
    'door': Ranges(
        'plain wood planks gradient', (0.02, 0.65), (0.05, 0.55), (0.15, 0.85), (0.2, 0.8)),
    'window': Ranges(
        'outlook outlook gradient', (0.5, 0.62), (0.0, 0.25), (0.3, 1.0), (0.5, 2), 0.5,
        glow=(0.0, 5.0)),
    'picture': Ranges(
        'patches cells checker gradient foliage leaves leaves print', ANY, (0.1, 0.7), (0.15, 0.9),
        (0.05, 0.4), 0.9),
    'furniture': Ranges(
        'wood wood plain planks gradient', (0.02, 0.12), (0.15, 0.75), (0.12, 0.92), (0.1, 0.5),
        0.25, (0.05, 0.3), (0, 0.4)),
    'fabric': Ranges(
        'patches stripes checker plain plain foliage clouds leaves', ANY, (0.05, 0.55),
        (0.12, 0.85), (0.03, 0.3), 0.35, (0.1, 0.5)),
    'books': Ranges('cells', ANY, (0.15, 0.6), (0.15, 0.8), (0.02, 0.06), 0.9),
    'metal': Ranges('plain gradient', (0.05, 0.65), (0, 0.12), (0.15, 0.85), gloss=(0.2, 0.9)),
    'lamp': Ranges('plain gradient', (0.08, 0.15), (0.0, 0.4), (0.7, 1.0), glow=(0.0, 2.0)),
    'plastic': Ranges(
        'plain plain stripes gradient', ANY, (0.05, 0.8), (0.1, 0.9), gloss=(0.0, 0.6)),
    'paper': Ranges(
        'plain patches print print', (0.05, 0.6), (0, 0.15), (0.6, 0.97), (0.05, 0.3), 0.6),
    'carton': Ranges(
        'plain plain stripes print cells', (0.06, 0.11), (0.15, 0.6), (0.3, 0.85), (0.1, 0.5),
        0.4),
    'screen': Ranges(
        'plain gradient patches', (0.5, 0.7), (0, 0.4), (0.03, 0.2), (0.1, 0.4), gloss=(0.2, 0.7),
        glow=(0, 0.5)),
    'skin': Ranges('plain', (0.03, 0.08), (0.25, 0.55), (0.3, 0.9)),
    'hair': Ranges('plain', (0.03, 0.12), (0.1, 0.6), (0.05, 0.5), contrast=(0.3, 0.6)),
    'cloth': Ranges('plain plain stripes patches', ANY, (0.05, 0.6), (0.05, 0.8), (0.04, 0.3)),
    'road': Ranges(
        'road', (0.05, 0.65), (0.0, 0.1), (0.22, 0.6), (0.3, 1.5), 0.12, (0.03, 0.25), (0, 0.15)),
    'pavement': Ranges(
        'checker bricks plain', (0.03, 0.6), (0, 0.15), (0.3, 0.75), (0.3, 1.0), 0.12, (0.1, 0.4)),
    'kerb': Ranges('plain stripes', (0.05, 0.6), (0, 0.08), (0.4, 0.8), (0.8, 1.5), 0.15),
    'grass': Ranges(
        'foliage patches clouds', (0.17, 0.32), (0.4, 0.8), (0.2, 0.6), (0.3, 2.0), 0.3,
        (0.3, 0.7)),
    'building': Ranges(
        'facade facade facade bricks plain gradient clouds cells', (0.0, 0.16), (0.02, 0.5),
        (0.25, 0.9), (2.2, 3.6), 0.25, (0.05, 0.25)),
    'roof': Ranges('plain stripes bricks', (0.0, 0.1), (0.1, 0.6), (0.15, 0.6), (0.2, 0.5)),
    'fence': Ranges(
        'stripes planks plain bricks foliage', (0.03, 0.35), (0.05, 0.5), (0.2, 0.9), (0.12, 0.4)),
    'car': Ranges('plain', ANY, (0.0, 0.75), (0.05, 0.92), contrast=(0.0, 0.08), gloss=(0.3, 1.0)),
    'glass': Ranges('gradient plain', (0.5, 0.62), (0.0, 0.25), (0.04, 0.3), gloss=(0.4, 1.0)),
    'tyre': Ranges('plain', (0.05, 0.6), (0, 0.1), (0.04, 0.15)),
    'tail_light': Ranges('plain', (0.97, 1.03), (0.7, 0.95), (0.4, 0.9), glow=(0, 0.6)),
    'trunk': Ranges('wood stripes', (0.04, 0.1), (0.15, 0.5), (0.15, 0.5), (0.05, 0.2)),
    'foliage': Ranges(
        'foliage foliage leaves', (0.14, 0.38), (0.35, 0.85), (0.15, 0.6), (0.08, 0.6), 0.4,
        (0.4, 0.9)),
    'pole': Ranges('plain plain wood', (0.05, 0.6), (0, 0.3), (0.1, 0.75), gloss=(0, 0.4)),
    'sign': Ranges('checker plain cells print', ANY, (0.3, 0.95), (0.4, 0.95), (0.2, 0.7), 0.8),
    'hill': Ranges('foliage patches', (0.15, 0.45), (0.15, 0.5), (0.2, 0.5), (4, 12)),
}
# fmt: on
# Roles that are recognised by their texture and keep it.
KEPT = ('road', 'lamp', 'window', 'glass', 'tail_light', 'tyre', 'skin', 'foliage')
SURPRISES = 'leaves leaves clouds clouds patches print cells checker'


def linear_from_hsv(hsv: np.ndarray) -> np.ndarray:
    """Turn display HSV in [0, 1] (N, 3) into linear RGB (N, 3)."""
    hue, saturation, value = hsv[:, :1], hsv[:, 1:2], hsv[:, 2:]
    wheel = np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1.0 * 6 - 3) - 1
    display = value * (1 - saturation + saturation * np.clip(wheel, 0, 1))
    return display**2.2


def draw_materials(
    rng: np.random.Generator, roles: tuple[str, ...], layout: np.ndarray
) -> Materials:
    """Draw the appearance of every material from its role; ``layout`` (M, 4) travels along."""
    table = [MATERIALS[role] for role in roles]
    count = len(roles)

    def within(name: str) -> np.ndarray:
        ranges = np.array([getattr(row, name) for row in table])
        return rng.uniform(ranges[:, 0], ranges[:, 1])

    # Skewed to greys: saturated things are the exception in real images.
    dull = rng.uniform(0.6, 1.8) * (0.25 + 0.75 * rng.random(count) ** 0.5)
    hsv = np.stack([within('hue'), within('saturation') * dull, within('value')], axis=1)
    hsv[:, 1] = np.minimum(hsv[:, 1], 0.98)
    difference = np.array([row.difference for row in table])[:, None]
    other = hsv + rng.normal(0, 1, (count, 3)) * difference * np.array([0.15, 0.4, 0.6])
    other[:, 1:] = np.clip(other[:, 1:], 0.0, 0.98)
    other[:, 2:] = np.maximum(other[:, 2:], np.maximum(0.35 * hsv[:, 2:], 0.04))
    choices = [_numbers(row.textures) for row in table]
    usual = np.array([numbers[rng.integers(len(numbers))] for numbers in choices])
    texture, widening = _surprised(rng, roles, usual)
    materials = Materials(
        texture=texture,
        colour_a=linear_from_hsv(hsv),
        colour_b=linear_from_hsv(other),
        scale=within('scale') * widening,
        offset=rng.uniform(0, 100, (count, 2)),
        contrast=within('contrast') * rng.choice([0.3, 1.0, 1.8]),
        gloss=within('gloss') * (rng.random(count) < 0.6),
        glow=within('glow') * (rng.random(count) < 0.6),
        extra=np.asarray(layout, dtype=np.float64).reshape(count, 4),
    )
    same = _walls_alike(roles)
    own = ('offset', 'extra')
    alike = {name: values[same] for name, values in vars(materials).items() if name not in own}
    return replace(materials, **alike)


def _numbers(names: str) -> list[int]:
    """Return the rows of textures in `TEXTURES`."""
    return [TEXTURES.index(name) for name in names.split()]


def _surprised(
    rng: np.random.Generator, roles: tuple[str, ...], usual: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw, for some things, textures unusual for their role and factors on the period."""
    share = rng.choice([0.0, 0.12, 0.35, 0.9], p=[0.45, 0.3, 0.18, 0.07])
    surprised = (rng.random(len(roles)) < share) & ~np.isin(roles, KEPT)
    surprises = np.array(_numbers(SURPRISES))
    other = surprises[rng.integers(0, len(surprises), len(roles))]
    widening = np.exp(rng.normal(0.0, 0.6, len(roles)))
    return np.where(surprised, other, usual), np.where(surprised, widening, 1.0)


def _walls_alike(roles: tuple[str, ...]) -> np.ndarray:
    """Return the row that each material copies: the first of its role for walls, windows, …."""
    first: dict[str, int] = {}
    source = np.arange(len(roles))
    for index, role in enumerate(roles):
        if role in ('wall', 'grass', 'pavement', 'kerb', 'window'):
            source[index] = first.setdefault(role, index)
    return source
