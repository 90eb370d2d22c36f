# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Replays on the ground: the points of the bag score the depth and have no part in the fit."""

import csv

from marigold_ros.__main__ import main
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import GroundConfig, LidarConfig
from marigold_ros.frame import Prediction, UNBOUNDED
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

GROUND = GroundConfig(frame='base_link')


class Truth:
    """A model whose log depth is the truth of the bag, image by image."""

    def __init__(self, bag):
        self.description = {'name': 'truth', 'path': '/nowhere', 'space': 'log'}
        with BagReader(bag) as reader:
            items = bag_frames(reader, reader.choose_topics(), LidarConfig())
            self._truths = [np.log(np.minimum(item.truth, 80.0)) for item in items]
        self._asked = 0

    def predict(self, rgb, **options):
        relative = self._truths[self._asked % len(self._truths)] / 4.4
        self._asked += 1
        return Prediction(relative.astype(np.float32), None, 'log', UNBOUNDED)


def rows_of(folder):
    with (folder / 'per_frame.csv').open(encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_depth_is_metric_and_scored_at_all_points(short_drive, tmp_path):
    results = evaluate_bag(
        short_drive,
        Truth(short_drive),
        ReplayOptions(sources=('ground',), ground=GROUND),
        tmp_path,
    )
    heldout = results['protocols']['heldout']
    assert results['frames']['metric'] == heldout['n_frames'] == 3
    assert heldout['macro']['abs_rel'] < 0.06
    plain = evaluate_bag(short_drive, Truth(short_drive))
    assert heldout['n_points'] > plain['protocols']['heldout']['n_points']
    assert results['protocols']['truth']['macro']['abs_rel'] < 0.06


def test_the_lidar_has_no_part_in_the_fit(short_drive, tmp_path):
    scales = []
    for name, pose in (('right', None), ('wrong', np.eye(4))):
        options = ReplayOptions(sources=('ground',), ground=GROUND, T_cam_lidar=pose)
        evaluate_bag(short_drive, Truth(short_drive), options, tmp_path / name)
        scales.append([row['scale'] for row in rows_of(tmp_path / name)])
    assert scales[0] == scales[1]


def test_a_missing_ground_frame_is_a_reason_and_no_metres(short_drive, tmp_path):
    options = ReplayOptions(sources=('ground',), ground=GroundConfig())
    evaluate_bag(short_drive, Truth(short_drive), options, tmp_path)
    for row in rows_of(tmp_path):
        assert row['state'] == 'none'
        assert 'base_footprint' in row['reason']
        assert 'ground.height' in row['reason']


def test_a_negative_height_is_refused_by_name(short_drive, tmp_path, capsys):
    arguments = ['evaluate', str(short_drive), '--out', str(tmp_path)]
    settings = ['--set', 'sparse_source=ground', '--set', 'ground.height=-1']
    assert main([*arguments, *settings]) == 2
    assert 'ground.height is -1' in capsys.readouterr().err


@pytest.mark.parametrize('height', [0.8, 3.2])
def test_metres_follow_the_height_that_is_stated(short_drive, tmp_path, height):
    results = evaluate_bag(
        short_drive,
        Truth(short_drive),
        ReplayOptions(sources=('ground',), ground=GROUND),
        tmp_path / 'true',
    )
    assert results['frames']['metric'] == 3
    with BagReader(short_drive) as reader:
        T = reader.static_transforms().lookup('camera_optical', 'base_link')
    pitch = np.rad2deg(np.arctan2(-T[2, 2], -T[1, 2]))
    config = GroundConfig(height=height, pitch=float(pitch))
    evaluate_bag(
        short_drive,
        Truth(short_drive),
        ReplayOptions(sources=('ground',), ground=config),
        tmp_path / 'stated',
    )
    true_height = -T[:3, 2] @ T[:3, 3]
    shifts = [float(row['shift']) for row in rows_of(tmp_path / 'true')]
    stated = [float(row['shift']) for row in rows_of(tmp_path / 'stated')]
    expected = np.log(height / true_height)
    np.testing.assert_allclose(np.subtract(stated, shifts), expected, atol=0.08)
