# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The masked pixel loss of DiffusionDepth, minimised over scale and shift in closed form.

``sum(w d^2) / T + share * (sum(w d) / T)^2`` with ``d = scale * x + shift - y`` over known pixels
only and ``T = sum(w)``. With a free shift its minimum has ``sum(w d) = 0``, so the second term
vanishes and does not move it, whatever its share; it matters where the shift is fixed or at a
bound.
"""

from __future__ import annotations

import numpy as np


def masked_loss(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, line: tuple[float, float], share: float
) -> float:
    """Evaluate the loss of a line; ``x``, ``y`` and ``weight`` are (n,)."""
    apart = line[0] * x + line[1] - y
    total = weight.sum()
    return float(weight @ apart**2 / total + share * (weight @ apart / total) ** 2)


def minimise_masked_loss(
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    share: float = 0.85,
    shift_limits: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """
    Find the exact minimum with the shift within limits; equal limits fix it.

    Parameters
    ----------
    x, y, weight : (n,) float64
        Prediction, target in its space, and weights that are not all 0.
    share : float
        Of the squared mean, above -1.
    shift_limits : (low, high)
        Of the shift.

    Returns
    -------
    (scale, shift)
        The scale is 0 where ``x`` tells nothing.

    """
    weight = weight / weight.sum()
    x_mean, y_mean = float(weight @ x), float(weight @ y)
    spread = float(weight @ (x - x_mean) ** 2)
    scale = float(weight @ ((x - x_mean) * (y - y_mean))) / spread if spread > 0 else 0.0
    shift = y_mean - scale * x_mean
    low, high = shift_limits
    if low <= shift <= high:
        return scale, shift
    # The loss is convex, and so is its minimum over the scale: the nearest allowed shift is best.
    shift = float(np.clip(shift, low, high))
    power = float(weight @ x**2) + share * x_mean**2
    product = float(weight @ (x * (y - shift))) + share * x_mean * (y_mean - shift)
    return (product / power if power > 0 else 0.0), shift
