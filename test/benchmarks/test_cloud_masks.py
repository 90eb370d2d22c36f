# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Counts of cleaned clouds."""

from cloud_masks import blurred, CleaningCounts
from marigold_ros.evaluation.metrics.surfaces import flying_and_good
import numpy as np


def step():
    truth = np.full((40, 60), 5.0, dtype=np.float32)
    truth[:, 30:] = 10.0
    return truth


def test_a_perfect_mask_removes_all_and_loses_nothing():
    truth = step()
    depth = blurred(truth, 4, 100.0)
    flying, _ = flying_and_good(depth, truth, 4)
    assert flying.any()
    perfect, none = CleaningCounts(), CleaningCounts()
    perfect.add(depth, truth, flying, 4)
    none.add(depth, truth, np.zeros_like(flying), 4)
    counts = perfect.summary()
    assert (counts['removed'], counts['good_lost'], counts['flying_left']) == (1.0, 0.0, 0.0)
    counts = none.summary()
    assert counts['removed'] == 0.0
    assert counts['flying'] == counts['flying_left'] > 0
