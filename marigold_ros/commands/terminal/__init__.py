# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the commands share in the terminal: options, help and printed lines."""
