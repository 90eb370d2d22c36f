# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Benchmarks of alignment and cloud cleaning on known truth, and simulated predictions for them.

May import ``metrics``, ``baselines`` and ``geometry``. Used by ``commands/benchmarks``.
"""
