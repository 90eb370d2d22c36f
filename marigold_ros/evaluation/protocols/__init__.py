# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What is fitted to which points and scored at which: held-out scan lines, truth, oracle, raw.

May import ``geometry`` and the ground modules. Used by ``scoring``, ``results`` and ``live_run``.
"""
