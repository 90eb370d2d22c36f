# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The ROS 2 node: process, lifecycle, worker, a frame from message to messages; no mathematics."""
