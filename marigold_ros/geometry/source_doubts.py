# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which of several sources of a frame contradict each other; their order decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.around_points import difference_of_neighbours
from marigold_ros.reasons import Reason
import numpy as np

# Two sources disagree if this share of the cells (pixels) that hold points of both, of so many at
# least, is off by more than a factor. In streets things hide a third of the ground.
_MOST, _SHARED, _CELL, _OFF = 0.6, 20, 4, 1.1
# They also do, as where one is mirrored or noise, if half of the cells of two that see things are
# off by more than this, farther or nearer. Noise of 20 % is a quarter.
_HALF, _FAR_OFF = 0.5, 1.25
# Of two that disagree, one of so many points whose neighbours differ by more than this, in log
# depth, is noise if the other's do not: of right ones 0.08 at most, of noise 0.17 and more.
_MANY, _SAMPLES, _NOISE = 200, 400, 0.13


@dataclass(frozen=True)
class _Difference:
    """Ratio of a source's depth to another's at so many places, ``mixed`` if also its inverse."""

    ratio: float
    places: int
    mixed: bool = False

    @property
    def factor(self) -> str:
        """The ratio in words."""
        return f'{self.ratio:.2f} or {1.0 / self.ratio:.2f}' if self.mixed else f'{self.ratio:.2f}'

    def reversed(self) -> '_Difference':
        """Return that of the other source."""
        return self if self.mixed else _Difference(1.0 / self.ratio, self.places)


def doubts_of(
    parts: Mapping[int, SparseDepth], names: Sequence[str]
) -> tuple[dict[int, Reason], float]:
    """
    Return the doubted sources and why, and by how much those that lead differ at most, or 0.

    Of two that disagree both are doubted, unless one of them is noise; one is outvoted by several
    that are like each other and of which none is contradicted as often.
    """
    apart: dict[int, dict[int, _Difference]] = {}
    for (i, one), (j, other) in combinations(parts.items(), 2):
        if found := _disagreement(one, other):
            apart.setdefault(j, {})[i] = found
            apart.setdefault(i, {})[j] = found.reversed()
    noise = {i: _noise(parts[i]) for i in apart}
    noisy = {i for i in apart if noise[i] > _NOISE >= min(noise[j] for j in apart[i])}
    doubts = {i: Reason('points_contradict', {'typical': np.expm1(noise[i])}) for i in noisy}
    apart = _without(noisy, apart)
    outvoted = {i for i in apart if _is_outvoted(i, apart)}
    for i in outvoted:
        doubts[i] = _doubt('source_outvoted', apart[i], names)
    dispute = 0.0
    for i, beside in _without(outvoted, apart).items():
        doubts[i] = _doubt('sources_disagree', beside, names)
        if parts[i].kind.extends:
            ratios = (found.ratio for j, found in beside.items() if parts[j].kind.extends)
            dispute = max(dispute, max(ratios, default=1.0) - 1.0)
    return doubts, dispute


def _without(
    some: set[int], apart: Mapping[int, Mapping[int, _Difference]]
) -> dict[int, dict[int, _Difference]]:
    """Return the differences between the other sources, of those that have any."""
    left = {i: {j: beside[j] for j in beside.keys() - some} for i, beside in apart.items()}
    return {i: beside for i, beside in left.items() if beside and i not in some}


def _is_outvoted(number: int, apart: Mapping[int, Mapping[int, _Difference]]) -> bool:
    beside = apart[number]
    if len(beside) <= max(len(apart[other]) for other in beside):
        return False
    agree = not any(j in apart[i] for i, j in combinations(beside, 2))
    return agree and len({found.ratio > 1.0 for found in beside.values()}) == 1


def _doubt(code: str, beside: Mapping[int, _Difference], names: Sequence[str]) -> Reason:
    """Return the reason by the source that differs most."""
    worst = max(beside, key=lambda i: abs(np.log(beside[i].ratio)))
    found, values = beside[worst], {'other': names[worst], 'others': len(beside)}
    values |= {'ratio': found.ratio, 'factor': found.factor, 'places': found.places}
    return Reason(code, values)


def _noise(points: SparseDepth) -> float:
    """Return how much points differ from their neighbours, in log depth; 0 for a few."""
    few = len(points) < _MANY
    return 0.0 if few else difference_of_neighbours(points.u, points.v, points.z, _SAMPLES)


def _disagreement(one: SparseDepth, other: SparseDepth) -> _Difference | None:
    """Return the difference of ``other`` from ``one``; None if they agree."""
    if not (one.kind.is_placed and other.kind.is_placed):
        return None
    sides = (other.v, one.v), (other.u, one.u)
    rows, columns = (max(map(np.max, side)) // _CELL + 1 for side in sides)

    def in_cells(points: SparseDepth) -> np.ndarray:
        """Sum inverse depth, which is linear along a plane, and count points, in each cell."""
        cell = points.v // _CELL * columns + points.u // _CELL
        return np.stack([np.bincount(cell, w, rows * columns) for w in (1.0 / points.z, None)])

    (inverse, count), (of_other, count_other) = in_cells(one), in_cells(other)
    both = (count > 0) & (count_other > 0)
    ratio = (inverse[both] / count[both]) / (of_other[both] / count_other[both])
    places, least = len(ratio), _MOST * _SHARED
    off = max(np.count_nonzero(ratio > _OFF), np.count_nonzero(ratio < 1.0 / _OFF))
    if off > max(_MOST * places, least):
        return _Difference(float(np.median(ratio)), places)
    factor = np.maximum(ratio, 1.0 / ratio)
    if not (one.kind.extends and other.kind.extends):
        return None
    if np.count_nonzero(factor > _FAR_OFF) <= max(_HALF * places, least):
        return None
    return _Difference(float(np.median(factor)), places, mixed=True)
