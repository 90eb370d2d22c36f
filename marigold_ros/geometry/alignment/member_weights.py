# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Weigh the members of an average by their errors at points.

Members err alike where an image is hard, so inverse variances alone would give a worse member too
much: the weights minimise the variance of the weighted mean, covariances included.
"""

from dataclasses import replace

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.geometry.alignment.affine_fit import (
    fit_by_method,
    fit_target,
    fitted_depth,
    log_ratio,
)
from marigold_ros.geometry.alignment.align import usable_points
from marigold_ros.geometry.alignment.local_field import REJECT_LOG
import numpy as np

# Of the mean variance, added to each: members that err alike get equal weights, not random ones.
_RIDGE = 0.01


def weigh_members(
    prediction: Prediction,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
    held: np.ndarray | None = None,
) -> tuple[Prediction, np.ndarray | None]:
    """
    Replace the mean of an average's members by the mean weighted by their errors at points.

    ``held`` (n,) are weights of an earlier frame, which serve where there are too few points, or
    ground alone. Returns also the weights (n,), at least 0, of sum 1; or the prediction as given
    and None, where nothing weighs its members, or it is of one model.
    """
    members = prediction.members
    if members is None or config.method in ('none', 'fixed'):
        return prediction, None
    weights = _at_points(prediction, members, sparse, config)
    if weights is None:
        weights = held
    if weights is None or len(weights) != len(members):  # a member may fail on an image
        return prediction, None
    mean = np.tensordot(weights.astype(np.float32), members, 1)
    return replace(prediction, relative=mean), weights


def _at_points(
    prediction: Prediction,
    members: np.ndarray,
    sparse: SparseDepth | None,
    config: AlignmentConfig,
) -> np.ndarray | None:
    """Return weights (n,) from members (n, H, W), or None with too few points."""
    if sparse is None or not sparse.kind.extends:
        return None
    usable = usable_points(prediction, sparse, config)
    if usable.sum() < config.min_points:
        return None
    points = sparse.chosen(usable)
    z = points.z.astype(np.float64)
    target, sigma = fit_target(z, prediction.space, config, points.sigma)
    errors = []
    for one in members[:, points.v, points.u].astype(np.float64):
        fit = fit_by_method(one, target, sigma, config)
        fitted = fitted_depth(one, fit.scale, fit.shift, prediction.space, config)
        # A map that falls where depth rises is wrong everywhere, however well a line fits.
        fitted = fitted if fit.scale > 0 else np.full_like(z, np.nan)
        error = np.nan_to_num(log_ratio(z, fitted), nan=REJECT_LOG)
        errors.append(np.clip(error, -REJECT_LOG, REJECT_LOG))
    return least_variance_weights(np.array(errors))


def least_variance_weights(errors: np.ndarray) -> np.ndarray:
    """
    Return the weights (n,), at least 0 and of sum 1, of the mean with the least squared error.

    ``errors`` (n, M) are those of n members at the same M points. With independent errors the
    weights are the inverse variances; a member that the others make worthless gets 0.
    """
    from scipy.optimize import nnls

    covariance = errors @ errors.T / errors.shape[1]
    mean_variance = np.trace(covariance) / len(covariance)
    covariance += (_RIDGE * mean_variance + 1e-12) * np.eye(len(covariance))
    # The minimum of w' C w / 2 - sum(w) over w >= 0 is proportional to the weights.
    root = np.linalg.cholesky(covariance)
    weights, _ = nnls(root.T, np.linalg.solve(root, np.ones(len(root))))
    return weights / weights.sum()
