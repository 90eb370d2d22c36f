# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compiled loops that rooms share: how functions are compiled, and images resampled.

May import the ground modules; used by ``geometry`` and ``models``.
"""
