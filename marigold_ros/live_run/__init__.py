# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A live run of the depth node over DDS: its process, exchange of messages, scoring; a viewer."""
