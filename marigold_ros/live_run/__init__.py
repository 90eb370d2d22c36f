# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A live run of the depth node over DDS: node process, exchange of messages, scoring; a viewer.

May import ROS, ``node``, ``bags``, ``synthetic``, ``evaluation``, ``replay`` and ``pipeline``.
Used by ``web``, the command ``demo`` and the trials in test/trials; nothing below imports it.
"""
