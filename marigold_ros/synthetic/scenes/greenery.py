# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Trees, bushes and hedges: heaps of balls, so that crowns have ragged rims and holes."""

from marigold_ros.synthetic.raycast.description import BALL, BOX, CYLINDER, SolidList
import numpy as np

NEAR, MIDDLE = 25.0, 55.0  # m; trees farther away have fewer balls


def tree(solids: SolidList, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a trunk that forks, under clusters of leaves, or a conifer in tiers, or bare."""
    high = rng.uniform(3.5, 11)
    trunk, leaf = solids.materials('trunk', 'foliage')
    girth = high * rng.uniform(0.015, 0.028)
    kind = rng.choice(['round', 'slender', 'conifer', 'bare'], p=[0.62, 0.15, 0.13, 0.1])
    solids.add(CYLINDER, (x, -high * 0.35, z), (girth, high * 0.35, girth), trunk)
    for _ in range(rng.integers(2, 6)):
        dx, dz = rng.normal(0, 0.05 * high, 2)
        thin, up = girth * rng.uniform(0.3, 0.6), rng.uniform(0.45, 0.6) * high
        solids.add(CYLINDER, (x + dx, -up - 0.12 * high, z + dz), (thin, 0.18 * high, thin), trunk)
    if kind == 'bare':
        return
    count = 64 if abs(z) < NEAR else 22 if abs(z) < MIDDLE else 9
    if kind == 'conifer':
        _conifer(solids, rng, (x, z, high), leaf, count)
        return
    clear, wide = high * rng.uniform(0.2, 0.45), high * rng.uniform(0.18, 0.34)
    if kind == 'slender':
        wide *= 0.45
    crown = (high - clear) / 2
    shade = solids.material('foliage') if rng.random() < 0.3 else leaf
    grain = 0.33 if count > 30 else 0.46 if count > 10 else 0.65
    # Branches first, then leaves about branches: crowns hang together but not evenly.
    branches = rng.normal(0, 1, (9, 3))
    branches *= (rng.random((9, 1)) ** 0.5) / np.linalg.norm(branches, axis=1, keepdims=True)
    for index in range(count):
        point = 0.75 * branches[index % 9] + rng.normal(0, 0.28, 3)
        point /= max(1.0, np.linalg.norm(point))
        size = wide * rng.uniform(0.35, 1.0, 3) * grain
        place = (x + wide * point[0], -high + crown - crown * point[1], z + wide * point[2])
        solids.add(BALL, place, tuple(size), shade if index % 9 == 0 else leaf, rng.uniform(0, 3))


def _conifer(
    solids: SolidList, rng: np.random.Generator, place: tuple, leaf: int, count: int
) -> None:
    """Add the tiers of a conifer of a height at a place (x, z, height)."""
    x, z, high = place
    wide = high * rng.uniform(0.14, 0.24)
    for level in np.linspace(0.12, 1.0, count // 2 + 2):
        reach = wide * (1.05 - level)
        size = (reach * rng.uniform(0.6, 1), 0.05 * high, reach * rng.uniform(0.6, 1))
        dx, dz = rng.normal(0, 0.2 * reach, 2)
        solids.add(BALL, (x + dx, -high * level, z + dz), size, leaf, rng.uniform(0, 3))


def bush(solids: SolidList, rng: np.random.Generator, x: float, z: float) -> None:
    """Add a heap of balls, or a clipped hedge along z."""
    leaf = solids.material('foliage')
    if rng.random() < 0.3:
        high, half = rng.uniform(0.7, 1.8), rng.uniform(2, 6)
        solids.add(BOX, (x, -high / 2, z), (0.4, high / 2, half), leaf)
        for along in np.arange(-half, half, 0.7):
            size = tuple(rng.uniform(0.25, 0.5, 3))
            solids.add(BALL, (x, -high + 0.1, z + along), size, leaf)
        return
    wide = rng.uniform(0.4, 1.2)
    for _ in range(rng.integers(6, 16)):
        size = tuple(wide * rng.uniform(0.25, 0.6, 3))
        (dx, dz), up = rng.normal(0, 0.6 * wide, 2), rng.uniform(0.2, 1.1) * wide
        solids.add(BALL, (x + dx, -up, z + dz), size, leaf, rng.uniform(0, 3))
