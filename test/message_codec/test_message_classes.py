# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The same message of rclpy and of rosbags decodes to the same arrays."""

from array import array
from types import SimpleNamespace

from marigold_ros.frame import Camera
from marigold_ros.message_codec import (
    camera_info_fields,
    encode_cloud,
    encode_compressed_depth,
    encode_depth,
    encode_image,
    encode_jpeg,
    to_camera,
    to_depth,
    to_points,
    to_rgb,
)
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores

STORE = get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope='module')
def sensor_msgs():
    return pytest.importorskip('sensor_msgs.msg')


def live(kind, fields):
    """Fill a message class of rclpy as the node does."""
    message = kind()
    for name, value in vars(fields).items():
        setattr(message, name, array('B', value.tobytes()) if name == 'data' else value)
    return message


def recorded(msgtype, fields):
    """Send fields through the serialiser of rosbags; arrays come back read-only."""
    header = STORE.types['std_msgs/msg/Header'](
        stamp=STORE.types['builtin_interfaces/msg/Time'](sec=1, nanosec=2), frame_id='camera'
    )
    message = STORE.types[msgtype](header=header, **vars(fields))
    return STORE.deserialize_cdr(STORE.serialize_cdr(message, msgtype), msgtype)


def image():
    return np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)


def depth():
    return np.random.default_rng(0).uniform(1, 50, (6, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ('kind', 'fields', 'decode'),
    [
        ('Image', encode_image(image(), 'bgr8'), to_rgb),
        ('Image', encode_depth(depth()), to_depth),
        ('Image', encode_depth(depth(), '16UC1'), to_depth),
        ('CompressedImage', encode_jpeg(image()), to_rgb),
        ('CompressedImage', encode_compressed_depth(depth()), to_depth),
    ],
)
def test_images_decode_alike_live_and_recorded(sensor_msgs, kind, fields, decode):
    from_bag = recorded(f'sensor_msgs/msg/{kind}', fields)
    assert not from_bag.data.flags.writeable
    from_topic = live(getattr(sensor_msgs, kind), fields)
    np.testing.assert_array_equal(decode(from_topic), decode(from_bag))
    np.testing.assert_array_equal(decode(from_topic), decode(fields))


def test_clouds_decode_alike_live_and_recorded(sensor_msgs):
    cloud = np.zeros((4, 5), [(name, '<f4') for name in ('x', 'y', 'z', 'rgb')])
    cloud['x'], cloud['z'] = np.arange(20).reshape(4, 5), 7
    cloud['y'][1, 1] = np.nan
    fields = vars(encode_cloud(cloud))
    described = [
        {'name': name, 'offset': offset, 'datatype': datatype, 'count': count}
        for name, offset, datatype, count in fields['fields']
    ]
    point_field = STORE.types['sensor_msgs/msg/PointField']
    from_bag = recorded(
        'sensor_msgs/msg/PointCloud2',
        SimpleNamespace(**{**fields, 'fields': [point_field(**d) for d in described]}),
    )
    live_fields = [sensor_msgs.PointField(**d) for d in described]
    from_topic = live(
        sensor_msgs.PointCloud2, SimpleNamespace(**{**fields, 'fields': live_fields})
    )
    assert to_points(from_bag).shape == (19, 3)
    np.testing.assert_array_equal(to_points(from_topic), to_points(from_bag))


def test_written_camera_info_fits_the_live_class(sensor_msgs):
    camera = Camera(np.array([[500.0, 0, 4], [0, 500.0, 3], [0, 0, 1]]), 8, 6, (0.1, 0.0, 0, 0, 0))
    message = sensor_msgs.CameraInfo(**camera_info_fields(camera))
    read = to_camera(message)
    np.testing.assert_array_equal(read.K, camera.K)
    assert read.distortion == camera.distortion
