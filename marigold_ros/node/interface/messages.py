# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""ROS messages made of arrays and records; what each byte means is message_codec's business."""

from __future__ import annotations

import array

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image


def stamp_ns(stamp) -> int:
    """Nanoseconds of a builtin_interfaces Time."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(nanoseconds: int) -> Time:
    """Time message of nanoseconds; the inverse of :func:`stamp_ns`."""
    seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def byte_array(data) -> array.array:
    """Bytes as the array type whose assignment to a message is one copy, not a check per byte."""
    result = array.array('B')
    result.frombytes(memoryview(data).cast('B') if len(data) else b'')
    return result


def image_message(header, fields) -> Image:
    """Image message from message_codec's ImageFields."""
    message = Image(header=header, encoding=fields.encoding)
    message.height, message.width, message.step = fields.height, fields.width, fields.step
    message.is_bigendian = int(fields.is_bigendian)
    message.data = byte_array(fields.data)
    return message


def compressed_message(header, fields) -> CompressedImage:
    """CompressedImage message from message_codec's CompressedFields."""
    return CompressedImage(header=header, format=fields.format, data=byte_array(fields.data))


def info_message(header, fields: dict) -> CameraInfo:
    """CameraInfo message from message_codec.camera_info_fields."""
    message = CameraInfo(header=header)
    for name, value in fields.items():
        if name in 'dkrp':
            value = [float(x) for x in np.ravel(value)]
        setattr(message, name, value)
    return message


def status(name: str, level: int, text: str, values: dict, hardware_id: str = ''):
    """One DiagnosticStatus; floats are written with six digits."""
    pairs = [
        KeyValue(key=key, value=f'{value:.6g}' if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    return DiagnosticStatus(
        name=name, level=bytes([level]), message=text, hardware_id=hardware_id, values=pairs
    )


# The far end is blue, the near end red, as in most LiDAR viewers; invalid pixels are black.
_TURBO = cv2.applyColorMap(np.arange(255, -1, -1, dtype=np.uint8), cv2.COLORMAP_TURBO).reshape(
    256, 3
)


def colour_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """
    Colour image of depth for people: logarithmic between ``near`` and ``far``.

    Parameters
    ----------
    depth : (H, W) float32, metres
        NaN invalid.
    near, far : float, metres
        Ends of the colour scale.

    Returns
    -------
    (H, W, 3) uint8, bgr
        Black where depth is invalid.

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
