# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The local correction field of a metric map: kriging over place and fitted depth, and fine levels.

A Gaussian process over a few hundred representatives corrects regions up to their edges; levels of
normalised convolution (``local_field``) add the detail of dense scans. Where the typical error of
the map is above 30 %, its depth misleads the kernel and the levels do all of it.

In the process points count for each other if they are close in the image and at similar fitted
depth, and, weakly, at any distance if their depth is similar (an error of tone); predictions fade
to 0 elsewhere. The inverse covariance also predicts each point, or one fold, from the others.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import (
    fitted_depth,
    robust_deviation,
    tukey_weights,
)
from marigold_ros.geometry.alignment.local_field import (
    add_levels,
    checkerboard_fold,
    COARSE_LEVELS,
    consistent_points,
    field_trust,
    FINE_LEVELS,
    LONGEST_SIDE,
)
from marigold_ros.kernels.bilinear import sample_grid, sampled_between
from marigold_ros.kernels.cells import representatives
import numpy as np

# Typical error, in log depth, up to which the kernel uses the map, and from which it does not.
_KRIGING, _LEVELS = 0.22, 0.28
# Points in the process; its cost grows with the cube.
_MOST = 256
# Detail is added where this many points stand behind each representative.
_DENSE = 4
# With this many, tiles are so small that the finest detail reaches into them as well.
_DENSER = 16
# Reach of a point in the process, in units of the setting.
_REACH = 2.5
# Log ratio; smaller residuals of the process are never outliers.
_NOISE = 0.03
# Lengths: of the image's diagonal, and of log depth. Deviations: relative to the local part's.
# Chosen by experiment on distorted real depth images and on held-out lines of real scans.
_SIMILAR = 0.5
_TONE, _TONE_SIMILAR = 1.0, 0.7
_PROCESS_NOISE = 0.2
_LEAST_TRUST = 1e-3
# Grid on which the kernels are summed, and slices of log depth between which is interpolated.
_LONGEST = 64
_SLICE, _MOST_SLICES = 0.25, 20


@dataclass(frozen=True)
class CorrectionField:
    """
    A correction of metric depth beyond scale and shift, with its cross-validation.

    ``held_out`` is the log ratio of measured depth to that of a field fitted without the point's
    neighbourhood.
    """

    field: np.ndarray | None  # (h, w) float32, factor on a coarse grid; None: no consistent point
    held_out: np.ndarray  # (M,) float64
    used: np.ndarray  # (M,) bool, points that took part


def grid_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of the field of an image (H, W)."""
    shrink = min(1.0, LONGEST_SIDE / max(shape))
    return max(2, round(shape[0] * shrink)), max(2, round(shape[1] * shrink))


def fit_correction_field(
    prediction: Prediction,
    sparse: SparseDepth,
    log_ratio: np.ndarray,
    affine: tuple[float, float],
    config: AlignmentConfig,
    fold: np.ndarray | None = None,
) -> CorrectionField:
    """
    Fit the correction field of a prediction (H, W) to points, after scale and shift.

    ``log_ratio`` (M,) is ``log(measured / fitted)`` and may be NaN; ``affine`` are the scale and
    shift of the fit; ``fold`` (M,) bool splits the points for cross-validation.
    """
    shape = (prediction.relative.shape[0], prediction.relative.shape[1])
    u, v, residual = sparse.u, sparse.v, log_ratio.astype(np.float64)
    if fold is None:
        # Fusion proves what is beyond the points at their border.
        fold = checkerboard_fold(u, v, shape, among=config.method == 'fused')
    used = consistent_points(u, v, residual)
    if not used.any():
        return CorrectionField(None, residual, used)
    # Clipped pixels take part: only the field can correct them.
    log_depth, log_depth_grid = _fitted_log_depth(prediction, sparse, affine, config)
    points = _Points(u, v, residual, log_depth, used, fold)
    typical = robust_deviation(residual[used])
    share = float(np.clip((_LEVELS - typical) / (_LEVELS - _KRIGING), 0.0, 1.0))
    if share > 0:
        log_field, predicted, trust = _krige(points, log_depth_grid, shape, config)
        log_field, predicted = np.float32(share) * log_field, share * predicted
    else:
        # Levels alone grow from the coarsest grid.
        log_field, predicted = np.zeros((2, 2), dtype=np.float32), np.zeros((2, len(u)))
    correction = np.where(points.fold, predicted[0], predicted[1])
    if share < 1 or used.sum() > _DENSE * _MOST:
        levels = FINE_LEVELS if share == 1 else COARSE_LEVELS + FINE_LEVELS
        reaching = levels[:-1] if share == 1 and used.sum() <= _DENSER * _MOST else levels
        correction += _held_out_levels(points, predicted, shape, config, reaching)
        u, v, rest = u[used], v[used], residual[used]
        rest = rest - sample_grid(log_field, u, v, shape)
        log_field = add_levels(log_field, (u, v), rest, shape, config, levels)
    if share < 1:
        trust = field_trust(residual[used], correction[used])
    # A field that fails at held-out points is not applied elsewhere either.
    bound = float(np.log(config.field_limit))
    field = np.exp(np.float32(trust) * np.clip(log_field, -bound, bound))
    return CorrectionField(field, residual - trust * np.clip(correction, -bound, bound), used)


def _fitted_log_depth(
    prediction: Prediction,
    sparse: SparseDepth,
    affine: tuple[float, float],
    config: AlignmentConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Return log of fitted depth within its limits at points (M,) and on the grid (h, w)."""
    height, width = grid_shape(prediction.relative.shape)
    whole = np.asarray(prediction.relative, dtype=np.float32)
    small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)

    def log_depth(relative: np.ndarray) -> np.ndarray:
        metres = fitted_depth(relative, *affine, prediction.space, config)
        metres = np.nan_to_num(metres, nan=config.min_depth)
        return np.log(np.clip(metres, config.min_depth, config.max_depth))

    return log_depth(prediction.relative[sparse.v, sparse.u].astype(np.float64)), log_depth(small)


@dataclass(frozen=True)
class _Points:
    """Place, log ratio, log fitted depth, whether used, fold of the checkerboard; all (M,)."""

    u: np.ndarray
    v: np.ndarray
    residual: np.ndarray
    log_depth: np.ndarray
    used: np.ndarray
    fold: np.ndarray


def _held_out_levels(
    points: _Points,
    predicted: np.ndarray,
    shape: tuple[int, int],
    config: AlignmentConfig,
    levels: tuple[tuple[float, float], ...],
) -> np.ndarray:
    """Correction (M,) at each point by levels that know the other fold only, after kriging."""
    u, v, residual, used = points.u, points.v, points.residual, points.used
    held_out, start = np.zeros(len(u)), np.zeros((2, 2), dtype=np.float32)
    for scored, kriged in zip((points.fold, ~points.fold), predicted, strict=True):
        known = used & ~scored
        if known.any() and scored.any():
            rest = residual[known] - kriged[known]
            detail = add_levels(start, (u[known], v[known]), rest, shape, config, levels)
            held_out[scored] = sample_grid(detail, u[scored], v[scored], shape)
    return held_out


def _krige(
    points: _Points, log_depth_grid: np.ndarray, shape: tuple[int, int], config: AlignmentConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    """Log field on the grid; at the points without either fold, (2, M); trust in the field."""
    u, v, residual = points.u, points.v, points.residual
    some = np.flatnonzero(points.used)
    chosen = some[representatives(u[some], v[some], residual[some], _MOST)]
    diagonal = float(np.hypot(*shape))
    process = krige(
        (u[chosen] + 0.5) / diagonal,
        (v[chosen] + 0.5) / diagonal,
        points.log_depth[chosen],
        residual[chosen],
        _REACH * config.field_reach,
    )
    fold = points.fold[chosen]
    weights = (process.alpha, process.without(fold), process.without(~fold))
    whole, *parts = process.predict(weights, log_depth_grid, shape)
    # At a point the field is read off a grid: at the grid's depth, not at the point's own.
    log_depth = sample_grid(log_depth_grid, u, v, shape)
    predicted = np.stack([part.at(u, v, log_depth, shape) for part in parts])
    # Tiles are a hard test where points are few; trust in the whole leaves out single points.
    alone = np.where(process.trust > 0, residual[chosen] - process.each_left_out(), np.nan)
    return whole.on_grid(log_depth_grid), predicted, field_trust(residual[chosen], alone)


@dataclass(frozen=True)
class _Volume:
    """Predictions (rows, columns, count) over the image at log depths from low to high."""

    slices: np.ndarray
    low: float
    high: float

    def on_grid(self, log_depth: np.ndarray) -> np.ndarray:
        """Interpolate at a grid of log depth over the image, (h, w) float32."""
        slices = cv2.resize(self.slices, log_depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
        count = slices.shape[2]
        lower, share = self._between(log_depth)
        flat = lower.ravel() + np.arange(0, log_depth.size * count, count, dtype=np.int32)
        flat_slices = slices.ravel()
        first = flat_slices[flat]
        return (first + share.ravel() * (flat_slices[flat + 1] - first)).reshape(log_depth.shape)

    def at(
        self, u: np.ndarray, v: np.ndarray, log_depth: np.ndarray, shape: tuple[int, int]
    ) -> np.ndarray:
        """Interpolate at pixels of an image (H, W) with their log depth, (M,) float32."""
        rows, columns, _ = self.slices.shape
        x, y = (u + 0.5) / shape[1] * columns, (v + 0.5) / shape[0] * rows
        lower, share = self._between(log_depth)
        return sampled_between(self.slices, x, y, lower, share)

    def _between(self, log_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of the slice below each log depth, and the share of the one above."""
        count = self.slices.shape[2]
        at = (log_depth - np.float32(self.low)) * np.float32((count - 1) / (self.high - self.low))
        at = np.clip(at, 0, count - 1)
        lower = np.minimum(at.astype(np.int32), count - 2)
        return lower, at - lower


@dataclass(frozen=True)
class Process:
    """
    A Gaussian process with its data; arrays are float32.

    ``alpha`` is the inverse covariance times the values: predictions are kernels weighted by it.
    """

    x: np.ndarray
    y: np.ndarray  # places (n,) and reach of the local kernel are shares of the image's diagonal
    log_depth: np.ndarray  # (n,), of fitted depth
    reach: float
    alpha: np.ndarray  # (n,)
    inverse: np.ndarray  # (n, n), inverse covariance; its lower triangle
    trust: np.ndarray  # (n,), in each point, 0 (an outlier) to 1

    def without(self, group: np.ndarray) -> np.ndarray:
        """
        Return the weights (n,) of a process without a group of points (n,) bool; 0 in the group.

        With covariance A and group B: ``alpha - A^-1[:, B] (A^-1[B, B])^-1 alpha[B]``.
        """
        from scipy.linalg.blas import ssymv
        from scipy.linalg.lapack import spotrf, spotrs

        part = np.flatnonzero(group)
        if len(part) == 0:
            return self.alpha
        residual = np.zeros_like(self.alpha)
        factor, _ = spotrf(self.inverse[np.ix_(part, part)], lower=1, overwrite_a=1)
        residual[part] = spotrs(factor, self.alpha[part], lower=1)[0]
        weights = self.alpha - ssymv(1.0, self.inverse, residual, lower=1)
        weights[part] = 0.0
        return np.asarray(weights)

    def each_left_out(self) -> np.ndarray:
        """Return the leave-one-out residual of each point, (n,)."""
        return self.alpha / np.diag(self.inverse)

    def predict(
        self, weights: tuple[np.ndarray, ...], log_depth: np.ndarray, shape: tuple[int, int]
    ) -> tuple[_Volume, ...]:
        """
        Predict at slices of log depth all over an image of ``shape`` (H, W).

        Returns one volume for each of ``weights`` (n,): ``alpha``, or from :meth:`without`. The
        slices cover ``log_depth`` (h, w), that of the image.
        """
        low = float(self.log_depth.min()) - 2 * _SIMILAR
        high = float(self.log_depth.max()) + 2 * _SIMILAR
        low, high = max(low, float(log_depth.min())), min(high, float(log_depth.max()))
        count = int(np.clip(np.ceil((high - low) / _SLICE), 1, _MOST_SLICES)) + 1
        levels = np.linspace(low, max(high, low + 1e-3), count, dtype=np.float32)
        (height, width), diagonal = shape, float(np.hypot(*shape))
        shrink = min(1.0, _LONGEST / max(log_depth.shape))
        rows, columns = (max(2, round(side * shrink)) for side in log_depth.shape)
        x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(width / columns / diagonal)
        y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(height / rows / diagonal)
        across = _matern(x[:, None] - self.x, self.reach)
        down = _matern(y[:, None] - self.y, self.reach)
        similar, tone = _by_depth(levels, self.log_depth)
        both = (across[:, None, :] * similar).reshape(-1, len(self.x)).T
        return tuple(
            _Volume(
                ((down * weight) @ both).reshape(rows, columns, count) + tone @ weight,
                float(levels[0]),
                float(levels[-1]),
            )
            for weight in weights
        )


def krige(
    x: np.ndarray,
    y: np.ndarray,
    log_depth: np.ndarray,
    values: np.ndarray,
    reach: float,
) -> Process:
    """
    Fit a Gaussian process twice: with all points, and with outliers down-weighted.

    Parameters as of :class:`Process`; ``values`` (n,) are predicted.
    """
    x, y, log_depth, values = (np.asarray(a, dtype=np.float32) for a in (x, y, log_depth, values))
    similar, tone = _by_depth(log_depth, log_depth)
    kernel = _matern(x[:, None] - x, reach) * _matern(y[:, None] - y, reach)
    kernel *= similar
    kernel += tone
    trust = np.ones(len(x), dtype=np.float32)
    alpha, inverse = _solve(kernel, values, trust)
    # Leave-one-out: residual over deviation, by Sundararajan and Keerthi (2001).
    residual = alpha / np.sqrt(np.diag(inverse))
    trust = tukey_weights(residual, _NOISE / _PROCESS_NOISE)
    alpha, inverse = _solve(kernel, values, trust)
    return Process(x, y, log_depth, reach, alpha, inverse, trust)


def _by_depth(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the two kernel parts by log depths (n,) and (m,): both (n, m)."""
    apart = np.square(one[:, None] - other)
    similar = np.exp(apart * np.float32(-0.5 / _SIMILAR**2))
    return similar, np.float32(_TONE**2) * np.exp(apart * np.float32(-0.5 / _TONE_SIMILAR**2))


def _matern(apart: np.ndarray, reach: float) -> np.ndarray:
    """Matérn kernel of order 3/2 in one dimension: products of it stay separable on a grid."""
    scaled = np.abs(apart) * np.float32(3.0**0.5 / reach)
    return (1 + scaled) * np.exp(-scaled)


def _solve(
    kernel: np.ndarray, values: np.ndarray, trust: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the product of inverse covariance and values, and the inverse."""
    from scipy.linalg.lapack import spotrf, spotri, spotrs

    covariance = kernel.copy()
    noise = np.float32(_PROCESS_NOISE**2) / np.maximum(trust, np.float32(_LEAST_TRUST))
    covariance.ravel()[:: len(values) + 1] += noise
    # Symmetric, so the transpose, which LAPACK can overwrite, is the same matrix.
    factor, _ = spotrf(covariance.T, lower=1, overwrite_a=1)
    alpha, _ = spotrs(factor, values, lower=1)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    return alpha, inverse
