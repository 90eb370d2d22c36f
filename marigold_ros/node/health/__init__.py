# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The node's health: counters, timings, input health, and the diagnostics made of them.

All keys of ``/diagnostics`` stand in ``diagnostic_keys``. Only ``diagnostics`` imports ROS.
Used by the node, its interface, ``live_run`` and the trials.
"""
