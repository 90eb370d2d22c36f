# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The ROS 2 node: process, lifecycle, worker and one frame from message to messages.

May import ROS, ``models``, ``pipeline``, ``geometry`` and the ground; holds no mathematics.
Used by the command ``node``, by ``live_run`` and by launch files; nothing below imports it.
"""
