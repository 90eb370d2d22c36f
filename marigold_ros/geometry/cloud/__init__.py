# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Depth images as organised clouds: unprojection, packed colour, normals, flying pixels.

May import the ground modules only; used by the node, labelling and reports. Bytes of PointCloud2
messages are made from these arrays by ``message_codec.clouds``.
"""
