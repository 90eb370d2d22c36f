# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The protocols by name, and the truth that predictions are scored against."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import SparseDepth
import numpy as np

# heldout: fitted to some scan lines, scored at the others; truth: fitted to all LiDAR points,
# scored at dense truth; oracle: fitted to the truth itself; raw: metres of a metric model.
PROTOCOLS = ('heldout', 'truth', 'oracle', 'raw')


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
) -> tuple[np.ndarray, np.ndarray, SparseDepth | None]:
    """
    Pair an image (H, W) with all truth there is.

    Returns
    -------
    image, truth, at : arrays of one shape, SparseDepth or None
        Dense truth, with None; else every LiDAR point, with its place.

    """
    if truth is not None:
        return image, in_range(truth, config), None
    return sample_at(image, lidar), lidar.z, lidar
