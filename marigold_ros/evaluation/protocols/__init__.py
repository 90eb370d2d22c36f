# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The protocols heldout, truth, oracle and raw: points that are fitted, and truth that is scored.

May import ``geometry`` and the ground modules. Used by ``scoring``, ``results`` and ``live_run``.
"""
