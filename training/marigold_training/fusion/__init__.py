# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Examples and runs of the fusion network: LiDARs and maps simulated over known depth, scan lines.

``run.FusionRun`` ties them together.
"""
