# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Networks of a training run: the small architecture, initialisation, export as a checkpoint."""
