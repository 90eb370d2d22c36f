# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Replays on the ground: the points of the bag score the depth and have no part in the fit."""

from marigold_ros.__main__ import main
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import AlignmentConfig, GroundConfig, PipelineConfig
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

GROUND = GroundConfig(frame='base_link')


@pytest.fixture
def evaluated(short_drive, truth_of, tmp_path, rows_of):
    """Return a function that fits the truth of the drive to the ground; results and rows."""

    def evaluate(ground=GROUND, T_cam_lidar=None, shown='all'):
        pipeline = PipelineConfig(alignment=AlignmentConfig(ground_alone=shown))
        options = ReplayOptions(
            sources=('ground',), ground=ground, T_cam_lidar=T_cam_lidar, pipeline=pipeline
        )
        results = evaluate_bag(short_drive, truth_of(short_drive), options, tmp_path)
        return results, rows_of(tmp_path)

    return evaluate


def test_depth_is_metric_and_scored_at_all_points(evaluated, short_drive, truth_of):
    results, _ = evaluated()
    heldout = results['protocols']['heldout']
    assert results['frames']['metric'] == heldout['n_frames'] == 3
    assert heldout['macro']['abs_rel'] < 0.06
    plain = evaluate_bag(short_drive, truth_of(short_drive))
    assert heldout['n_points'] > plain['protocols']['heldout']['n_points']
    assert results['protocols']['truth']['macro']['abs_rel'] < 0.06


def test_by_default_only_the_ground_is_published_and_the_coverage_says_so(evaluated):
    shown, everything = (
        evaluated(shown=which)[0]['protocols']['truth']['macro'] for which in ('ground', 'all')
    )
    assert 0.02 < shown['coverage'] < 0.5 < everything['coverage']


def test_the_lidar_has_no_part_in_the_fit(evaluated):
    right, wrong = (evaluated(T_cam_lidar=pose)[1] for pose in (None, np.eye(4)))
    assert [row['scale'] for row in right] == [row['scale'] for row in wrong]


def test_a_missing_ground_frame_is_a_reason_and_no_metres(evaluated):
    for row in evaluated(GroundConfig())[1]:
        assert row['state'] == 'none'
        assert 'base_footprint' in row['reason']
        assert 'ground.height' in row['reason']


def test_a_negative_height_is_refused_by_name(short_drive, tmp_path, capsys):
    arguments = ['evaluate', str(short_drive), '--out', str(tmp_path)]
    settings = ['--set', 'sparse_source=ground', '--set', 'ground.height=-1']
    assert main([*arguments, *settings]) == 2
    assert 'ground.height is -1' in capsys.readouterr().err


@pytest.mark.parametrize('height', [0.8, 3.2])
def test_metres_follow_the_height_that_is_stated(evaluated, short_drive, height):
    with BagReader(short_drive) as reader:
        T = reader.static_transforms().lookup('camera_optical', 'base_link')
    pitch = np.rad2deg(np.arctan2(-T[2, 2], -T[1, 2]))
    true, stated = (
        np.array([float(row['shift']) for row in evaluated(ground)[1]])
        for ground in (GROUND, GroundConfig(height=height, pitch=float(pitch)))
    )
    true_height = -T[:3, 2] @ T[:3, 3]
    np.testing.assert_allclose(stated - true, np.log(height / true_height), atol=0.08)
