# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Models whose network turns a resized image into a map of its size.

``map_model`` is their base and imports no torch, ``network_map_model`` runs networks by torch,
``array_resizing`` resizes as it does for those that are compiled.
"""
