# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The scorer of frames, its accumulators by protocol, and how those of bags are added up."""
