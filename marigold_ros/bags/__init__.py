# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Bags of ROS 1 and ROS 2, read and written with the rosbags library; no ROS is needed.

Storage is opened by `storage`, read by `reader`, and joined by `frames`, with the poses of
`transforms`; `writer` writes.
"""
