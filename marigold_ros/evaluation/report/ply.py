# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Coloured point clouds as PLY files, which every viewer opens (numpy only)."""

from __future__ import annotations

from pathlib import Path

from marigold_ros.errors import InputError
import numpy as np

_VERTEX = np.dtype(
    [(axis, '<f4') for axis in 'xyz'] + [(colour, 'u1') for colour in ('red', 'green', 'blue')]
)


def write_ply(path: str | Path, points: np.ndarray, rgb: np.ndarray) -> int:
    """
    Write points with colours, binary and little endian.

    Parameters
    ----------
    path : path
        File to write; it is replaced.
    points : (..., 3) float, metres
        Those that are not finite are left out.
    rgb : (..., 3) uint8
        Their colours, of the same shape.

    Returns
    -------
    int
        Number of points written.

    Raises
    ------
    InputError
        If the shapes differ or are not (..., 3).

    """
    points, rgb = np.asarray(points), np.asarray(rgb)
    if points.shape != rgb.shape or points.ndim < 2 or points.shape[-1] != 3:
        raise InputError(
            f'points are {points.shape}, colours {rgb.shape}; give (..., 3) of both', 'shape'
        )
    points, rgb = points.reshape(-1, 3), rgb.reshape(-1, 3)
    valid = np.isfinite(points).all(axis=1)
    vertices = np.empty(int(valid.sum()), _VERTEX)
    for index, (axis, colour) in enumerate(
        zip(_VERTEX.names[:3], _VERTEX.names[3:], strict=True)  # type: ignore[index]
    ):
        vertices[axis], vertices[colour] = points[valid, index], rgb[valid, index]
    header = ['ply', 'format binary_little_endian 1.0', f'element vertex {len(vertices)}']
    header += [f'property float {axis}' for axis in 'xyz']
    header += [f'property uchar {colour}' for colour in ('red', 'green', 'blue')]
    header += ['end_header', '']
    Path(path).write_bytes('\n'.join(header).encode('ascii') + vertices.tobytes())
    return len(vertices)
