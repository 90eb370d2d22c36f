# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Monitoring of the LiDAR's calibration: errors of mounting and clock, by image and points.

``monitor.py`` decides, ``evidence.py`` scores one image.
"""
