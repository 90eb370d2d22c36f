# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth between neighbouring points of a scan line, which are closer than lines are to each other.

A surface that two of them agree on goes on between them, whatever the lines above and below see.
"""

from marigold_ros.frame import SparseDepth
from marigold_ros.geometry.around_points import pixel_order
import numpy as np

# Pixels from one point of a line to the next at most, as a share of the image's width: 9 of 1242.
_APART = 1 / 130
# Difference in log depth up to which two points are on one surface.
_AGREE = 0.05


def between_neighbours(points: SparseDepth, width: int) -> SparseDepth:
    """
    Return the pixels between points in one row that agree, with disparity interpolated.

    ``width`` is that of the image; of each pixel there is one point at most, and none of these.
    """
    order = pixel_order(points.u, points.v)
    u, v, z = points.u[order], points.v[order], points.z[order]
    gap = np.diff(u)
    apart = np.flatnonzero((np.diff(v) == 0) & (gap > 1) & (gap <= _APART * width))
    first = apart[np.abs(np.log(z[apart + 1] / z[apart])) < _AGREE]
    count = gap[first] - 1
    left = np.repeat(first, count)
    step = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count) + 1
    share = (step / gap[left]).astype(np.float32)
    disparity = (1.0 - share) / z[left] + share / z[left + 1]
    return SparseDepth(u[left] + step, v[left], (1.0 / disparity).astype(np.float32))
