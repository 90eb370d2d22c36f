# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Synthetic worlds with exact depth: ray-cast rooms and streets, and drives through them.

``raycast`` holds solids and rays, ``appearance`` materials, light and the camera's sensor,
``scenes`` draws rooms and streets, ``drive`` records a journey as a bag. Rooms import only those
named before them.
"""
