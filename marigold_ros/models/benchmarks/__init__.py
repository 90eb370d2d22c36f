# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Benchmarks of a model: stage times, memory, work, runtime variants, diffusers' pipeline in turns.

May import everything in ``models``. Used by ``commands.benchmark``; training counts the work of
networks of published shape.
"""
