# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Points as the depth image of low resolution that Prompt Depth Anything was trained with.

Its sensor's image has 256x192 values and no holes, and its simulation of one interpolates between
few points (Lin et al., arXiv 2412.14015): here from the nearest points alone, without the image.
"""

from marigold_ros.errors import AlignmentError
from marigold_ros.frame import SparseDepth
import numpy as np

LONGEST_SIDE = 256
NEIGHBOURS = 4  # points that each value is interpolated from


def prompt_depth(sparse: SparseDepth, shape: tuple[int, int]) -> np.ndarray:
    """
    Interpolate depth on a small grid, by inverse distance to the nearest points in the image.

    Parameters
    ----------
    sparse : SparseDepth
        Points in the image; those without positive finite depth are left out.
    shape : (H, W)
        Size of the image.

    Returns
    -------
    (h, w) float32, metres
        Of the image's proportions, the longer side of :data:`LONGEST_SIDE` values.

    Raises
    ------
    AlignmentError
        If a point lies outside the image, there are fewer than :data:`NEIGHBOURS` points, or all
        have one depth, by whose range the network divides.

    """
    from scipy.spatial import cKDTree

    usable = np.isfinite(sparse.z) & (sparse.z > 0)
    u, v, z = sparse.u[usable], sparse.v[usable], sparse.z[usable].astype(np.float64)
    if len(z) and (min(u.min(), v.min()) < 0 or u.max() >= shape[1] or v.max() >= shape[0]):
        raise AlignmentError(
            f'sparse depth reaches from ({u.min()}, {v.min()}) to ({u.max()}, {v.max()}), the '
            f'image is {shape[1]}x{shape[0]}; project the points with its camera'
        )
    if len(z) < NEIGHBOURS or not z.max() > 1.000001 * z.min():
        raise AlignmentError(
            f'the prompt has {len(z)} usable points of {len(sparse)}; it needs at least '
            f'{NEIGHBOURS}, at different depths: check T_cam_lidar and the LiDAR'
        )
    rows, columns = (max(1, round(side * LONGEST_SIDE / max(shape))) for side in shape)
    y, x = np.mgrid[0.5:rows, 0.5:columns]
    cells = np.stack([y * shape[0] / rows, x * shape[1] / columns], axis=-1)
    distance, near = cKDTree(np.stack([v, u], axis=1) + 0.5).query(cells, k=NEIGHBOURS)
    weight = 1.0 / np.maximum(distance, 0.5)  # half a pixel: how well a point is placed
    return ((weight * z[near]).sum(axis=-1) / weight.sum(axis=-1)).astype(np.float32)
