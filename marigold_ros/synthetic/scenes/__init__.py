# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Rooms and streets drawn at random from solids; ``scene.make_sample`` is the way in."""
