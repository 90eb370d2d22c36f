# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Whole frames: their sparse depth in the rectified image, and resizing."""

from dataclasses import replace

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Frame, SparseDepth
from marigold_ros.geometry.camera.depth_images import (
    is_depth_camera,
    stride_of,
    triangulation_noise,
    unproject_image,
)
from marigold_ros.geometry.camera.lidar_projection import (
    nearest_per_pixel,
    NO_SPARSE_DEPTH,
    project_lidar,
    sparse_from_depth,
)
from marigold_ros.geometry.camera.rectification import (
    is_rectified,
    rectified,
    rectified_valid,
    rectify_sparse,
    rescale,
)
import numpy as np


def sparse_of_frame(frame: Frame, config: AlignmentConfig) -> tuple[SparseDepth | None, str]:
    """Return a frame's sparse depth in its rectified image, or None and the reason in words."""
    camera = frame.camera
    if frame.sparse_image is not None:
        return _depth_image_points(frame, config)
    if frame.sparse is not None:
        return (frame.sparse if camera is None else rectify_sparse(frame.sparse, camera)), ''
    if frame.points_lidar is None:
        return None, frame.no_points or NO_SPARSE_DEPTH
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
        seen = project_lidar(frame.points_lidar, frame.T_cam_lidar, pinhole, config, valid)
    except CalibrationError as error:
        # The relative depth of this frame is still good; the reason reaches the diagnostics.
        return None, str(error)
    if not frame.placed:
        seen = replace(seen, extends=False, placed=False)
    if frame.points_sigma is not None:
        sigma = np.nan_to_num(np.asarray(frame.points_sigma, np.float32)[seen.index])
        seen = replace(seen, sigma=np.maximum(sigma, 0.0))
    return seen, ''


def _depth_image_points(frame: Frame, config: AlignmentConfig) -> tuple[SparseDepth | None, str]:
    """
    Return the points of a frame's depth image in its rectified image, or None and the reason.

    Those of a depth camera are thinned out and have its noise, quadratic in depth.
    """
    depth, camera = frame.sparse_image, frame.camera
    assert depth is not None
    is_dense = is_depth_camera(depth)
    stride = stride_of(depth) if is_dense else 1
    if frame.sparse_camera is not None:
        points = unproject_image(depth, frame.sparse_camera, config, stride)
        known, reason = sparse_of_frame(
            replace(frame, sparse=None, sparse_image=None, points_lidar=points), config
        )
    else:
        sizes, reason = (depth.shape, frame.rgb.shape[:2]), ''
        known = resize_points(sparse_from_depth(depth, config, stride), *sizes)
        known = known if camera is None else rectify_sparse(known, camera)
    if known is None or not is_dense:
        return known, reason
    return replace(known, sigma=triangulation_noise(known.z), range_limited=True), reason


def resize_frame(frame: Frame, size: tuple[int, int]) -> Frame:
    """
    Resize image, camera and sparse depth of a frame to ``size`` (height, width).

    LiDAR points stay in the LiDAR's frame; of sparse points in one pixel the nearest stays.
    """
    height, width = size
    old_height, old_width = frame.rgb.shape[:2]
    if (old_height, old_width) == size:
        return frame
    # Area means where it shrinks; OpenCV takes linear weights where it grows.
    rgb = cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA)
    camera = None if frame.camera is None else rescale(frame.camera, width, height)
    sparse = frame.sparse
    if sparse is not None:
        sparse = resize_points(sparse, (old_height, old_width), size)
    return replace(frame, rgb=rgb, camera=camera, sparse=sparse)


def resize_points(sparse: SparseDepth, old: tuple[int, int], new: tuple[int, int]) -> SparseDepth:
    """Move points from an image of one size (height, width) to the same places in another."""
    if old == new:
        return sparse
    u = ((sparse.u + 0.5) * (new[1] / old[1])).astype(np.intp)
    v = ((sparse.v + 0.5) * (new[0] / old[0])).astype(np.intp)
    first = nearest_per_pixel(u, v, sparse.z, new[1])
    index = None if sparse.index is None else sparse.index[first]
    counts = {**sparse.counts, 'kept': int(first.sum())}
    return SparseDepth(u[first], v[first], sparse.z[first], index, counts)
