# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Points in the cells of a grid: their means, and one for each cell."""

from marigold_ros.kernels.compiled import compiled
from marigold_ros.kernels.neighbours import sorted_in_tiles
import numpy as np

# Points of a tile that are sorted as fast as their median is found.
_SORTED = 64


@compiled()
def mean_in_cells(
    u: np.ndarray,
    v: np.ndarray,
    values: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    total, count = np.zeros(size), np.zeros(size, np.float32)
    for i in range(len(u)):
        cell = row[v[i]], column[u[i]]
        total[cell] += values[i]
        count[cell] += 1
    mean = np.zeros(size, np.float32)
    for i in range(size[0]):
        for j in range(size[1]):
            if count[i, j]:
                mean[i, j] = total[i, j] / count[i, j]
    return mean, count


def representatives(u: np.ndarray, v: np.ndarray, values: np.ndarray, most: int) -> np.ndarray:
    """
    Choose at most ``most`` of points (M,) evenly over the image; return their indices.

    Each cell of a grid is represented by the point with the median value, which is no outlier.
    """
    if len(u) <= most:
        return np.arange(len(u))
    width, height = (int(np.ptp(side)) + 1 for side in (u, v))
    cell = max(1.0, float(np.sqrt(width * height / most)))
    for _ in range(8):
        _, starts, members, *_ = sorted_in_tiles(u, v, cell)
        occupied = int(np.count_nonzero(np.diff(starts)))
        if 0.75 * most < occupied <= most or (occupied <= most and cell == 1.0):
            break
        cell = max(1.0, cell * float(np.sqrt(occupied / (0.88 * most))))
    chosen = _medians(starts, members, values)
    if len(chosen) <= most:
        return chosen
    return chosen[np.linspace(0, len(chosen) - 1, most).astype(np.intp)]


@compiled()
def _medians(starts: np.ndarray, members: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return of each tile with points, as `sorted_in_tiles`, the one with the lower median."""
    chosen, count = np.empty(len(starts), np.int64), 0
    for tile in range(len(starts) - 1):
        first, end = starts[tile], starts[tile + 1]
        if first == end:
            continue
        middle = (first + end - 1) // 2
        if end - first > _SORTED:
            around = values[members[first:end]]
            typical = np.partition(around, middle - first)[middle - first]
            members[middle] = members[first + np.argmax(around == typical)]
        else:
            for i in range(first + 1, end):
                member, value, place = members[i], values[members[i]], i
                while place > first and values[members[place - 1]] > value:
                    members[place] = members[place - 1]
                    place -= 1
                members[place] = member
        chosen[count] = members[middle]
        count += 1
    return chosen[:count]
