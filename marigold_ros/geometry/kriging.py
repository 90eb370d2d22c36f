# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A Gaussian process over place and depth: what a few hundred residuals say about every pixel.

Its kernel has two parts: points count for each other if they are close in the picture and at
similar fitted depth (an edge in the prediction cuts a region off from its neighbour), and, weakly,
wherever they are if their depth is similar (an error of tone). The answer fades to 0 where neither
holds. Cholesky gives it in closed form, with what each point's residual would be had it not been
used, which finds outliers, and chequerboard hold-out without a second fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Lengths: of the picture's diagonal, and of log depth. Deviations: relative to the local part's.
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
class Process:
    """
    A Gaussian process with its data.

    Parameters
    ----------
    x, y, guide : (n,) float32
        Place, of the picture's diagonal, and log of fitted depth.
    reach : float
        Of the local kernel, of the picture's diagonal.
    alpha : (n,) float32
        Inverse covariance times values: predictions are kernels weighted by it.
    inverse : (n, n) float32
        Inverse covariance; its lower triangle.
    trust : (n,) float32
        In each point, 0 (an outlier) to 1.

    """

    x: np.ndarray
    y: np.ndarray
    guide: np.ndarray
    reach: float
    alpha: np.ndarray
    inverse: np.ndarray
    trust: np.ndarray

    def left_out(self, group: np.ndarray) -> np.ndarray:
        """Residuals (value - prediction) of points (n,) bool had the group not been used."""
        from scipy.linalg.lapack import spotrf, spotrs

        part = np.flatnonzero(group)
        factor, _ = spotrf(self.inverse[np.ix_(part, part)], lower=1)
        return spotrs(factor, self.alpha[part], lower=1)[0]

    def each_left_out(self) -> np.ndarray:
        """Residual of each point (n,) had it alone not been used."""
        return self.alpha / np.diag(self.inverse)

    def on_grid(self, guide: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """
        Predict at every cell of a grid over the picture.

        Parameters
        ----------
        guide : (h, w) float32
            Log of fitted depth.
        shape : (H, W)
            Size of the picture.

        Returns
        -------
        (h, w) float32

        """
        low = float(self.guide.min()) - 2 * _SIMILAR
        high = float(self.guide.max()) + 2 * _SIMILAR
        low, high = max(low, float(guide.min())), min(high, float(guide.max()))
        count = int(np.clip(np.ceil((high - low) / _SLICE), 1, _MOST_SLICES)) + 1
        levels = np.linspace(low, max(high, low + 1e-3), count, dtype=np.float32)
        slices = self._slices(levels, guide.shape, shape)
        at = (guide - levels[0]) * np.float32((count - 1) / (levels[-1] - levels[0]))
        at = np.clip(at, 0, count - 1)
        lower = np.minimum(at.astype(np.int32), count - 2)
        share = (at - lower).ravel()
        flat = lower.ravel() + np.arange(0, guide.size * count, count, dtype=np.int32)
        slices = slices.ravel()
        first = slices[flat]
        return (first + share * (slices[flat + 1] - first)).reshape(guide.shape)

    def _slices(
        self, levels: np.ndarray, grid: tuple[int, ...], shape: tuple[int, int]
    ) -> np.ndarray:
        """Predictions at each level of log depth, (h, w, levels)."""
        (height, width), diagonal = shape, float(np.hypot(*shape))
        shrink = min(1.0, _LONGEST / max(grid))
        rows, columns = (max(2, round(side * shrink)) for side in grid)
        x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(width / columns / diagonal)
        y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(height / rows / diagonal)
        across = _matern(x[:, None] - self.x, self.reach)
        down = _matern(y[:, None] - self.y, self.reach) * self.alpha
        apart = np.square(levels[:, None] - self.guide)
        similar = np.exp(apart * np.float32(-0.5 / _SIMILAR**2))
        tone = np.exp(apart * np.float32(-0.5 / _TONE_SIMILAR**2)) @ self.alpha
        both = (across[:, None, :] * similar).reshape(-1, len(self.x))
        coarse = (down @ both.T).reshape(rows, columns, len(levels))
        coarse += np.float32(_TONE**2) * tone
        return cv2.resize(coarse, grid[::-1], interpolation=cv2.INTER_LINEAR)


def krige(
    x: np.ndarray, y: np.ndarray, guide: np.ndarray, values: np.ndarray, reach: float, floor: float
) -> Process:
    """
    Fit a Gaussian process twice: with all points, and with the outliers weighed down.

    Parameters
    ----------
    x, y, guide, values : (n,) float
        Place, of the picture's diagonal; log of fitted depth; what is to be predicted.
    reach : float
        Of the local kernel, of the picture's diagonal.
    floor : float
        Least deviation of the values: smaller residuals are never outliers.

    """
    x, y, guide, values = (np.asarray(a, dtype=np.float32) for a in (x, y, guide, values))
    kernel = _kernel(x, y, guide, reach)
    trust = np.ones(len(x), dtype=np.float32)
    alpha, inverse = _solve(kernel, values, trust)
    diagonal = np.diag(inverse)
    # Leave-one-out: residual over deviation, by Sundararajan and Keerthi (2001).
    residual = alpha / np.sqrt(diagonal)
    scale = max(1.4826 * float(np.median(np.abs(residual))), floor / _NOISE)
    trust = np.square(np.clip(1 - np.square(residual / (_CUT * scale)), 0, None))
    alpha, inverse = _solve(kernel, values, trust)
    return Process(x, y, guide, reach, alpha, inverse, trust)


def _kernel(x: np.ndarray, y: np.ndarray, guide: np.ndarray, reach: float) -> np.ndarray:
    apart = np.square(guide[:, None] - guide)
    kernel = _matern(x[:, None] - x, reach) * _matern(y[:, None] - y, reach)
    kernel *= np.exp(apart * np.float32(-0.5 / _SIMILAR**2))
    kernel += np.float32(_TONE**2) * np.exp(apart * np.float32(-0.5 / _TONE_SIMILAR**2))
    return kernel


def _matern(apart: np.ndarray, reach: float) -> np.ndarray:
    """Matérn kernel of order 3/2 in one dimension: products of it stay separable on a grid."""
    scaled = np.abs(apart) * np.float32(3.0**0.5 / reach)
    return (1 + scaled) * np.exp(-scaled)


def _solve(
    kernel: np.ndarray, values: np.ndarray, trust: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse covariance, and its product with the values."""
    from scipy.linalg.lapack import spotrf, spotri, spotrs

    covariance = kernel.copy()
    noise = np.float32(_NOISE**2) / np.maximum(trust, np.float32(_LEAST_TRUST))
    covariance.ravel()[:: len(values) + 1] += noise
    # Symmetric, so the transpose, which LAPACK can overwrite, is the same matrix.
    factor, _ = spotrf(covariance.T, lower=1, overwrite_a=1)
    alpha, _ = spotrs(factor, values, lower=1)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    return alpha, inverse
