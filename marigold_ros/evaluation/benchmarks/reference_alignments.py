# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Reference alignments that ours must beat on simulated predictions, each a few lines long.

Plain least squares, an affine fit by Tukey's biweight, and that fit corrected by the ratios of the
five nearest points. All are for predictions in the space ``depth``.
"""

import cv2
import numpy as np

_ROUNDS = 10
_TUKEY = 4.685
_NEAREST_METRES = 0.05
_NEIGHBOURS = 5
_STRIDE = 4
_REJECT_LOG = 0.5


def least_squares(relative: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Fit scale and shift by least squares in metres, all points weighted alike; (n,) both."""
    return _affine_fit(relative, z, np.ones_like(relative))


def tukey(relative: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Fit scale and shift by ten rounds of Tukey's biweight of relative errors; (n,) both."""
    scale, shift = least_squares(relative, z)
    for _ in range(_ROUNDS):
        error = (z - (relative * scale + shift)) / np.maximum(z, 0.1)
        typical = 1.4826 * float(np.median(np.abs(error))) + 1e-6
        weight = np.square(np.clip(1 - np.square(error / (_TUKEY * typical)), 0, None))
        scale, shift = _affine_fit(relative, z, weight / np.square(np.maximum(z, 0.1)))
    return scale, shift


def five_nearest(relative: np.ndarray, u: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
    """
    Correct the Tukey fit at each pixel by the mean ratio of the five nearest points.

    ``relative`` is (H, W), points (n,) are at pixels u, v with depth z; returns (H, W) metres.
    """
    from scipy.spatial import cKDTree

    scale, shift = tukey(relative[v, u].astype(np.float64), z.astype(np.float64))
    metric = np.maximum(relative * scale + shift, _NEAREST_METRES)
    ratio = z / metric[v, u]
    kept = np.abs(np.log(np.maximum(ratio, 1e-3))) < _REJECT_LOG
    if not kept.any():
        return metric
    ratio, place = ratio[kept], np.stack([u[kept], v[kept]], axis=1)
    y, x = np.mgrid[0 : relative.shape[0] : _STRIDE, 0 : relative.shape[1] : _STRIDE]
    count = min(_NEIGHBOURS, len(place))
    apart, near = cKDTree(place).query(
        np.stack([x.ravel(), y.ravel()], axis=1), k=[*range(1, count + 1)]
    )
    weight = 1 / (apart + 1)
    field = (ratio[near] * weight).sum(axis=1) / weight.sum(axis=1)
    field = field.reshape(x.shape).astype(np.float32)
    return metric * cv2.resize(field, relative.shape[::-1])


def _affine_fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    design, root = np.stack([x, np.ones_like(x)], axis=1), np.sqrt(weight)
    scale, shift = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
    return float(scale), float(shift)
