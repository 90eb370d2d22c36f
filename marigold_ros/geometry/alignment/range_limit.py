# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The part of sigma that the limited range of a depth camera causes."""

import cv2
from marigold_ros.frame import Alignment, SparseDepth
import numpy as np

# The farthest of the points, as a quantile, and the share of that depth from which a pixel without
# points may lie beyond the sensor's range.
_FARTHEST, _NEAR_LIMIT = 0.99, 0.85
# A pixel is without points where none is within this many mean distances between points.
_EMPTY = 2.0
# Relative error beyond the range that 68 % stay below: on synthetic rooms of 4 to 10 m with a
# range of 4 m, docs/without-a-lidar.md.
_BEYOND = 0.45


def with_range_limit(
    sigma: np.ndarray | None, alignment: Alignment, sparse: SparseDepth | None
) -> np.ndarray | None:
    """
    Widen sigma, (H, W) metres, where a depth camera may have seen nothing for the distance.

    Points held out say nothing of this error, as the sensor has no points there to hold out.
    """
    if sigma is None or sparse is None or not sparse.range_limited or len(sparse) == 0:
        return sigma
    metric = alignment.metric
    if alignment.state != 'fitted' or metric is None:
        return sigma
    empty = np.ones(metric.shape, np.uint8)
    empty[sparse.v, sparse.u] = 0
    distance = cv2.distanceTransform(empty, cv2.DIST_L2, 3)
    beyond = distance > _EMPTY * np.sqrt(metric.size / len(sparse))
    beyond &= metric > _NEAR_LIMIT * float(np.quantile(sparse.z, _FARTHEST))
    return np.where(beyond, np.maximum(sigma, np.float32(_BEYOND) * metric), sigma)
