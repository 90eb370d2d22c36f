# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Kinds and strengths of corruptions, importable without numpy for the command line."""

# Each kind is a function of :mod:`marigold_ros.evaluation.corruptions`.
CORRUPTIONS = ('night', 'rain', 'fog', 'blur', 'noise', 'jpeg', 'glare', 'dropout')
STRENGTHS = (1, 2, 3, 4, 5)
