# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Benchmarks of a model: stages, memory, work, runtime variants, diffusers' pipeline in turns."""
