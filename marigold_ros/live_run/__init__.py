# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A live run of the depth node over DDS: node process, player, recorder, scoring.

May import ROS, ``node``, ``bags``, ``synthetic``, ``evaluation``, ``replay`` and ``pipeline``.
Used by the command ``demo`` and by the trials in test/trials; nothing below imports it.
"""
