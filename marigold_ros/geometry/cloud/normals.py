# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Surface normals of a depth image, from the gradient of inverse depth.

On a plane inverse depth is linear in the image: 1/z = m · (u, v, 1), and its normal is a
multiple of Kᵀm. So central differences are exact on planes at any angle.
"""

import numpy as np


def surface_normals(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """
    Estimate surface normals (H, W, 3) float32 of a depth image (H, W) in metres.

    They are unit vectors towards the camera in its optical frame; NaN where the pixel or one of
    its four neighbours is not finite and positive, and at the border. ``K`` are the intrinsics in
    pixels.
    """
    # Unknown all around: there the differences have no second neighbour.
    inverse = np.full((depth.shape[0] + 2, depth.shape[1] + 2), np.nan, dtype=np.float32)
    known = (depth > 0) & (depth < np.inf)
    np.divide(1, depth, out=inverse[1:-1, 1:-1], where=known)
    K = np.asarray(K, dtype=np.float32)
    along = inverse[1:-1, 2:] - inverse[1:-1, :-2]
    down = inverse[2:, 1:-1] - inverse[:-2, 1:-1]
    u = np.arange(depth.shape[1], dtype=np.float32) - K[0, 2]
    v = np.arange(depth.shape[0], dtype=np.float32) - K[1, 2]
    normals = np.empty((*along.shape, 3), dtype=np.float32)
    # -Kᵀm, twice as long, because differences over two pixels are twice the gradient.
    normals[..., 0] = -K[0, 0] * along
    normals[..., 1] = -K[1, 1] * down - K[0, 1] * along
    normals[..., 2] = u * along + v[:, None] * down - 2 * inverse[1:-1, 1:-1]
    x, y, z = (normals[..., axis] for axis in range(3))
    normals /= np.sqrt(x * x + y * y + z * z)[..., None]
    return normals
