# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Drives of a vehicle with camera and LiDAR through one scene, written as ROS 2 bags."""
