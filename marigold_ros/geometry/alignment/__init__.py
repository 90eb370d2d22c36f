# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The metric fit of sparse depth: scale, shift, local correction. Begin with ``align.py``."""
