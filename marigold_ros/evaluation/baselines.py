# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth without a network, from the fit points alone: the errors that a prediction must beat.

A constant, the best plane and the best quadric over the image, the nearest point, interpolation
between the points in depth (``linear``) and in disparity (``disparity``), morphological filling,
and the mean map of the frames so far. Each surface is fitted in depth, in log depth and in
disparity for the smallest mean relative error (the headline metric), and the best of the three at
the fit points is taken. No baseline sees the points it is scored at. ``global`` is the prediction
itself with one robust scale and shift, whatever the method of the alignment: where the points
lead, it shows what the model is worth.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.align import align_map
from marigold_ros.spaces import from_metres
import numpy as np

BASELINES = ('constant', 'plane', 'quadric', 'nearest', 'linear', 'disparity', 'morphological')
# The last two need more than one frame's fit points: earlier frames, the prediction.
BASELINE_TEXT = {
    'constant': 'best constant depth',
    'plane': 'best plane over the image',
    'quadric': 'best quadric over the image',
    'nearest': 'nearest LiDAR point',
    'linear': 'LiDAR interpolated in depth',
    'disparity': 'LiDAR interpolated in disparity',
    'morphological': 'LiDAR dilated and smoothed (IP-Basic)',
    'mean_map': 'mean depth of earlier frames by place in the image, good where the camera stands',
    'global': 'this model with one scale and shift',
}
_TERMS = {0: 1, 1: 3, 2: 6}
FEWEST_POINTS = _TERMS[2]
_ROUNDS = 15
_CELL_PX = 16
# Kernels of IP-Basic (Ku et al.): around each point, for small and for large holes.
_DIAMOND = np.array(
    [[abs(x) + abs(y) <= 2 for x in range(-2, 3)] for y in range(-2, 3)], dtype=np.uint8
)
_SMALL_HOLE_PX, _LARGE_HOLE_PX = 7, 31


def surface_depth(
    sparse: SparseDepth,
    u: np.ndarray,
    v: np.ndarray,
    size: tuple[int, int],
    degree: int,
    limits: tuple[float, float] = (0.1, 100.0),
) -> np.ndarray:
    """
    Fit a constant (degree 0), plane (1) or quadric (2) with the smallest mean relative error.

    Returns its depth at columns and rows of any equal shape, float64 metres; ``size`` is (width,
    height) of the image, ``limits`` the range of the result in metres.

    Raises
    ------
    InputError
        If there are fewer points than terms.

    """
    terms = _TERMS[degree]
    if len(sparse) < terms:
        raise InputError(
            f'{len(sparse)} fit points; a surface of degree {degree} needs {terms}', cause='empty'
        )
    z = np.asarray(sparse.z, dtype=np.float64)
    basis = polynomial_terms(sparse.u, sparse.v, size, degree)
    spaces = ('depth', 'log', 'disparity')
    fits = [(*minimise_relative_error(basis, z, space, limits), space) for space in spaces]
    _, coefficients, space = min(fits, key=lambda fit: fit[0])
    wanted = polynomial_terms(np.ravel(u), np.ravel(v), size, degree)
    return to_limited_metres(wanted @ coefficients, space, limits).reshape(np.shape(u))


def minimise_relative_error(
    basis: np.ndarray, z: np.ndarray, space: str, limits: tuple[float, float]
) -> tuple[float, np.ndarray]:
    """
    Minimise mean |p - z| / z by Gauss-Newton with re-weighting; return error and coefficients.

    Weights of 1/|error| turn squares into absolute values. The best round counts, because rounds
    do not improve monotonically.
    """
    target = from_metres(z, space)
    weight = {'depth': 1.0 / z, 'log': np.ones_like(z), 'disparity': z}[space]
    best_error, best = np.inf, np.zeros(basis.shape[1])
    for _ in range(_ROUNDS):
        # Six centred terms are well conditioned: normal equations serve, 20 times faster.
        weighted = basis * weight[:, None]
        normal, right = weighted.T @ weighted, weighted.T @ (target * weight)
        coefficients = np.linalg.lstsq(normal, right, rcond=None)[0]
        value = basis @ coefficients
        p = to_limited_metres(value, space, limits)
        residual = p / z - 1.0
        error = float(np.mean(np.abs(residual)))
        if error < best_error:
            best_error, best = error, coefficients
        slope = {'depth': np.ones_like(p), 'log': p, 'disparity': -(p**2)}[space] / z
        target = value - residual / slope
        weight = np.abs(slope) / np.sqrt(np.maximum(np.abs(residual), 1e-4))
    return best_error, best


def polynomial_terms(
    u: np.ndarray, v: np.ndarray, size: tuple[int, int], degree: int
) -> np.ndarray:
    """Return the terms (M, 1, 3 or 6) of a surface of degree 0, 1 or 2 at pixels (M,)."""
    x = (np.asarray(u, dtype=np.float64) - 0.5 * (size[0] - 1)) / (0.5 * size[0])
    y = (np.asarray(v, dtype=np.float64) - 0.5 * (size[1] - 1)) / (0.5 * size[1])
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y][: _TERMS[degree]], axis=1)


def to_limited_metres(value: np.ndarray, space: str, limits: tuple[float, float]) -> np.ndarray:
    """Convert values of a space to metres within the limits; the shape stays."""
    low, high = limits
    if space == 'log':
        return np.exp(np.clip(value, np.log(low), np.log(high)))
    if space == 'disparity':
        return 1.0 / np.clip(value, 1.0 / high, 1.0 / low)
    return np.clip(value, low, high)


def interpolate_nearest(sparse: SparseDepth, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the depth of the nearest fit point in the image; metres, shape of ``u``."""
    from scipy.spatial import cKDTree

    tree = cKDTree(np.column_stack([sparse.u, sparse.v]).astype(np.float64))
    _, index = tree.query(np.column_stack([np.ravel(u), np.ravel(v)]).astype(np.float64))
    return np.asarray(sparse.z, dtype=np.float64)[index].reshape(np.shape(u))


def interpolate_linear(
    sparse: SparseDepth, u: np.ndarray, v: np.ndarray, nearest: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Interpolate barycentrically in the Delaunay triangles of the fit points: depth, and disparity.

    Disparity of a flat surface is linear in the image, so that walls and roads come out exactly.
    Outside the hull, and where the points span no triangle, the nearest point counts (``nearest``,
    if it is known). Both results are metres, float64, shape of ``u``.
    """
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    nearest = interpolate_nearest(sparse, u, v) if nearest is None else nearest
    points = np.column_stack([sparse.u, sparse.v]).astype(np.float64)
    z = np.asarray(sparse.z, np.float64)
    try:
        plane = LinearNDInterpolator(points, np.column_stack([z, 1.0 / z]))
    except QhullError:
        return nearest, nearest
    depth, disparity = np.moveaxis(plane(np.asarray(u, float), np.asarray(v, float)), -1, 0)
    inside = np.isfinite(depth)
    return np.where(inside, depth, nearest), np.where(inside, 1.0 / disparity, nearest)


def fill_morphologically(
    sparse: SparseDepth, u: np.ndarray, v: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """
    Fill the image between the fit points by dilation, near before far; metres, shape of ``u``.

    After IP-Basic (Ku et al., CRV 2018): dilation by a diamond, closing, small holes, every column
    upwards from its first value, large holes until none is left, median and Gaussian blur. It
    works on disparity, where the nearest depth is the maximum and 0 is a hole. ``size`` is
    (width, height). Raises InputError without a fit point.
    """
    if len(sparse) == 0:
        raise InputError('no fit point; morphological filling needs one', cause='empty')
    image = np.zeros(size[::-1], np.float32)
    image[sparse.v, sparse.u] = 1.0 / sparse.z
    image = cv2.morphologyEx(
        cv2.dilate(image, _DIAMOND), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)
    )
    image = _fill_holes(image, _SMALL_HOLE_PX)
    top = np.argmax(image > 0, axis=0)
    above = np.arange(size[1])[:, None] < top
    image = np.where(above, image[top, np.arange(size[0])], image)
    while not image.all():
        image = _fill_holes(image, _LARGE_HOLE_PX)
    image = cv2.GaussianBlur(cv2.medianBlur(image, 5), (5, 5), 0)
    return 1.0 / image[v, u].astype(np.float64)


def _fill_holes(image: np.ndarray, side: int) -> np.ndarray:
    """Give holes (zeros) the largest value of the square of this side around them."""
    largest = cv2.dilate(image, np.ones((side, side), np.uint8))
    return cv2.copyTo(image, (image > 0).view(np.uint8), largest)


def baseline_depths(
    sparse: SparseDepth,
    u: np.ndarray,
    v: np.ndarray,
    size: tuple[int, int],
    limits: tuple[float, float] = (0.1, 100.0),
) -> dict[str, np.ndarray]:
    """
    Return the depth of every baseline of one frame at pixels of any shape, float64 metres.

    From at least six points; finite everywhere, by the names in ``BASELINES``. ``size`` is
    (width, height) of the image, ``limits`` the range of the fitted surfaces in metres.

    Raises
    ------
    InputError
        If there are fewer than six fit points.

    """
    surfaces = (surface_depth(sparse, u, v, size, degree, limits) for degree in _TERMS)
    nearest = interpolate_nearest(sparse, u, v)
    filled = fill_morphologically(sparse, u, v, size)
    depths = (*surfaces, nearest, *interpolate_linear(sparse, u, v, nearest), filled)
    return dict(zip(BASELINES, depths, strict=True))


def global_depth(
    prediction: Prediction, fit: SparseDepth, at: SparseDepth, config: AlignmentConfig
) -> np.ndarray:
    """Return depth (M,) by method ``global`` from fit points; NaN where there is none."""
    alignment = align_map(prediction, fit, replace(config, method='global'))
    if alignment.metric is None:
        return np.full(len(at), np.nan)
    return alignment.metric[at.v, at.u]


class MeanMap:
    """
    Mean depth so far in cells of 16 pixels, over frames of one size.

    Made of earlier frames and of the fit points of the present one, never of the points that are
    scored there. On a monotonous recording it is good, and then a good score means little.
    """

    def __init__(self) -> None:
        self._sums = np.zeros((2, 0, 0))

    def depth(
        self, fit: SparseDepth, u: np.ndarray, v: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        """
        Return the mean depth at pixels (M,) of earlier frames and these fit points; (M,) metres.

        A cell without a point takes the nearest one's mean; ``size`` is (width, height).
        """
        return self._at(self._with(fit, size), u, v)

    def earlier(self, u: np.ndarray, v: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Return the mean depth of earlier frames at pixels (M,), metres; None without any."""
        columns, rows = (-(-side // _CELL_PX) for side in size)
        return self._at(self._sums, u, v) if self._sums.shape[1:] == (rows, columns) else None

    @staticmethod
    def _at(sums: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        from scipy.ndimage import distance_transform_edt

        total, count = sums
        empty = count == 0
        mean = np.divide(total, count, out=np.zeros_like(total), where=~empty)
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        return np.asarray(mean[tuple(nearest)][v // _CELL_PX, u // _CELL_PX])

    def add(self, sparse: SparseDepth, size: tuple[int, int]) -> None:
        """Add a frame's points, those that were scored too, for the frames to come."""
        self._sums = self._with(sparse, size)

    def merge(self, other: MeanMap) -> None:
        """Leave out another bag's map: each bag begins anew."""

    def _with(self, sparse: SparseDepth, size: tuple[int, int]) -> np.ndarray:
        """Return sums and counts, (2, rows, columns), with some points added."""
        columns, rows = (-(-side // _CELL_PX) for side in size)
        cell = (sparse.v // _CELL_PX) * columns + sparse.u // _CELL_PX
        sums = np.stack([np.bincount(cell, w, rows * columns) for w in (sparse.z, None)])
        sums = sums.reshape(2, rows, columns)
        return sums + self._sums if sums.shape == self._sums.shape else sums
