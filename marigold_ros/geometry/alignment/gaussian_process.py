# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A Gaussian process over place and depth, in closed form, with leave-out predictions.

Points count for each other if they are close in the image and at similar fitted depth, and,
weakly, at any distance if their depth is similar (an error of tone); predictions fade to 0
elsewhere. The inverse covariance also predicts each point, or one fold, from the others.
"""

from dataclasses import dataclass

import cv2
from marigold_ros.geometry.alignment.local_field import bilinear
import numpy as np

# Lengths: of the image's diagonal, and of log depth. Deviations: relative to the local part's.
# Chosen by experiment on distorted real depth images and on held-out lines of real scans.
_SIMILAR = 0.5
_TONE, _TONE_SIMILAR = 1.0, 0.7
_NOISE = 0.2
# Tukey's biweight of the standardised leave-one-out residual.
_CUT = 4.685
_LEAST_TRUST = 1e-3
# Grid on which the kernels are summed, and slices of log depth between which is interpolated.
_LONGEST = 64
_SLICE, _MOST_SLICES = 0.25, 20


@dataclass(frozen=True)
class Volume:
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
        rows, columns, count = self.slices.shape
        x, y = (u + 0.5) / shape[1] * columns, (v + 0.5) / shape[0] * rows
        corners, weights = bilinear(x, y, rows, columns)
        lower, share = self._between(log_depth)
        flat, first = self.slices.ravel(), corners * count + lower
        below, above = ((flat[index] * weights).sum(axis=0) for index in (first, first + 1))
        return below + share * (above - below)

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
    ) -> tuple[Volume, ...]:
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
            Volume(
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
    floor: float,
) -> Process:
    """
    Fit a Gaussian process twice: with all points, and with outliers down-weighted.

    Parameters as of :class:`Process`; ``values`` (n,) are predicted, and residuals below ``floor``
    are never outliers.
    """
    x, y, log_depth, values = (np.asarray(a, dtype=np.float32) for a in (x, y, log_depth, values))
    similar, tone = _by_depth(log_depth, log_depth)
    kernel = _matern(x[:, None] - x, reach) * _matern(y[:, None] - y, reach)
    kernel *= similar
    kernel += tone
    trust = np.ones(len(x), dtype=np.float32)
    alpha, inverse = _solve(kernel, values, trust)
    diagonal = np.diag(inverse)
    # Leave-one-out: residual over deviation, by Sundararajan and Keerthi (2001).
    residual = alpha / np.sqrt(diagonal)
    scale = max(1.4826 * float(np.median(np.abs(residual))), floor / _NOISE)
    trust = np.square(np.clip(1 - np.square(residual / (_CUT * scale)), 0, None))
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
    noise = np.float32(_NOISE**2) / np.maximum(trust, np.float32(_LEAST_TRUST))
    covariance.ravel()[:: len(values) + 1] += noise
    # Symmetric, so the transpose, which LAPACK can overwrite, is the same matrix.
    factor, _ = spotrf(covariance.T, lower=1, overwrite_a=1)
    alpha, _ = spotrs(factor, values, lower=1)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    return alpha, inverse
