# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How far the two fitted numbers may be off, at each value of the prediction."""

from __future__ import annotations

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.fitted_depth import target_of
import numpy as np


def line_variance(
    prediction: Prediction,
    alignment: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
) -> tuple[float, float, float] | None:
    """
    Give the points' centre, the line's variance there, and its growth with squared distance.

    All in units of ``relative``. Neighbouring residuals are alike, so a tile of the field's reach
    counts as one measurement, however many points it has.
    """
    fitted = config.method in ('local', 'global') and alignment.space != 'metric'
    if sparse is None or alignment.inlier is None or not fitted:
        return None
    u, v, z = (part[alignment.inlier] for part in (sparse.u, sparse.v, sparse.z))
    x = prediction.relative[v, u].astype(np.float64)
    if len(x) < 3 or np.ptp(x) == 0.0:
        return None
    target, noise = target_of(z.astype(np.float64), alignment.space, config)
    weight = 1.0 / noise**2
    middle = float(weight @ x / weight.sum())
    residual = (target - alignment.scale * x - alignment.shift) / alignment.scale
    variance = float(weight @ residual**2 / weight.sum())
    spread = float(weight @ (x - middle) ** 2 / weight.sum())
    tile = max(1.0, config.field_reach * float(np.hypot(*prediction.relative.shape)))
    measured = len(np.unique((v // tile).astype(np.int64) * 65536 + (u // tile).astype(np.int64)))
    at_middle = variance / max(measured - 2, 1)
    return middle, at_middle, at_middle / max(spread, 1e-12)
