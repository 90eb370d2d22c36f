# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The ROS shell: the only room that imports rclpy and ROS messages; it knows no mathematics."""
