# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Examples and training of the fusion network: simulated LiDARs and maps over known depth.

May import the ground modules, geometry, models, evaluation and the other rooms of learning.
"""
