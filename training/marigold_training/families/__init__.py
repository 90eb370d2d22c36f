# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
How each family of depth models is trained: initial networks, inference during training, export.

``registry.py`` lists them. May import the ground modules, models, objectives and
networks.
"""
