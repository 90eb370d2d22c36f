# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Replays with several sources: each has its part in the fit, and the bag's LiDAR scores."""

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import with_sources
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import (
    AlignmentConfig,
    GroundConfig,
    LidarConfig,
    PipelineConfig,
    PointsConfig,
)
from marigold_ros.message_codec import encode_cloud, encode_depth, header_ns
from marigold_ros.node.diagnostic_keys import values_of
from marigold_ros.point_kinds import PointKind
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

GROUND = GroundConfig(frame='base_link')
RANGE = 8.0
PROTOCOLS = ('heldout', 'truth')


@pytest.fixture(scope='module')
def bag(short_drive, tmp_path_factory):
    """The short drive with a depth camera and a radar in the camera's frame, and its truth."""
    path = tmp_path_factory.mktemp('sources') / 'drive'
    with BagReader(short_drive) as reader, BagWriter(path) as writer:
        items = list(bag_frames(reader, reader.choose_topics(), LidarConfig()))
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            writer.write_raw(topic, msgtype, data, log_ns, reader.types)
        for number, item in enumerate(items):
            header = {'header': {'stamp': item.stamp_ns, 'frame_id': 'camera_optical'}}
            seen = np.where(item.truth < RANGE, item.truth, np.nan)
            fields = {**header, **vars(encode_depth(seen))}
            writer.write('/tof/sparse_depth', 'sensor_msgs/msg/Image', fields, item.stamp_ns)
            fields = {**header, **vars(encode_cloud(radar(item, number)))}
            writer.write('/radar', 'sensor_msgs/msg/PointCloud2', fields, item.stamp_ns)
    return path


def radar(item, seed, count=60):
    """Points at random pixels of the truth, with elevations off by a few degrees."""
    rng = np.random.default_rng(seed)
    K, truth = item.frame.camera.K, item.truth
    place = rng.choice(np.flatnonzero(truth < 60.0), count, replace=False)
    v, u = np.divmod(place, truth.shape[1])
    z = truth[v, u]
    cloud = np.zeros((1, count), [(axis, '<f4') for axis in 'xyz'])
    cloud['x'], cloud['z'] = (u - K[0, 2]) / K[0, 0] * z, z
    cloud['y'] = ((v - K[1, 2]) / K[1, 1] + rng.normal(0.0, 0.05, count)) * z
    return cloud


@pytest.fixture(scope='module')
def evaluated(bag, truth_of):
    """Return a function that evaluates the truth of the first frame, fitted to sources."""

    def evaluate(out, *sources):
        chosen = ReplayOptions(
            sources=sources or None,
            ground=GROUND,
            limit=1,
            pipeline=PipelineConfig(alignment=AlignmentConfig(ground_alone='all')),
        )
        return evaluate_bag(bag, truth_of(bag), chosen, out)

    return evaluate


@pytest.fixture(scope='module')
def plain(evaluated):
    """Scores of the fit to the LiDAR."""
    return evaluated(None)['protocols']['heldout']


@pytest.mark.parametrize(
    'sources', [('radar', 'ground'), ('depth_image',), ('depth_image', 'radar')]
)
def test_without_the_lidar_all_of_it_scores(evaluated, plain, sources):
    found = evaluated(None, *sources)['protocols']['heldout']
    assert found['n_points'] > plain['n_points']
    assert found['macro']['abs_rel'] < 0.1


@pytest.mark.slow  # three evaluations
def test_the_lidar_and_the_ground_are_scored_at_the_same_points_as_the_lidar(evaluated, plain):
    both = evaluated(None, 'pointcloud', 'ground')['protocols']['heldout']
    alone = evaluated(None, 'pointcloud')['protocols']['heldout']
    assert alone['macro'] == plain['macro']
    assert both['n_points'] == plain['n_points']
    assert both['macro']['abs_rel'] < 0.1


def test_baselines_see_the_points_of_all_sources(evaluated, rows_of, tmp_path):
    errors = []
    for sources in (('pointcloud',), ('pointcloud', 'depth_image')):
        evaluated(tmp_path / str(len(sources)), *sources)
        (row,) = rows_of(tmp_path / str(len(sources)))
        errors.append([float(row[f'{protocol}_nearest_abs_rel']) for protocol in PROTOCOLS])
    assert (np.array(errors[1]) < 0.9 * np.array(errors[0])).all()


def test_a_source_that_the_bag_lacks_leaves_the_others(bag, evaluated, rows_of, tmp_path):
    found = evaluated(None, 'scan', 'depth_image')
    assert found['frames']['metric'] == 1
    assert 'no topic of scan: a LaserScan' in next(iter(found['provenance']['warnings']))
    with BagReader(bag) as reader:
        topics = {name: info for name, info in reader.topics.items() if 'sparse' not in name}
        lacking = with_sources(reader.choose_topics(), topics, reader.first, ['depth_image'])
    assert lacking.notes == ('no topic of depth_image: an Image with sparse_depth in its name',)
    evaluated(tmp_path / 'none', 'scan', 'landmarks')
    for row in rows_of(tmp_path / 'none'):
        assert row['state'] == 'none'
        assert 'scan: the bag has no topic of scan; landmarks: ' in row['reason']


@pytest.mark.parametrize(('sources', 'later_ns'), [(('radar',), 0), (('pointcloud',), 3_000_000)])
def test_the_scan_of_a_recording_is_that_of_its_sources(bag, ramp, tmp_path, sources, later_ns):
    options = ReplayOptions(sources=sources, ground=GROUND, limit=1, record=PointsConfig())
    evaluate_bag(bag, ramp, options, tmp_path)
    with BagReader(tmp_path / 'recording') as reader:
        (message,) = (m for _, m, _ in reader.messages(['/marigold_depth/alignment']))
    scan_ns = values_of(message.status[0])['scan_stamp']
    assert scan_ns == str(header_ns(message) + later_ns)


def test_each_radar_of_a_bag_keeps_its_wide_deviation(bag):
    with BagReader(bag) as reader:
        topics = reader.with_sources(reader.choose_topics(), ('radar', 'pointcloud', 'ground'))
        assert topics.further == ('/radar',)
        item = next(bag_frames(reader, topics, LidarConfig()))
    lidar, radar_input = item.frame.inputs
    assert (radar_input.source, radar_input.kind) == ('radar', PointKind.RADAR)
    assert (radar_input.points_sigma > 0.2 * radar_input.points_lidar[:, 2]).all()
    assert lidar is item.frame.lidar
    assert lidar.source == 'pointcloud'
