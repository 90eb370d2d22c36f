# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One standard deviation of metric depth: fused depth states its own, other methods count errors.

Begin with ``fused_sigma.py``.
"""
