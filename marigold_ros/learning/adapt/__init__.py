# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Adapt networks to recordings of one robot: blocks of time, recipes, the share of initial weights.

The recipes are ordinary ones, which ``run`` and ``fusion`` train; ``replay.adapt`` judges the
results. May import ``data``, ``run``, ``fusion`` and ``networks``.
"""
