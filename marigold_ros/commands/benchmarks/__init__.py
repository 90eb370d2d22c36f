# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The subjects of the command ``benchmark``: what each measures, as text, JSON and drawings.

May import the packages whose benchmarks it prints (models, evaluation, replay), inside functions.
Used by commands/benchmark.py only.
"""
