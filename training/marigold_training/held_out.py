# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Held-out scenes of both generators, by their keys in a recipe's ``validation``."""

from __future__ import annotations

from marigold_training.run.score import HELD_OUT, HeldOutScenes
from marigold_training.second_generator.generator import make_second_sample

GENERATORS = {
    **HELD_OUT,
    'second': HeldOutScenes(make_second_sample, 60, 'scenes of the second generator'),
}
