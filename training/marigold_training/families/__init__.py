# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How each family of ``registry.py`` is trained: initial networks, inference, what is written."""
