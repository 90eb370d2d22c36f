# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""results.json and per_frame.csv: assembled, written, compared, checked against requirements."""
