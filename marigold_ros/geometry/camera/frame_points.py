# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sparse depth of a frame, from whichever source it has, in its rectified image."""

from __future__ import annotations

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Frame, SparseDepth
from marigold_ros.geometry.camera.lidar_projection import project_lidar, sparse_from_depth
from marigold_ros.geometry.camera.rectification import (
    is_rectified,
    rectified,
    rectified_valid,
    rectify_sparse,
)
from marigold_ros.geometry.camera.resizing import resize_points


def sparse_of_frame(frame: Frame, config: AlignmentConfig) -> tuple[SparseDepth | None, str]:
    """Give sparse depth in the rectified image, or None and the reason in words."""
    camera = frame.camera
    known = frame.sparse
    if frame.sparse_image is not None:
        sizes = frame.sparse_image.shape, frame.rgb.shape[:2]
        known = resize_points(sparse_from_depth(frame.sparse_image, config), *sizes)
    if known is not None:
        return (known if camera is None else rectify_sparse(known, camera)), ''
    if frame.points_lidar is None:
        return None, 'no sparse depth came with this frame; check the LiDAR topic and lidar.max_dt'
    if camera is None:
        return (
            None,
            'no usable camera_info; points cannot be projected without it: publish or correct it',
        )
    if frame.T_cam_lidar is None:
        return None, (
            'no transform camera <- LiDAR is known; publish it on tf, or set '
            'extrinsics.translation and extrinsics.rotation_xyzw'
        )
    valid = None if is_rectified(camera) else rectified_valid(camera)
    try:
        sparse = project_lidar(
            frame.points_lidar, frame.T_cam_lidar, rectified(camera), config, valid
        )
    except CalibrationError as error:
        # The relative depth of this frame is still good; the reason reaches the diagnostics.
        return None, str(error)
    return sparse, ''
