# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Monitoring of the LiDAR's calibration: evidence of angle and clock errors from image and points.

``monitor.py`` decides, ``evidence.py`` scores one image.
"""
