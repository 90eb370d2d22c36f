# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The truth that predictions are scored against, and what is scored where depth is missing.

A pixel without depth has that of the nearest fit point in the image: in ``heldout`` and ``truth``,
for predictions and baselines alike, so that leaving out difficult pixels does not improve a score.
``coverage`` is the share of published depth.
"""

from dataclasses import dataclass

from marigold_ros.config import AlignmentConfig
from marigold_ros.evaluation.baselines import interpolate_nearest
from marigold_ros.frame import SparseDepth
import numpy as np

MISSING_DEPTH = 'nearest fit point'


@dataclass(frozen=True)
class DepthPairs:
    """Predicted and true depth, metres, of one shape: (M,) at sparse pixels, else (H, W)."""

    predicted: np.ndarray
    truth: np.ndarray  # NaN where it does not count
    at: SparseDepth | None = None

    @property
    def relative_error(self) -> np.ndarray:
        """|predicted - truth| / truth."""
        return np.abs(self.predicted - self.truth) / self.truth


def substitute_missing(
    depth: np.ndarray, truth: np.ndarray, fit: SparseDepth, at: SparseDepth | None = None
) -> np.ndarray:
    """
    Return depth with that of the nearest fit point where it is missing and truth is known.

    Depth and truth are metres at the pixels ``at``, (M,), or of whole images without, (H, W); what
    is not finite is missing. Without any point in ``fit`` missing depth stays missing.
    """
    missing = np.isfinite(truth) & ~np.isfinite(depth)
    if len(fit) == 0 or not missing.any():
        return depth
    v, u = np.nonzero(missing) if at is None else (at.v[missing], at.u[missing])
    complete = np.array(depth)
    complete[missing] = interpolate_nearest(fit, u, v)
    return complete


def sample_at(image: np.ndarray, sparse: SparseDepth) -> np.ndarray:
    """Return the values of an (H, W) image at the pixels of sparse depth, (M,)."""
    return np.asarray(image)[sparse.v, sparse.u]


def in_range(truth: np.ndarray, config: AlignmentConfig) -> np.ndarray:
    """Return the truth with NaN outside the depth range of the fit: sky and far background."""
    with np.errstate(invalid='ignore'):
        kept = (truth >= config.min_depth) & (truth <= config.max_depth)
    return np.where(kept, truth, np.nan)


def all_truth(
    image: np.ndarray, truth: np.ndarray | None, lidar: SparseDepth, config: AlignmentConfig
) -> DepthPairs:
    """Pair an image (H, W) with all truth there is: dense, else every point of the LiDAR."""
    if truth is not None:
        return DepthPairs(image, in_range(truth, config))
    return DepthPairs(sample_at(image, lidar), lidar.z, lidar)
