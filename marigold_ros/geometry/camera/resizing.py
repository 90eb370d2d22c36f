# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Frames and points of an image in another size."""

from dataclasses import replace

import cv2
from marigold_ros.frame import Frame, SparseDepth
from marigold_ros.geometry.camera.hidden_points import nearest_known
from marigold_ros.geometry.camera.rectification import rescale
import numpy as np


def resize_frame(frame: Frame, size: tuple[int, int]) -> Frame:
    """
    Resize image, camera and points at pixels of a frame to ``size`` (height, width).

    LiDAR points stay in the LiDAR's frame; of points in one pixel the nearest known depth stays.
    Raises AlignmentError if a point at a pixel lies outside of the image.
    """
    old, (height, width) = frame.rgb.shape[:2], size
    if old == size:
        return frame
    # Area means where it shrinks; OpenCV takes linear weights where it grows.
    rgb = cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA)
    camera = None if frame.camera is None else rescale(frame.camera, width, height)
    inputs = tuple(
        one if one.sparse is None else replace(one, sparse=resize_points(one.sparse, old, size))
        for one in frame.inputs
    )
    return replace(frame, rgb=rgb, camera=camera, inputs=inputs)


def resize_points(sparse: SparseDepth, old: tuple[int, ...], new: tuple[int, ...]) -> SparseDepth:
    """Move points from an image of one size (height, width) to the same places in another."""
    if old == new:
        return sparse
    sparse.require_inside(old)
    u = ((sparse.u + 0.5) * (new[1] / old[1])).astype(np.intp)
    v = ((sparse.v + 0.5) * (new[0] / old[0])).astype(np.intp)
    return nearest_known(replace(sparse, u=u, v=v), new[1])
