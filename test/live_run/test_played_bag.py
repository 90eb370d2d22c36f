# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the node is started with to play a bag."""

from collections import Counter

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import NodeConfig
from marigold_ros.live_run.played_bag import (
    node_arguments,
    node_values,
    played_messages,
    prepare_bag,
)
from marigold_ros.message_codec import encode_cloud, encode_depth, encode_image
import numpy as np
import pytest


def test_a_depth_image_is_played_without_extrinsics(tmp_path):
    images = {
        '/camera/image': encode_image(np.zeros((4, 6, 3), np.uint8), 'rgb8'),
        '/tof/sparse_depth': encode_depth(np.ones((4, 6))),
    }
    with BagWriter(tmp_path / 'bag') as bag:
        for topic, fields in images.items():
            header = {'frame_id': 'camera'}
            bag.write(topic, 'sensor_msgs/msg/Image', {'header': header, **vars(fields)}, 10**9)
    bag = prepare_bag(tmp_path / 'bag', NodeConfig(), None)
    assert bag.T_cam_lidar is None
    values = node_values(bag, NodeConfig(), every_frame=False)
    assert values['sparse_source'] == 'depth_image'
    assert 'sparse_depth:=/tof/sparse_depth' in node_arguments(bag, values)


@pytest.fixture
def mixed_bag(short_drive, tmp_path):
    """The short drive with a radar at the camera, whose frame is 0.5 m in front of it."""
    with BagReader(short_drive) as reader, BagWriter(tmp_path / 'bag') as writer:
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            writer.write_raw(topic, msgtype, data, log_ns, reader.types)
        cloud = encode_cloud(np.ones((1, 3), [(axis, '<f4') for axis in 'xyz']))
        fields = {'header': {'stamp': log_ns, 'frame_id': 'radar'}, **vars(cloud)}
        writer.write('/radar/points', 'sensor_msgs/msg/PointCloud2', fields, log_ns)
        mount = {
            'header': {'frame_id': 'camera_optical'},
            'child_frame_id': 'radar',
            'transform': {'translation': (0.0, 0.0, 0.5), 'rotation': (0.0, 0, 0, 1)},
        }
        writer.write('/tf_static', 'tf2_msgs/msg/TFMessage', {'transforms': [mount]}, log_ns)
    return tmp_path / 'bag'


def prepared(path, sources):
    config = NodeConfig(sparse_source=sources)
    bag = prepare_bag(path, config, None)
    return bag, node_values(bag, config, every_frame=False)


def test_several_sources_are_played_with_the_lidar_first(mixed_bag):
    bag, values = prepared(mixed_bag, 'ground,radar,pointcloud')
    assert values['sparse_source'] == 'pointcloud,ground,radar'
    arguments = node_arguments(bag, values)
    assert 'lidar:=/velodyne_points' in arguments
    assert 'radar:=/radar/points' in arguments
    assert set(bag.inputs) == {'image', 'camera_info', 'lidar', 'radar'}
    with BagReader(mixed_bag) as reader:
        sent = Counter(message.role for message in played_messages(reader, bag, 8))
    assert (sent['lidar'], sent['radar']) == (3, 1)


def test_without_the_lidar_the_node_has_the_pose_of_the_first_sensor(mixed_bag):
    bag, values = prepared(mixed_bag, 'radar,ground')
    assert not bag.sees_lidar
    assert not bag.thinned
    assert 'lidar' not in bag.inputs
    assert values['extrinsics.translation'] == (0.0, 0.0, 0.5)
    assert not np.allclose(bag.T_cam_lidar, bag.T_cam_sensor)


def test_the_lidar_is_played_where_nothing_else_is_asked_for(mixed_bag):
    bag, values = prepared(mixed_bag, 'pointcloud')
    assert (bag.sources, bag.sees_lidar) == (('pointcloud',), True)
    assert set(bag.inputs) == {'image', 'camera_info', 'lidar'}
