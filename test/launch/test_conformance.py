# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The helper packages of a full ROS installation against message_codec: the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

from marigold_ros.geometry import organise_cloud  # noqa: E402
from marigold_ros.message_codec import encode_image, to_rgb  # noqa: E402
from marigold_ros.node import ros_helpers  # noqa: E402
from marigold_ros.node.ros_helpers import image_message  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

K = np.array([[50.0, 0.0, 4.0], [0.0, 50.0, 3.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize('with_sigma', [False, True])
def test_create_cloud_gives_the_bytes_of_message_codec(with_sigma, monkeypatch):
    pytest.importorskip('sensor_msgs_py', reason='needs sensor_msgs_py, part of ROS')
    depth = np.arange(1, 49, dtype=np.float32).reshape(6, 8)
    depth[1, 1] = np.nan
    sigma = depth / 20 if with_sigma else None
    cloud = organise_cloud(depth, K, rgb=np.full((6, 8, 3), 200, np.uint8), sigma=sigma)
    header = Header(frame_id='camera')
    theirs = ros_helpers.organised_message(header, cloud)
    monkeypatch.setattr(ros_helpers, 'create_cloud', None)
    ours = ros_helpers.organised_message(header, cloud)
    assert theirs == ours


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8'])
def test_cv_bridge_reads_the_same_image(encoding):
    cv_bridge = pytest.importorskip('cv_bridge', reason='needs cv_bridge, part of ROS')
    reader = ros_helpers.ImageReader()
    if not reader.state.startswith('used'):
        pytest.skip(f'cv_bridge is {reader.state}')
    shape = (6, 8) if encoding == 'mono8' else (6, 8, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    message = image_message(Header(), encode_image(pixels, encoding))
    theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8')
    np.testing.assert_array_equal(theirs, to_rgb(message))


def test_inputs_are_subscribers_of_message_filters():
    message_filters = pytest.importorskip('message_filters', reason='needs message_filters')
    assert ros_helpers.Subscriber is message_filters.Subscriber
