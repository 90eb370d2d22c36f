# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
results.json and per_frame.csv: assembled, written, compared and checked against requirements.

May import ``metrics``, ``protocols`` and ``scoring``. Used by ``report``, ``replay`` and commands.
"""
