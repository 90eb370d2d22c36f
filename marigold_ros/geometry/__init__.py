# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Cameras, sparse depth, the metric fit and clouds: numpy and OpenCV; neither torch nor ROS."""

from marigold_ros.geometry.alignment import align
from marigold_ros.geometry.cloud import organise_cloud, unproject_depth
from marigold_ros.geometry.sparse_depth import project_lidar

__all__ = ['align', 'organise_cloud', 'project_lidar', 'unproject_depth']
