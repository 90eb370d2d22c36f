# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Sparse depth of a frame in its rectified image, from whichever source it has."""

from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Frame, SparseDepth
from marigold_ros.geometry.camera.lidar_projection import (
    NO_SPARSE_DEPTH,
    project_lidar,
    sparse_from_depth,
)
from marigold_ros.geometry.camera.rectification import (
    is_rectified,
    rectified,
    rectified_valid,
    rectify_sparse,
)
from marigold_ros.geometry.camera.resizing import resize_points


def sparse_of_frame(frame: Frame, config: AlignmentConfig) -> tuple[SparseDepth | None, str]:
    """Return a frame's sparse depth in its rectified image, or None and the reason in words."""
    camera = frame.camera
    known = frame.sparse
    if frame.sparse_image is not None:
        sizes = frame.sparse_image.shape, frame.rgb.shape[:2]
        known = resize_points(sparse_from_depth(frame.sparse_image, config), *sizes)
    if known is not None:
        return (known if camera is None else rectify_sparse(known, camera)), ''
    if frame.points_lidar is None:
        return None, NO_SPARSE_DEPTH
    if camera is None:
        return None, (
            'no usable camera_info; points cannot be projected without it: publish or correct it'
        )
    if frame.T_cam_lidar is None:
        return None, (
            'no transform camera <- LiDAR is known; publish it on tf, or set '
            'extrinsics.translation and extrinsics.rotation_xyzw'
        )
    valid = None if is_rectified(camera) else rectified_valid(camera)
    pinhole = rectified(camera)
    try:
        return project_lidar(frame.points_lidar, frame.T_cam_lidar, pinhole, config, valid), ''
    except CalibrationError as error:
        # The relative depth of this frame is still good; the reason reaches the diagnostics.
        return None, str(error)
