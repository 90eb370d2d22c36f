# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Replays on the ground: the points of the bag score the depth and have no part in the fit."""

from functools import cache

from marigold_ros.bags.reader import BagReader
from marigold_ros.config import AlignmentConfig, GroundConfig, PipelineConfig, PointsConfig
from marigold_ros.evaluation.report.tables import accuracy_table
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

GROUND = GroundConfig(frame='base_link')


@pytest.fixture(scope='module')
def evaluated(short_drive, truth_of, tmp_path_factory, rows_of):
    """Return a function that fits the truth of the drive to the ground; results and rows."""

    @cache
    def evaluate(ground=GROUND, calibrated=True, shown='all'):
        pipeline = PipelineConfig(alignment=AlignmentConfig(ground_alone=shown))
        options = ReplayOptions(
            sources=('ground',),
            ground=ground,
            T_cam_lidar=None if calibrated else np.eye(4),
            pipeline=pipeline,
        )
        out = tmp_path_factory.mktemp('ground')
        return evaluate_bag(short_drive, truth_of(short_drive), options, out), rows_of(out)

    return evaluate


def test_depth_is_metric_and_scored_at_all_points(evaluated, short_drive, truth_of):
    results, _ = evaluated()
    heldout = results['protocols']['heldout']
    assert results['frames']['metric'] == heldout['n_frames'] == 3
    assert heldout['macro']['abs_rel'] < 0.06
    plain = evaluate_bag(short_drive, truth_of(short_drive))
    assert heldout['n_points'] > plain['protocols']['heldout']['n_points']
    assert results['protocols']['truth']['macro']['abs_rel'] < 0.06
    settings = results['provenance']['options']
    assert (settings['sparse_source'], settings['ground.frame']) == ('ground', 'base_link')
    assert plain['provenance']['options']['sparse_source'] == 'bag'
    text = accuracy_table(results)
    assert 'fitted to ground, scored at LiDAR points held out' in text
    assert 'fitted to ground, scored at the dense truth' in text


def test_by_default_only_the_ground_is_published_and_the_coverage_says_so(evaluated):
    shown, everything = (
        results['protocols']['truth']['macro']
        for results, _ in (evaluated(shown='ground'), evaluated())
    )
    assert 0.02 < shown['coverage'] < 0.5 < everything['coverage']


def test_the_lidar_has_no_part_in_the_fit(evaluated):
    (_, right), (_, wrong) = evaluated(), evaluated(calibrated=False)
    assert [row['scale'] for row in right] == [row['scale'] for row in wrong]


def test_a_missing_ground_frame_is_a_reason_and_no_metres(evaluated):
    for row in evaluated(GroundConfig())[1]:
        assert row['state'] == 'none'
        assert 'base_footprint' in row['reason']
        assert 'ground.height' in row['reason']


def test_the_ground_is_found_where_only_camera_info_has_a_frame(
    changed_drive, truth_of, short_drive, tmp_path
):
    def change(topic, message, log_ns):
        is_image = hasattr(message, 'encoding') and 'truth' not in topic
        header = {'stamp': log_ns, 'frame_id': ''}
        return topic, {'header': header} if is_image else {}, log_ns

    path = changed_drive(tmp_path / 'drive', change)
    options = ReplayOptions(sources=('ground',), ground=GROUND, record=PointsConfig(), limit=1)
    results = evaluate_bag(path, truth_of(short_drive), options, tmp_path / 'out')
    assert results['frames']['metric'] == 1
    with BagReader(tmp_path / 'out' / 'recording') as reader:
        outputs = [topic for topic in reader.topics if topic.startswith('/marigold_depth/')]
        frames = {item.header.frame_id for _, item, _ in reader.messages(outputs)}
    assert frames == {'camera_optical'}


@pytest.mark.parametrize('height', [0.8, pytest.param(3.2, marks=pytest.mark.slow)])
def test_metres_follow_the_height_that_is_stated(evaluated, short_drive, height):
    with BagReader(short_drive) as reader:
        T = reader.static_transforms().lookup('camera_optical', 'base_link')
    pitch = np.rad2deg(np.arctan2(-T[2, 2], -T[1, 2]))
    true, stated = (
        np.array([float(row['shift']) for row in rows])
        for _, rows in (evaluated(), evaluated(GroundConfig(height=height, pitch=float(pitch))))
    )
    true_height = -T[:3, 2] @ T[:3, 3]
    np.testing.assert_allclose(stated - true, np.log(height / true_height), atol=0.08)
