# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The part of sigma that the tilt of the camera against the ground causes."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Alignment, Prediction, SparseDepth
from marigold_ros.geometry.alignment.fitted_depth import fit_target, fitted_depth, log_ratio
from marigold_ros.geometry.alignment.robust_fit import minimise_masked_loss
import numpy as np


def with_pitch_error(
    sigma: np.ndarray | None,
    prediction: Prediction,
    alignment: Alignment,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
) -> np.ndarray | None:
    """
    Add to sigma, (H, W) metres, what a camera tilted by one deviation changes in a fit to ground.

    All points err together then, farther ones more, so scale and shift err: the fit is repeated
    with the points of the tilted plane. Other fits keep their sigma.
    """
    if sigma is None or sparse is None or sparse.extends or sparse.sigma is None:
        return sigma
    if not sparse.placed:
        return sigma
    if alignment.state != 'fitted' or alignment.inlier is None or prediction.space == 'metric':
        return sigma
    used = alignment.inlier
    relative = prediction.relative[sparse.v[used], sparse.u[used]].astype(np.float64)
    z, tilt = sparse.z[used].astype(np.float64), sparse.sigma[used].astype(np.float64)
    space = prediction.space
    stated, noise = fit_target(z, space, config, tilt)
    lifted, _ = fit_target(z + tilt, space, config)
    weight = 1.0 / noise**2
    before, after = (
        fitted_depth(
            np.asarray(prediction.relative, np.float32),
            *minimise_masked_loss(relative, target, weight),
            space,
            config,
        )
        for target in (stated, lifted)
    )
    change = np.abs(log_ratio(after, before))
    with np.errstate(invalid='ignore'):
        return np.asarray(np.hypot(sigma, np.nan_to_num(change) * alignment.metric), np.float32)
