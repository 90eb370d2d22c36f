# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A straight line through weighted points."""

import numpy as np


def weighted_line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """
    Return scale and shift of ``y = scale * x + shift`` by weighted least squares.

    Of ``x``, ``y`` and ``weight``, all (n,) float. The sums are taken about the means, where the
    equations are best conditioned. Without spread of ``x``, or without any weight, the scale is 0.
    """
    total = weight.sum()
    if total <= 0:
        return 0.0, float(np.median(y))
    x_mean, y_mean = weight @ x / total, weight @ y / total
    spread = weight @ (x - x_mean) ** 2
    scale = float(weight @ ((x - x_mean) * (y - y_mean)) / spread) if spread > 0 else 0.0
    return scale, float(y_mean - scale * x_mean)
