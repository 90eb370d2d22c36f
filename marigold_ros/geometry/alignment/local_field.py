# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A smooth correction field from residuals at points, by normalised convolution, coarse to fine.

Each level smooths the residual of the coarser ones, so gaps between scan lines are filled from
afar while dense places keep detail. A prior of no correction in each level fades the field to 1
away from points.
"""

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.geometry.alignment.affine_fit import tukey_weights
from marigold_ros.geometry.around_points import hull_of
from marigold_ros.geometry.median import median
from marigold_ros.kernels.bilinear import sampled, scattered
from marigold_ros.kernels.neighbours import nearest_neighbours
import numpy as np

# A lone point beyond a factor of 1.65 contradicts the fit.
REJECT_LOG = 0.5
# A point is consistent if it agrees with the fit, or with the median of its nearest neighbours.
_AGREES_WITH_FIT = 0.2
_AGREES_NEARBY = 0.3
_NEIGHBOURS = 8
# Kernel widths in units of the reach, and the weight of each level's prior in points; chosen on
# distorted real depth images and held-out lines of real scans. The two finest levels matter on
# dense scans only.
COARSE_LEVELS = ((4.0, 0.1), (2.0, 0.1), (1.0, 0.2), (0.5, 0.3), (0.25, 0.5))
FINE_LEVELS = ((0.125, 1.0), (0.0625, 1.0))
# Log ratio; smaller residuals are never outliers, or regions that the model has wrong would be.
_TRUST_FLOOR = 0.3
_CELLS_PER_SIGMA = 2.0
LONGEST_SIDE = 192
# Of the grid on which gaps among many points are measured.
_FINE_SIDE = 320
# Side of a tile in median gaps. Of a square, half lies within 0.146 of its side from the border:
# in such a tile points are as far from known ones as in holes of dense points. Where nearly all
# pixels are without a point, the distance from point to point comes on top.
_OF_HOLES, _OF_POINTS = 6.8, 2.5


def add_levels(
    log_field: np.ndarray,
    pixels: tuple[np.ndarray, np.ndarray],
    residual: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
    levels: tuple[tuple[float, float], ...],
) -> np.ndarray:
    """
    Add smoothed residuals to a log field, level by level, on the finer of both grids.

    The field (h, w) float32 may be of any size; zeros of (2, 2) start from nothing. ``residual``
    (M,) is the log ratio that it leaves at ``pixels`` u, v of an image (H, W), finite; levels
    are ``COARSE_LEVELS``, ``FINE_LEVELS`` or both.
    """
    (height, width), (u, v) = shape, pixels
    x, y = (u + 0.5) / width, (v + 0.5) / height
    reach = config.field_reach * float(np.hypot(height, width))
    total, residual = log_field, residual.astype(np.float64)
    for share, prior in levels:
        rows, columns = _grid(height, width, share * reach)
        # Outliers of this level: coarser ones have explained the shared part.
        trust = tukey_weights(residual, _TRUST_FLOOR)
        level = _smooth(scattered(x * columns, y * rows, residual, trust, rows, columns), prior)
        residual = residual - sampled(level, x * columns, y * rows)
        if total.shape[1] > columns:
            level = cv2.resize(level, total.shape[::-1], interpolation=cv2.INTER_LINEAR)
        else:
            total = cv2.resize(total, (columns, rows), interpolation=cv2.INTER_LINEAR)
        total = total + level
    return total


def upsample_field(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate a field at every pixel, (H, W) float32; exactly 1 where its grid is."""
    enlarged = cv2.resize(field - 1.0, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.add(enlarged, np.float32(1.0), out=enlarged)


def consistent_points(u: np.ndarray, v: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    """
    Select inlier residuals (M,) for the correction field; ``log(measured / fitted)`` each.

    Inliers agree with the fit or with their neighbourhood: a model may be off by a factor of two
    over whole regions, where all points of the scan lines agree with each other.
    """
    finite = np.isfinite(log_ratio)
    if finite.sum() <= _NEIGHBOURS:
        return finite & (np.abs(np.where(finite, log_ratio, 0.0)) < REJECT_LOG)
    size = np.abs(np.where(finite, log_ratio, np.inf))
    kept, doubtful = size < _AGREES_WITH_FIT, finite & (size >= _AGREES_WITH_FIT)
    if not doubtful.any():
        return kept
    known, places = (u[finite], v[finite]), (u[doubtful], v[doubtful])
    # The nearest is the point itself.
    near = nearest_neighbours(known, places, _NEIGHBOURS + 1)
    nearby = np.median(log_ratio[finite][near[:, 1:]], axis=1)
    kept[doubtful] = np.abs(log_ratio[doubtful] - nearby) < _AGREES_NEARBY
    return kept


def checkerboard_fold(
    u: np.ndarray,
    v: np.ndarray,
    shape: tuple[int, int],
    among: bool = False,
    spacing: tuple[float, float] | None = None,
) -> np.ndarray:
    """
    Split points into two folds of a checkerboard of tiles for cross-validation, (M,) bool.

    Tiles are so large that held-out points are about as far from known ones as the pixels of the
    image are: at its own points a field looks several times better than elsewhere. ``among``
    counts the pixels without a point among the points, and leaves out those beyond them.
    ``spacing`` is the `median_gap`, if it is known.
    """
    gap, empty = spacing or median_gap(u, v, shape, among)
    tile = (_OF_HOLES - (_OF_HOLES - _OF_POINTS) * empty if among else 4.0) * gap
    column, row = (np.arange(side) // tile % 2 for side in shape[::-1])
    return column[u] != row[v]


def field_trust(log_ratio: np.ndarray, correction: np.ndarray) -> float:
    """
    Return the share of a correction that held-out points confirm, from 0 to 1.

    Cross-validated fields know half of the points only, hence half of it is enough for the whole.
    """
    usable = np.isfinite(log_ratio) & np.isfinite(correction)
    predicted, wanted = correction[usable], log_ratio[usable]
    power = float(predicted @ predicted)
    return float(np.clip(2.0 * (predicted @ wanted) / power, 0.0, 1.0)) if power > 0 else 1.0


def median_gap(
    u: np.ndarray, v: np.ndarray, shape: tuple[int, int], among: bool
) -> tuple[float, float]:
    """
    Median distance of the image's pixels from the nearest point, in pixels; share without a point.

    ``among`` leaves out pixels with a point, and those beyond the points' convex hull.
    """
    cell = max(1.0, max(shape) / (_FINE_SIDE if among else LONGEST_SIDE))
    empty = np.ones((int(shape[0] / cell) + 1, int(shape[1] / cell) + 1), dtype=np.uint8)
    # By tables: dividing every point takes many times as long.
    column, row = ((np.arange(side) / cell).astype(np.intp) for side in shape[::-1])
    empty[row[v], column[u]] = 0
    distance = cv2.distanceTransform(empty, cv2.DIST_L2, 3)
    if among:
        inside = hull_of(1 - empty)
        without = inside & (empty > 0)
        distance, empty = distance[without], empty[inside]
    return cell * (max(0.5, median(distance)) if distance.size else 0.5), empty.mean()


def _grid(height: int, width: int, sigma: float) -> tuple[int, int]:
    """Rows and columns whose cells are half a kernel width wide."""
    cell = max(sigma / _CELLS_PER_SIGMA, max(height, width) / LONGEST_SIDE)
    return max(2, int(np.ceil(height / cell))), max(2, int(np.ceil(width / cell)))


def _smooth(sums: np.ndarray, prior: float) -> np.ndarray:
    """Normalised convolution of scattered values, drawn to 0 by a prior: (rows, columns)."""
    images = cv2.GaussianBlur(sums, (0, 0), _CELLS_PER_SIGMA, borderType=cv2.BORDER_CONSTANT)
    # A point's kernel has height 1 then, so that the prior counts in points.
    images = images * np.float32(2.0 * np.pi * _CELLS_PER_SIGMA**2)
    return images[..., 0] / (images[..., 1] + np.float32(prior))
