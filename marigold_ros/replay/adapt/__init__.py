# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adapt models to recordings, and prove it on a block of images that no network has seen.

``adaptation`` is the whole run, ``mounting`` refuses a miscalibrated LiDAR, ``judge`` and
``scores`` score frames, ``proof`` decides what is installed, and ``page`` draws it.

May import ``learning.adapt`` and what it imports. Used by commands.
"""
