# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Metres from the ground: its plane below the camera, points on it, and the correction they give.

May import the ground modules only; used by the pipeline, ``alignment``, the node and replays.
"""
