# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The protocols heldout, truth, oracle and raw: points that are fitted, truth that is scored."""
