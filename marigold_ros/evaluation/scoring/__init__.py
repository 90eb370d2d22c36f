# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The scorer of frames with its accumulators: by protocol, merged over bags, frames for the report.

May import ``metrics``, ``protocols`` and ``baselines``. Used by ``results``, ``report``, replay
and live runs.
"""
