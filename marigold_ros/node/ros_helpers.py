# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
ROS messages from the records of message_codec, and the ROS packages that help with messages.

The only importer of message_filters, sensor_msgs_py and cv_bridge, all three of which the ROS
wheels lack. Replaced are the Subscriber, and clouds by message_codec's, byte for byte the same;
without cv_bridge, encodings that message_codec does not know are refused. Released binaries of
cv_bridge break with NumPy 2, so it stays off the main path and is tried out first.
"""

import inspect
from typing import Any

from builtin_interfaces.msg import Time
from marigold_ros.errors import InputError
from marigold_ros.message_codec import check_image, encode_cloud, IMAGE_ENCODINGS, to_rgb
from marigold_ros.node.distro import byte_array
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField

try:
    from message_filters import Subscriber

    FILTERS = 'message_filters'
except ImportError:
    FILTERS = 'built in (message_filters is not installed)'

    class Subscriber:  # type: ignore[no-redef]
        """A subscription with callbacks; the part of message_filters in use."""

        def __init__(self, node, message_type, topic, **options):
            self._callback = lambda message: None
            self.sub = node.create_subscription(
                message_type, topic, lambda message: self._callback(message), **options
            )

        def registerCallback(self, callback):  # noqa: N802
            """Call back with each message."""
            self._callback = callback


try:
    from sensor_msgs_py.point_cloud2 import create_cloud
except ImportError:
    create_cloud = None


def subscribe(node, message_type, topic, callback, **options):
    """Create a Subscriber; options that this message_filters does not know are left out."""
    known = inspect.signature(Subscriber.__init__).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        options = {name: value for name, value in options.items() if name in known}
    subscriber = Subscriber(node, message_type, topic, **options)
    subscriber.registerCallback(callback)
    return subscriber


class ImageReader:
    """Decodes images with message_codec, and with cv_bridge where only that knows the encoding."""

    def __init__(self) -> None:
        self._bridge: Any = None
        try:
            from cv_bridge import CvBridge

            bridge = CvBridge()
            trial = Image(height=1, width=1, step=3, encoding='bgr8', data=[1, 2, 3])
            if np.asarray(bridge.imgmsg_to_cv2(trial, 'rgb8')).tolist() != [[[3, 2, 1]]]:
                raise ValueError('it swaps colours')
        except ImportError as error:
            self.state = f'not used ({str(error).splitlines()[0]})'
        except Exception as error:  # a binary for another NumPy fails in many ways
            self.state = f'not used, broken ({type(error).__name__}: {error})'
        else:
            self._bridge = bridge
            self.state = 'used for encodings that are not built in'

    def _is_foreign(self, message) -> bool:
        """Whether only cv_bridge may know the encoding; depth is never decoded as an image."""
        return (
            self._bridge is not None
            and not hasattr(message, 'format')
            and message.encoding not in (*IMAGE_ENCODINGS, '32FC1', '16UC1')
        )

    def check(self, message) -> None:
        """Check a header as message_codec.check_image does; raises InputError."""
        if not self._is_foreign(message):
            check_image(message)

    def read(self, message) -> np.ndarray:
        """Decode to (H, W, 3) uint8 RGB; raises InputError."""
        if not self._is_foreign(message):
            return to_rgb(message)
        try:
            image = np.asarray(self._bridge.imgmsg_to_cv2(message, 'rgb8'))
        except Exception as error:  # CvBridgeError, cv2.error, KeyError or TypeError
            raise InputError(
                f"encoding '{message.encoding}' is unknown here and to cv_bridge ({error}); known "
                f'are {", ".join(sorted(IMAGE_ENCODINGS))}',
                cause='encoding',
            ) from error
        return np.ascontiguousarray(image, dtype=np.uint8)


def cloud_message(header, fields) -> PointCloud2:
    """Return the PointCloud2 of message_codec's CloudFields."""
    point_fields = [
        PointField(name=name, offset=offset, datatype=datatype, count=count)
        for name, offset, datatype, count in fields.fields
    ]
    message = PointCloud2(header=header, fields=point_fields)
    message.height, message.width = fields.height, fields.width
    message.is_bigendian, message.is_dense = bool(fields.is_bigendian), bool(fields.is_dense)
    message.point_step, message.row_step = fields.point_step, fields.row_step
    message.data = byte_array(fields.data)
    return message


def organised_message(header, points):
    """
    Return the PointCloud2 of organise_cloud's (H, W) points, by sensor_msgs_py where installed.

    ``create_cloud`` swaps the axes of two-dimensional arrays, so it gets a flat one, and height,
    width and row_step are set afterwards.
    """
    if create_cloud is None:
        return cloud_message(header, encode_cloud(points))
    point_fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, (_, offset) in points.dtype.fields.items()
    ]
    message = create_cloud(header, point_fields, np.ascontiguousarray(points).reshape(-1))
    message.height, message.width = points.shape
    message.row_step = message.point_step * message.width
    return message


def to_stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a Time message."""
    seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def image_message(header, fields) -> Image:
    """Return an Image message of message_codec's ImageFields."""
    message = Image(header=header, encoding=fields.encoding)
    message.height, message.width, message.step = fields.height, fields.width, fields.step
    message.is_bigendian = int(fields.is_bigendian)
    message.data = byte_array(fields.data)
    return message


def compressed_message(header, fields) -> CompressedImage:
    """Return a CompressedImage message of message_codec's CompressedFields."""
    return CompressedImage(header=header, format=fields.format, data=byte_array(fields.data))


def info_message(header, fields: dict) -> CameraInfo:
    """Return a CameraInfo message of message_codec.camera_info_fields."""
    message = CameraInfo(header=header)
    for name, value in fields.items():
        if name in 'dkrp':
            value = [float(x) for x in np.ravel(value)]
        setattr(message, name, value)
    return message
