# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Metres from the ground: its plane below the camera, and points on it."""
