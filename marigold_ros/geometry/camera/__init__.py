# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Camera models and sparse depth in the image: rectification, resizing, LiDAR projection.

May import the ground modules only; used by all other rooms of geometry, evaluation and the node.
"""
