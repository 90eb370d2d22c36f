# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
ROS messages from the arrays and records of message_codec, and their quality of service.

Decision: QoS ``auto`` follows the publishers. Best effort matches every publisher but loses large
images (88 of 100 over UDP, reliable 12); reliable matches only those who offer it. So the node
checks the publishers every second, and subscribes anew when the choice changes.
"""

from collections.abc import Sequence
from typing import Any

from builtin_interfaces.msg import Time
import cv2
from marigold_ros.node.distro import byte_array, parameter_overrides
import numpy as np
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image


def stamp_ns(stamp) -> int:
    """Return a builtin_interfaces Time in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(nanoseconds: int) -> Time:
    """Return nanoseconds as a Time message; the inverse of :func:`stamp_ns`."""
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


def output_profile() -> QoSProfile:
    """Return the profile of a publisher, a new one each time: rclpy writes overrides into it."""
    return QoSProfile(
        depth=1,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def input_profile(setting: str, depth: int, publishers: Sequence[Any]) -> QoSProfile:
    """
    Choose the profile of a subscription that keeps ``depth`` messages.

    ``setting`` is 'auto', 'reliable' or 'best_effort', and ``publishers`` are the topic's present
    TopicEndpointInfo. Auto is reliable if every visible publisher is, transient local if every
    one is; best effort while none is visible.
    """
    offers = [info.qos_profile for info in publishers]
    reliable = setting == 'reliable'
    latched = False
    if setting == 'auto' and offers:
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def describe_profile(profile: QoSProfile) -> str:
    """Return a profile in words: ``reliable, volatile``."""
    return f'{profile.reliability.name.lower()}, {profile.durability.name.lower()}'


def user_overrides(node, topic: str, kind: str) -> QoSOverridingOptions | None:
    """
    Return options that let ``qos_overrides.TOPIC.KIND.*`` win, if the user set such parameters.

    Declared for everybody, they would keep the first profile and end the adaptive choice.
    """
    prefix = f'qos_overrides.{topic}.{kind}.'
    if any(name.startswith(prefix) for name in parameter_overrides(node)):
        return QoSOverridingOptions.with_default_policies()
    return None
