# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Interpolate in triangles on a grid: of given edges, or of the points nearest to its cells."""

from marigold_ros.kernels.compiled import compiled
import numpy as np

# Cells; places of points are exact to this. Weights of corners at cells on a triangle's edge.
_ROUNDING, _ON_EDGE = 1e-9, -1e-6


@compiled()
def scan_edges(ends: np.ndarray, of_pixel: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """
    Interpolate between edges (n, 4), u and v of both ends, along rows of cells; NaN outside.

    Along a row the surface of triangles is linear from edge to edge. ``of_pixel`` (H, W) holds the
    values at the ends; edges that leave it belong to the triangle around the image.
    """
    height, width = of_pixel.shape
    # First and last row; place of the upper end and columns a row; value there and its rise a row.
    edges = np.empty((len(ends), 7))
    # Crossings are sorted by counting those in each cell, and by insertion within a cell.
    starts = np.zeros(rows * (columns + 1) + 1, np.int64)
    n = 0
    for u0, v0, u1, v1 in ends:
        if v0 > v1:
            u0, v0, u1, v1 = u1, v1, u0, v0
        if v0 < 0 or v1 >= height or min(u0, u1) < 0 or max(u0, u1) >= width:
            continue
        top, bottom = (v0 + 0.5) * rows / height - 0.5, (v1 + 0.5) * rows / height - 0.5
        # The ends of an edge along a row belong to other edges too.
        if bottom - top <= _ROUNDING:
            continue
        column = (u0 + 0.5) * columns / width - 0.5
        slope = ((u1 + 0.5) * columns / width - 0.5 - column) / (bottom - top)
        first = max(np.ceil(top - _ROUNDING), 0.0)
        last = min(np.floor(bottom + _ROUNDING), rows - 1.0)
        value = of_pixel[int(v0), int(u0)]
        rise = (of_pixel[int(v1), int(u1)] - value) / (bottom - top)
        edges[n] = first, last, top, column, slope, value, rise
        n += 1
        for row in range(int(first), int(last) + 1):
            cell = row * (columns + 1) + int(column + (row - top) * slope + 1.0)
            starts[cell + 1] += 1
    for cell in range(len(starts) - 1):
        starts[cell + 1] += starts[cell]
    ends_of_cells, crossings = starts[:-1].copy(), np.empty((starts[-1], 2))
    for edge in range(n):
        first, last, top, column, slope, value, rise = edges[edge]
        for row in range(int(first), int(last) + 1):
            at = column + (row - top) * slope
            cell = row * (columns + 1) + int(at + 1.0)
            place = ends_of_cells[cell]
            ends_of_cells[cell] += 1
            while place > starts[cell] and crossings[place - 1, 0] > at:
                crossings[place] = crossings[place - 1]
                place -= 1
            crossings[place] = at, value + (row - top) * rise
    linear = np.full((rows, columns), np.nan)
    for row in range(rows):
        left, end = starts[row * (columns + 1)], starts[(row + 1) * (columns + 1)]
        if left == end:
            continue
        first = max(np.ceil(crossings[left, 0] - _ROUNDING), 0.0)
        last = min(np.floor(crossings[end - 1, 0] + _ROUNDING), columns - 1.0)
        for column in range(int(first), int(last) + 1):
            while left + 1 < end and crossings[left + 1, 0] < column:
                left += 1
            at, value = crossings[left]
            if at < column and left + 1 < end:
                beyond, other = crossings[left + 1]
                value += (column - at) / (beyond - at) * (other - value)
            linear[row, column] = value
    return linear


@compiled()
def between_points(
    nearest: np.ndarray, places: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Interpolate in the triangles of points whose nearest cells meet at a corner of four cells.

    ``nearest`` (rows, columns) is the index of the point nearest to each cell, in ``places``
    (n, 2), row and column, and ``values`` (n,). The triangles are Delaunay's, but for those whose
    corner is outside of the grid or within a cell (Rong et al., I3D 2008). Returns (rows, columns)
    float32, and where it is known, (rows, columns) bool.
    """
    rows, columns = nearest.shape
    found, known = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.bool_)
    around = np.empty(4, np.int64)
    for i in range(rows - 1):
        for j in range(columns - 1):
            a, b, c, d = nearest[i, j], nearest[i, j + 1], nearest[i + 1, j + 1], nearest[i + 1, j]
            if (a == b and c == d) or (a == d and b == c):
                continue
            around[0], count = a, 1
            for point in (b, c, d):
                if point != a and point != around[count - 1]:
                    around[count] = point
                    count += 1
            if b == d:
                count = min(count, 3)
            elif count == 4 and _apart(places, b, d) < _apart(places, a, c):
                a, around[1], around[2], around[3] = b, c, d, a  # the shorter side divides them
            for k in range(2, count):
                _fill(found, known, places, values, (a, around[k - 1], around[k]))
    return found, known


@compiled()
def _apart(places: np.ndarray, a: int, b: int) -> float:
    return (places[a, 0] - places[b, 0]) ** 2 + (places[a, 1] - places[b, 1]) ** 2


@compiled()
def _fill(
    found: np.ndarray,
    known: np.ndarray,
    places: np.ndarray,
    values: np.ndarray,
    corners: tuple[int, int, int],
) -> None:
    """Interpolate in a triangle of points, at its cells that are not known yet."""
    (a, b, c), (rows, columns) = corners, found.shape
    y, x, value = places[a, 0], places[a, 1], values[a]
    down, right, rise = places[b, 0] - y, places[b, 1] - x, values[b] - value
    other_down, other_right, other_rise = places[c, 0] - y, places[c, 1] - x, values[c] - value
    area = down * other_right - other_down * right
    if abs(area) < _ROUNDING:
        return
    scale = 1.0 / area
    top, bottom = y + min(0.0, down, other_down), y + max(0.0, down, other_down)
    first, last = x + min(0.0, right, other_right), x + max(0.0, right, other_right)
    for i in range(max(int(np.ceil(top)), 0), min(int(bottom), rows - 1) + 1):
        for j in range(max(int(np.ceil(first)), 0), min(int(last), columns - 1) + 1):
            if known[i, j]:
                continue
            share = ((i - y) * other_right - other_down * (j - x)) * scale
            other = (down * (j - x) - (i - y) * right) * scale
            if min(share, other, 1.0 - share - other) >= _ON_EDGE:
                found[i, j] = value + share * rise + other * other_rise
                known[i, j] = True
