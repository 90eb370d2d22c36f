# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Blocks of time never share images, keep their gap, and a parked robot is refused."""

from __future__ import annotations

from dataclasses import replace
import math
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Prediction, SparseDepth
from marigold_ros.synthetic.drive.drive import write_drive
from marigold_training.adapt import keep
from marigold_training.adapt.blocks import (
    Blocks,
    cell_depths,
    check_motion,
    MOST_JUDGED,
    MOST_STOPPED,
    plan_blocks,
)
from marigold_training.adapt.keep import choose_kept, mean_error
from marigold_training.adapt.recipes import budget_for
from marigold_training.data.bag_pairs import BagPairs, Shot
from marigold_training.data.pairs import Pair
from marigold_training.fusion.validation import STOP
import numpy as np
import pytest
from torch import nn


def shots(count: int, rate: float = 10.0, bag: int = 0, first: int = 0) -> list[Shot]:
    return [Shot(first + i, bag, 10**18 + round(i / rate * 1e9)) for i in range(count)]


@given(st.integers(12, 400), st.sampled_from([1.0, 4.0, 10.0, 30.0]))
def test_blocks_are_apart_and_in_order(count, rate):
    recording = shots(count, rate)
    blocks = plan_blocks(recording)
    stamps = {shot.number: shot.stamp_ns for shot in recording}
    assert max(blocks.train) < min(blocks.stop)
    assert max(blocks.stop) < min(blocks.judge)
    gap = (stamps[blocks.judge[0]] - stamps[blocks.stop[-1]]) / 1e9
    assert gap >= min(2.0, 0.1 * (count - 1) / rate) - 1e-6
    assert blocks.judge[-1] == count - 1
    assert 2 <= len(blocks.stop) <= MOST_STOPPED
    assert len(blocks.judge) <= MOST_JUDGED
    assert blocks.seconds == pytest.approx(
        (stamps[blocks.judge[-1]] - stamps[blocks.judge[0]]) / 1e9
    )


def test_named_blocks_are_taken_as_they_are():
    blocks = plan_blocks(shots(20), (0, 14), (14, 20))
    assert blocks.train + blocks.stop == tuple(range(14))
    assert blocks.stop == (12, 13)
    assert blocks.judge == tuple(range(14, 20))
    assert blocks.entries('stop') == [[12, 13], [13, 14]]


def test_other_bags_need_no_gap():
    two = shots(20) + shots(10, bag=1, first=20)
    assert plan_blocks(two, judge=(20, 30)).stop[-1] == 19
    assert plan_blocks(two, train=(0, 20)).judge[0] == 20
    assert plan_blocks(shots(30), judge=(20, 30)).stop[-1] < 19


def test_the_time_between_recordings_is_not_judged():
    days = shots(20), shots(4, bag=1, first=20), shots(4, bag=2, first=24)
    recordings = [
        replace(shot, stamp_ns=shot.stamp_ns + day * 10**14)
        for day, part in enumerate(days)
        for shot in part
    ]
    assert plan_blocks(recordings).judge == tuple(range(20, 28))
    assert plan_blocks(recordings).seconds == pytest.approx(0.6)


@pytest.mark.parametrize(
    ('count', 'train', 'judge', 'kind', 'words'),
    [
        (7, None, None, InputError, '7 images have LiDAR points in view'),
        (20, (0, 14), (13, 20), ConfigurationError, 'share images'),
        (20, (0, 3), None, InputError, '3 usable images to train on'),
        (20, None, (19, 20), InputError, '1 to judge'),
        (20, (0, 20), None, InputError, '0 to judge'),
        (20, None, (0, 10), InputError, '0 usable images to train on'),
        (20, None, (100, 200), InputError, '0 to judge'),
        (20, (-5, 0), None, InputError, '0 usable images'),  # before the first usable one
    ],
)
def test_recordings_without_enough_images_are_refused(count, train, judge, kind, words):
    with pytest.raises(kind, match=words):
        plan_blocks(shots(count), train, judge)


def test_cells_hold_the_median_depth_of_their_points():
    u, v = np.array([0, 3, 15, 16, 40]), np.array([0, 15, 2, 2, 20])
    points = SparseDepth(u, v, np.array([1.0, 9.0, 3.0, 5.0, 7.0], np.float32))
    cells = cell_depths(points, (32, 48))
    expected = np.full((2, 3), np.nan)
    expected[0, 0], expected[0, 1], expected[1, 2] = 3.0, 5.0, 7.0
    assert np.array_equal(cells, expected, equal_nan=True)


def test_a_parked_robot_is_refused_and_a_moving_one_is_not(tmp_path, monkeypatch):
    write_drive(tmp_path / 'drive', frames=4, seed=3, width=96, height=64, rate=2.0)
    pairs = BagPairs(tmp_path, 'drive', lidar='/velodyne_points')
    blocks = Blocks((0, 1), (2,), (3,), 0.0)
    check_motion(pairs, blocks)
    first = pairs.read_lidar(0)
    monkeypatch.setattr(pairs, 'read_lidar', lambda index: first)
    with pytest.raises(InputError, match='the robot stood still.*no baseline'):
        check_motion(pairs, blocks)


def test_the_share_kept_is_the_best_that_has_not_forgotten():
    stop = {0.0: 0.10, 0.5: 0.15, 1.0: 0.30}
    assert choose_kept(stop, {0.0: 0.21, 0.5: 0.20, 1.0: 0.20}) == 0.0
    assert choose_kept(stop, {0.0: 0.25, 0.5: 0.21, 1.0: 0.20}) == 0.5
    assert choose_kept(stop, {0.0: 0.25, 0.5: 0.25, 1.0: 0.20}) == 1.0
    assert choose_kept({0.0: 0.4, 1.0: 0.3}, {0.0: 0.1, 1.0: 0.2}) == 1.0


class Flat:
    """A model that predicts one depth everywhere."""

    space = 'metric'

    def __init__(self, metres: float = 1.0) -> None:
        self.metres = metres

    def predict(self, rgb: np.ndarray) -> Prediction:
        return Prediction(np.full(rgb.shape[:2], self.metres, np.float32), space='metric')


@pytest.mark.parametrize('points', [0, 2])
def test_images_of_few_points_do_not_choose_the_share(points):
    rgb, seen = np.zeros((20, 20, 3), np.uint8), np.full((20, 20), 1.25, np.float32)
    blind = np.full((20, 20), np.nan, np.float32)
    blind.flat[:points] = 4.0
    assert mean_error(Flat(), [Pair(rgb, seen), Pair(rgb, blind)], own=True) == pytest.approx(0.2)


class Blended:
    """A run from weight 0 to weight 1: a weight is the share of the trained ones."""

    def __init__(self, **validation: object) -> None:
        self.accelerator, self.kept = SimpleNamespace(device='cpu'), math.nan
        self.validation, self.chain = SimpleNamespace(**validation), self.chain_of(1.0)

    @staticmethod
    def chain_of(weight: float) -> nn.ModuleDict:
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, weight)
        return nn.ModuleDict({'fusion': network})

    def finished(self) -> nn.ModuleDict:
        return self.chain

    def first_chain(self) -> nn.ModuleDict:
        return self.chain_of(0.0)

    def engine(self, chain: nn.ModuleDict) -> Flat:
        return Flat(chain['fusion'].weight.item())


# The fusion network is best on the images to stop on with 0.8 of the trained weights, and on
# scenes may be worse than the initial one by 9 %.
@pytest.mark.parametrize(('forgotten', 'kept'), [(0.0, 0.2), (0.12, 0.35)])
def test_a_fusion_network_keeps_what_both_kinds_of_images_ask(forgotten, kept, monkeypatch):
    def table(network: nn.Linear, images: str, device: str) -> dict[str, dict[str, float]]:
        weight = network.weight.item()
        error = {STOP: abs(weight - 0.8), 'scenes': 1 + forgotten * weight}[images]
        return {'few': {'abs_rel': error - 0.1, 'rmse': error + 0.1}}

    monkeypatch.setattr(keep, 'score', table)
    run = Blended(caches={'scenes': 'scenes', STOP: STOP})
    keep.choose_of_fusion(run)
    assert run.kept == kept
    assert run.chain['fusion'].weight.item() == 1.0  # the export blends them


def test_a_metric_model_keeps_what_its_own_metres_and_the_shape_of_scenes_ask(monkeypatch):
    rgb = np.zeros((20, 20, 3), np.uint8)
    stop, scene = (Pair(rgb, np.full((20, 20), z, np.float32)) for z in (0.8, 0.1))
    monkeypatch.setattr(keep, 'render_scenes', lambda *of: [('room', scene)])
    run = Blended(sets={STOP: [(STOP, stop)]})
    keep.choose_of_relative(run)
    assert run.kept == 0.2


def test_a_budget_is_spent_and_not_exceeded():
    budget = budget_for(10.0, 0.5, 2.0, 0.25)
    spent = 0.5 * budget.half + 2.0 * budget.full + 0.25 * budget.fusion
    assert 590.0 < spent <= 600.0
    with pytest.raises(ConfigurationError, match='--minutes is 0'):
        budget_for(0.0, 1.0, 1.0, 1.0)
