# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Camera models and sparse depth in the image: rectification, resizing, LiDAR projection."""
