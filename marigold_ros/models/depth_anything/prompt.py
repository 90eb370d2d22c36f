# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Points as the depth image of low resolution that Prompt Depth Anything was trained with.

Its sensor's image has 256x192 values and no holes, and its simulation of one interpolates between
few points (Lin et al., arXiv 2412.14015): here from the nearest points alone, without the image.
"""

from marigold_ros.frame import SparseDepth
import numpy as np

LONGEST_SIDE = 256
NEIGHBOURS = 4  # points that each value is interpolated from


def prompt_depth(sparse: SparseDepth, shape: tuple[int, int]) -> np.ndarray:
    """
    Interpolate depth on a small grid, by inverse distance to the nearest points in the image.

    Returns (h, w) float32 metres of the proportions of the image's ``shape`` (H, W), the longer
    side of :data:`LONGEST_SIDE` values. Points without positive finite depth are left out. Raises
    AlignmentError if a point lies outside the image, there are fewer than :data:`NEIGHBOURS`
    points, or all have one depth, by whose range the network divides.
    """
    from scipy.spatial import cKDTree

    u, v, z = sparse.as_input(shape, NEIGHBOURS, 'the prompt')
    rows, columns = (max(1, round(side * LONGEST_SIDE / max(shape))) for side in shape)
    y, x = np.mgrid[0.5:rows, 0.5:columns]
    cells = np.stack([y * shape[0] / rows, x * shape[1] / columns], axis=-1)
    distance, near = cKDTree(np.stack([v, u], axis=1) + 0.5).query(cells, k=NEIGHBOURS)
    weight = 1.0 / np.maximum(distance, 0.5)  # half a pixel: how well a point is placed
    return ((weight * z[near]).sum(axis=-1) / weight.sum(axis=-1)).astype(np.float32)
