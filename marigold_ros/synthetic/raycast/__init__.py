# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Solids, cameras and rays: where rays end, without colour."""
