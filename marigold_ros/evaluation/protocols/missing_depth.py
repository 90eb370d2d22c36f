# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What is scored where a metric frame has no depth: the depth of the nearest fit point in the image.

This holds in ``heldout`` and ``truth``, for predictions and baselines alike, so that leaving out
difficult pixels does not improve a score. ``coverage`` is the share of published depth.
"""

from marigold_ros.evaluation.baselines import interpolate_nearest
from marigold_ros.frame import SparseDepth
import numpy as np

MISSING_DEPTH = 'nearest fit point'


def substitute_missing(
    depth: np.ndarray, truth: np.ndarray, fit: SparseDepth, at: SparseDepth | None = None
) -> np.ndarray:
    """
    Return depth with that of the nearest fit point where it is missing and truth is known.

    Parameters
    ----------
    depth, truth : (M,) or (H, W) float, metres
        At the pixels ``at``, or of whole images without; what is not finite is missing.
    fit : SparseDepth
        The points that the fit saw; without any, missing depth stays missing.
    at : SparseDepth or None
        The pixels of arrays (M,).

    """
    missing = np.isfinite(truth) & ~np.isfinite(depth)
    if len(fit) == 0 or not missing.any():
        return depth
    v, u = np.nonzero(missing) if at is None else (at.v[missing], at.u[missing])
    complete = np.array(depth)
    complete[missing] = interpolate_nearest(fit, u, v)
    return complete
