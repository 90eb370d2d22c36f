# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Fusion: metric depth from points, image edges and the map, by what each has proved.

Begin with ``fuse.py``. The network's input is made here, the network itself is in
``models.fusion``.
"""
