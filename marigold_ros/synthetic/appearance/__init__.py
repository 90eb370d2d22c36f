# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Appearance of a ray-cast scene: materials, textures, light, shading and the camera's sensor."""
