# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Runtime: device, arithmetic, memory layout and compilers, for the same answer faster.

Of diffusers it imports the types alone: a model that uses none of its networks starts a second
earlier.
"""
