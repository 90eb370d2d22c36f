# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the node is started with to play a bag."""

from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import NodeConfig
from marigold_ros.live_run.source import node_arguments, node_values, prepare_bag
from marigold_ros.message_codec import encode_depth, encode_image
import numpy as np


def test_a_depth_image_is_played_without_extrinsics(tmp_path):
    images = {
        '/camera/image': encode_image(np.zeros((4, 6, 3), np.uint8), 'rgb8'),
        '/tof/sparse_depth': encode_depth(np.ones((4, 6))),
    }
    with BagWriter(tmp_path / 'bag') as bag:
        for topic, fields in images.items():
            header = {'frame_id': 'camera'}
            bag.write(topic, 'sensor_msgs/msg/Image', {'header': header, **vars(fields)}, 10**9)
    source = prepare_bag(tmp_path / 'bag', NodeConfig(), None)
    assert source.T_cam_lidar is None
    values = node_values(source, NodeConfig(), every_frame=False)
    assert values['sparse_source'] == 'depth_image'
    assert 'sparse_depth:=/tof/sparse_depth' in node_arguments(source, values)
