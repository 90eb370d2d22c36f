# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Facade of geometry: cameras, sparse depth, the metric fit, and clouds."""

from marigold_ros.geometry.camera.lidar_projection import project_lidar
from marigold_ros.geometry.cloud.organised import organise_cloud, unproject_depth
from marigold_ros.geometry.fusion.fuse import align

__all__ = ['align', 'organise_cloud', 'project_lidar', 'unproject_depth']
