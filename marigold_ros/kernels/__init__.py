# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Compiled loops over points, cells and pixels, and how functions are compiled."""
