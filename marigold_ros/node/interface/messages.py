# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""ROS messages from the arrays and records of message_codec."""

from builtin_interfaces.msg import Time
import cv2
from marigold_ros.node.distro import byte_array
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image


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


# The far end is blue, the near end red, as in most LiDAR viewers; invalid pixels are black.
_TURBO = cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8), cv2.COLORMAP_TURBO).reshape(
    256, 3
)


def colour_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """
    Colour depth (H, W), metres, for viewers: logarithmic from ``near`` to ``far``, metres.

    Returns (H, W, 3) uint8 bgr, black where depth is NaN.
    """
    valid = np.isfinite(depth)
    clipped = np.clip(np.where(valid, depth, far), near, far)
    shade = cv2.log(clipped.astype(np.float32, copy=False))
    shade -= np.log(near)
    shade *= 255.0 / np.log(far / near)
    image = cv2.LUT(
        cv2.cvtColor(np.rint(shade).astype(np.uint8), cv2.COLOR_GRAY2BGR), _TURBO[None]
    )
    image[~valid] = 0
    return image
