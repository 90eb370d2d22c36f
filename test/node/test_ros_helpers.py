# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Messages, and the helper packages replaced by fakes: how they are called, and without them."""

import sys
from types import ModuleType

from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.geometry import organise_cloud
from marigold_ros.live_run.process import own_context
from marigold_ros.message_codec import encode_image, encode_jpeg, header_ns
from marigold_ros.node import ros_helpers
from marigold_ros.node.distro import byte_array, node_creation
from marigold_ros.node.ros_helpers import (
    compressed_message,
    image_message,
    ImageReader,
    organised_message,
    to_stamp,
)
import numpy as np
import pytest
from rclpy.impl.implementation_singleton import rclpy_implementation
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header


def test_stamps_survive_the_way_there_and_back():
    for nanoseconds in (0, 1, 999_999_999, 1_000_000_000, 1_795_162_579_238_975_568):
        assert header_ns(Image(header=Header(stamp=to_stamp(nanoseconds)))) == nanoseconds


def test_bytes_arrive_as_they_were():
    data = np.arange(300, dtype=np.uint16).view(np.uint8)
    assert bytes(byte_array(data)) == data.tobytes()
    assert len(byte_array(np.zeros(0, np.uint8))) == 0


def test_a_middleware_that_makes_no_node_is_named_with_what_to_check():
    failure = rclpy_implementation.RCLError('error creating node')
    words = 'error creating node; .* CYCLONEDDS_URI'
    with (
        own_context() as context,
        pytest.raises(MarigoldError, match=words),
        node_creation(context),
    ):
        raise failure
    with pytest.raises(rclpy_implementation.RCLError), node_creation(context):
        raise failure  # as after a signal


K = np.array([[50.0, 0.0, 4.0], [0.0, 50.0, 3.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def cloud():
    """Return an organised cloud of 6 rows and 8 columns with a hole."""
    depth = np.arange(1, 49, dtype=np.float32).reshape(6, 8)
    depth[2, 3] = np.nan
    return organise_cloud(depth, K, rgb=np.full((6, 8, 3), 7, np.uint8), sigma=depth / 10)


def test_create_cloud_gets_a_flat_array_for_the_same_message(cloud, monkeypatch):
    asked = []

    def create_cloud(header, fields, points):
        asked.append(points)
        step = points.dtype.itemsize
        message = PointCloud2(header=header, fields=fields, height=1, width=len(points))
        message.point_step, message.row_step = step, step * len(points)
        message.data = points.tobytes()
        return message

    own = organised_message(Header(frame_id='camera'), cloud)
    monkeypatch.setattr(ros_helpers, 'create_cloud', create_cloud)
    theirs = organised_message(Header(frame_id='camera'), cloud)
    assert asked[0].shape == (48,)
    assert theirs == own


def foreign_image():
    """Return an image in an encoding that message_codec does not know."""
    message = image_message(Header(), encode_image(np.zeros((4, 5, 3), np.uint8), 'rgb8'))
    message.encoding = '8UC7'
    return message


class PlantedBridge:
    """Stands for cv_bridge: swaps bgr8, knows 8UC7."""

    def imgmsg_to_cv2(self, message, desired):
        assert desired == 'rgb8'
        if message.encoding == 'bgr8':
            pixels = np.frombuffer(bytes(message.data), np.uint8)
            return pixels.reshape(message.height, message.width, 3)[..., ::-1]
        if message.encoding != '8UC7':
            raise RuntimeError(f'unknown {message.encoding}')
        return np.full((message.height, message.width, 3), 9, np.uint8)


@pytest.fixture
def with_cv_bridge(monkeypatch):
    """Install a planted cv_bridge."""
    module = ModuleType('cv_bridge')
    module.CvBridge = PlantedBridge
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    return module


def test_cv_bridge_reads_what_the_codec_does_not_know(with_cv_bridge):
    reader = ImageReader()
    assert reader.state.startswith('used')
    reader.check(foreign_image())
    assert (reader.read(foreign_image()) == 9).all()
    grey = np.full((4, 5, 3), 90, np.uint8)
    jpeg = compressed_message(Header(), encode_jpeg(grey))
    reader.check(jpeg)
    np.testing.assert_array_equal(reader.read(jpeg), grey)


@pytest.mark.parametrize(
    ('encoding', 'words'), [('rgb17', 'rgb17.*mono8'), ('32FC1', 'depth and not an image')]
)
def test_what_nobody_knows_and_depth_are_refused(with_cv_bridge, encoding, words):
    message = foreign_image()
    message.encoding = encoding
    with pytest.raises(InputError, match=words) as refused:
        ImageReader().read(message)
    assert refused.value.cause == 'encoding'


def test_a_broken_cv_bridge_is_noticed_and_left_alone(with_cv_bridge, monkeypatch):
    monkeypatch.setattr(PlantedBridge, 'imgmsg_to_cv2', lambda *_a: np.zeros((1, 1, 3)))
    reader = ImageReader()
    assert 'swaps colours' in reader.state
    with pytest.raises(InputError, match='encoding'):
        reader.check(foreign_image())


def test_without_cv_bridge_unknown_encodings_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    reader = ImageReader()
    assert reader.state.startswith('not used')
    with pytest.raises(InputError, match='encoding'):
        reader.check(foreign_image())
