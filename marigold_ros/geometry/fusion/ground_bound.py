# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The ground that the points show, below the lowest of them: nothing lies under it.

There a camera sees the ground in front of a robot, or what stands on it, and a LiDAR has no lines.
The nearest points are farther away, so depth that continues them is too far; the plane, whose
inverse depth is linear in the image, bounds it.
"""

import cv2
from marigold_ros.geometry.around_points import some_of
from marigold_ros.geometry.fusion.work_grid import WorkGrid
import numpy as np

# The plane is looked for in the lower part of the points, at so many of them, by so many triples
# of at least some area, in squares of the image's width.
_LOWER, _SAMPLES, _TRIPLES, _AREA = 0.5, 300, 150, 1e-4
# Part of depth within which points are on a plane; of the ground so many and such a part are on
# it, and hardly any are twice as far below it.
_ON, _LEAST, _SHARE, _BELOW = 0.03, 30, 0.1, 0.02
_FITS = 4
# Heights of the image above the lowest point within which its horizon is; a wall has none.
_HORIZON = 2.0
# In columns of a part of the width, rows of points have this part of their variance at least; a
# planar laser's have one row in each, and lie on its own plane, at whatever height it is.
_COLUMN, _APART = 0.01, 0.25
# Points above cells are within this part of the width to both sides.
_BESIDE = 0.03


def below_points(u: np.ndarray, v: np.ndarray, grid: WorkGrid) -> np.ndarray:
    """Return which cells (rows, columns) are below all points (M,) around their column."""
    row, column = grid.cell_of(u, v)
    lowest = np.full(grid.columns, -1.0, np.float32)
    np.maximum.at(lowest, column, row.astype(np.float32))
    beside = np.ones((1, 2 * round(_BESIDE * grid.columns) + 1), np.uint8)
    return np.asarray(np.arange(grid.rows)[:, None] > cv2.dilate(lowest[None], beside))


def ground_bound(
    u: np.ndarray, v: np.ndarray, disparity: np.ndarray, below: np.ndarray, grid: WorkGrid
) -> np.ndarray | None:
    """
    Return the log of the most depth in each cell ``below`` the points, infinite elsewhere.

    Pixels and disparity (M,) of the points, the answer (rows, columns) float32. None if they show
    no ground: a plane with a horizon, many points on it and hardly any below.
    """
    height, width = grid.shape
    some = np.flatnonzero(v >= np.quantile(v, 1.0 - _LOWER))
    some = some[some_of(u[some], v[some], _SAMPLES)]
    places = np.stack([u[some] / width, v[some] / width, np.ones(len(some))], axis=1)
    above = np.array([0.5, (v.max() - _HORIZON * height) / width, 1.0])
    plane = _ground(places, disparity[some], above)
    if plane is None or _are_on_a_line(u, v, width):
        return None
    across, down = (
        ((np.arange(cells) + 0.5) * (side / cells) - 0.5) / width
        for side, cells in ((width, grid.columns), (height, grid.rows))
    )
    ground = plane[0] * across + plane[2] + plane[1] * down[:, None]
    bound = np.full(below.shape, -np.inf, np.float32)
    return -np.log(ground, out=bound, where=below & (ground > 0.0))


def _are_on_a_line(u: np.ndarray, v: np.ndarray, width: int) -> bool:
    """Return whether pixels (M,) have one row in each column, as those of a planar laser."""
    some = some_of(u, v, _SAMPLES)
    rows, column = v[some].astype(np.float64), (u[some] / (_COLUMN * width)).astype(np.intp)
    count = np.bincount(column)
    middle = np.bincount(column, rows) / np.maximum(count, 1)
    apart = (rows - middle[column])[count[column] > 1]
    return bool(apart @ apart <= _APART * len(apart) * np.var(rows))


def _ground(places: np.ndarray, disparity: np.ndarray, above: np.ndarray) -> np.ndarray | None:
    """
    Return the coefficients (3,) of the ground's disparity at ``places`` (n, 3), or None.

    Of planes through three points whose horizon is below the place ``above`` (3,) the one that
    fits the points best, refined by least squares while that fits them better.
    """
    some = np.random.default_rng(0).integers(0, len(places), (_TRIPLES, 3))
    some = some[np.abs(np.linalg.det(places[some])) > _AREA]
    planes = np.linalg.solve(places[some], disparity[some][..., None])[..., 0]
    planes = planes[planes @ above < 0.0]
    # Depth of the points over that of a plane: more than 1 is below it.
    relative = places / disparity[:, None]
    score = _score(planes, relative)
    if not score.any():
        return None
    plane = planes[np.argmax(score)]
    for _ in range(_FITS):
        weight = _weight(relative @ plane)
        fitted = np.linalg.lstsq(relative * weight[:, None], weight, rcond=None)[0]
        planes = np.stack([plane, fitted])
        plane = planes[np.argmax(_score(planes, relative))]
    found = np.count_nonzero(_weight(relative @ plane)) >= max(_LEAST, _SHARE * len(places))
    return plane if found and plane @ above < 0.0 else None


def _weight(ratio: np.ndarray) -> np.ndarray:
    """Return the root of Tukey's biweight of points, by their depth over that of a plane."""
    return np.clip(1.0 - np.square((ratio - 1.0) / _ON), 0.0, None)


def _score(planes: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Sum the weights on ``planes`` (n, 3), 0 with many points below (MSAC, Torr, Zisserman)."""
    ratio = planes @ relative.T
    few_below = (ratio > 1.0 + 2.0 * _ON).mean(axis=1) <= _BELOW
    return np.asarray(few_below * _weight(ratio).sum(axis=1))
