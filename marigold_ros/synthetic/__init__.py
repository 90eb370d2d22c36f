# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Synthetic worlds with exact depth: ray-cast rooms and streets, and drives through them."""
