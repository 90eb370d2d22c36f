# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth images as organised clouds: unprojection, packed colour, normals, flying pixels.

Bytes of PointCloud2 messages are made from these arrays by ``message_codec.clouds``.
"""
