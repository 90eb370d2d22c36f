# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Points of a depth image, of the image's camera or of one of its own, with their noise."""

import math

from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Camera
from marigold_ros.geometry.camera.lidar_projection import sparse_from_depth
from marigold_ros.geometry.camera.rectification import rectified, rectify_sparse
import numpy as np

# Deviation of triangulated depth, metres per square metre of depth: 0.0014 and 0.0019 of
# structured light (Khoshelham and Elberink, 2012; Nguyen et al., 2012), 0.0025 of stereo with
# 50 mm between the lenses. What it has at zero distance is within alignment.noise_floor.
_NOISE = 0.002
# About as many points of a depth camera are used: every pixel of 640x480.
_POINTS = 310_000
# Share of the known pixels beside which all neighbours are known in the image of a depth camera;
# a scan that was projected into an image has next to none.
_DENSE = 0.5


def triangulation_noise(z: np.ndarray) -> np.ndarray:
    """Return the deviation of triangulated depth z, metres, float32."""
    return np.asarray(_NOISE * np.square(z), np.float32)


def is_depth_camera(depth: np.ndarray) -> bool:
    """Return whether depth (h, w) is a depth camera's, and not a scan projected into an image."""
    with np.errstate(invalid='ignore'):
        known = np.isfinite(depth) & (depth > 0)
    count = np.count_nonzero(known[:-1, :-1])
    beside = known[:-1, :-1] & known[:-1, 1:] & known[1:, :-1]
    return bool(np.count_nonzero(beside) > _DENSE * count)


def stride_of(depth: np.ndarray) -> int:
    """Return the step between rows and columns that leaves 310 000 points of depth (h, w)."""
    return stride_within(int(np.count_nonzero((depth > 0) & (depth < np.inf))), _POINTS)


def stride_within(pixels: int, most: int) -> int:
    """Return the least step between rows and columns that leaves ``most`` of so many pixels."""
    return max(1, math.ceil(math.sqrt(pixels / most)))


def unproject_image(
    depth: np.ndarray, camera: Camera, config: AlignmentConfig, stride: int
) -> np.ndarray:
    """Return the points (N, 3), metres, of depth (h, w) in the frame of its own camera."""
    sparse = rectify_sparse(sparse_from_depth(depth, config, stride), camera)
    pixels = np.stack([sparse.u, sparse.v, np.ones(len(sparse))]).astype(np.float64)
    rays = np.linalg.solve(rectified(camera).K, pixels)
    return np.asarray((rays * sparse.z).T, np.float32)
