# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Judging clouds: what flies, what is good, what is neither."""

from marigold_ros.evaluation.benchmarks.cloud import blurred, judge, Tally
import numpy as np


def step():
    truth = np.full((40, 60), 5.0, dtype=np.float32)
    truth[:, 30:] = 10.0
    return truth


def test_true_depth_is_good_everywhere_and_flies_nowhere():
    flying, good = judge(step(), step(), 3)
    assert not flying.any()
    assert good.all()


def test_depth_between_two_surfaces_flies_only_beside_the_step():
    depth = step()
    depth[10, 31] = depth[10, 50] = 7.0
    flying, good = judge(depth, step(), 3)
    assert np.argwhere(flying).tolist() == [[10, 31]]
    assert not good[10, [31, 50]].any()
    assert good.sum() == good.size - 2


def test_wrong_but_outside_the_two_surfaces_is_neither():
    depth = step()
    depth[10, 31], depth[11, 29] = 20.0, 2.0
    flying, good = judge(depth, step(), 3)
    assert not flying.any()
    assert good.sum() == good.size - 2


def test_nothing_is_judged_beside_the_sky_or_where_truth_is_unknown():
    truth = step()
    truth[:10], truth[30, 5] = np.inf, np.nan
    flying, good = judge(np.full(truth.shape, 7.0, np.float32), truth, 2)
    assert not flying[:12].any()
    assert flying[12:, 28:32].any()
    _, good = judge(truth, truth, 2)
    assert not good[:12].any()
    assert not good[28:33, 3:8].any()
    assert good[12:28].all()


def test_unknown_depth_is_neither_flying_nor_good():
    depth = step()
    depth[20] = np.nan
    flying, good = judge(depth, step(), 3)
    assert not flying[20].any()
    assert not good[20].any()


def test_a_perfect_mask_removes_all_and_loses_nothing():
    truth = step()
    depth = blurred(truth, 4, 100.0)
    flying, _ = judge(depth, truth, 4)
    assert flying.any()
    perfect, none = Tally(), Tally()
    perfect.add(depth, truth, flying, 4)
    none.add(depth, truth, np.zeros_like(flying), 4)
    told = perfect.summary()
    assert (told['removed'], told['good_lost'], told['flying_left']) == (1.0, 0.0, 0.0)
    told = none.summary()
    assert told['removed'] == 0.0
    assert told['flying'] == told['flying_left'] > 0
