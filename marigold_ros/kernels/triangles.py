# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Interpolate in triangles on a grid, by scan conversion of their edges."""

from marigold_ros.kernels.compiled import compiled
import numpy as np

# Cells; places of points are exact to this.
_ROUNDING = 1e-9


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
