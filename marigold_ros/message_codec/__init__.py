# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Facade of the codec: ROS messages to arrays (``to_…``), and arrays to their fields (``encode_…``).

Decision: one codec serves live messages (rclpy), bag messages (rosbags, ROS 1 and 2) and plain
objects in tests, because it reads attributes and never asks for a class; hence no ROS import.
cv_bridge was rejected (its released binaries break with NumPy 2), sensor_msgs_py too (it swaps
the axes of organised clouds), and rosbags-image (it ignores ``step`` and truncates 16-bit PNG).
Every malformed message raises ``InputError`` with a cause for the counters, never IndexError.
"""

from marigold_ros.message_codec.buffers import header_ns, serialised_header_ns
from marigold_ros.message_codec.cameras import camera_info_fields, to_camera
from marigold_ros.message_codec.clouds import (
    CloudFields,
    encode_cloud,
    has_field,
    returned,
    row_step,
    scan_to_points,
    to_organised,
    to_points,
)
from marigold_ros.message_codec.images import (
    check_image,
    CompressedFields,
    encode_compressed_depth,
    encode_depth,
    encode_image,
    encode_jpeg,
    IMAGE_ENCODINGS,
    ImageFields,
    to_depth,
    to_rgb,
)

__all__ = [
    'IMAGE_ENCODINGS',
    'CloudFields',
    'CompressedFields',
    'ImageFields',
    'camera_info_fields',
    'check_image',
    'encode_cloud',
    'encode_compressed_depth',
    'encode_depth',
    'encode_image',
    'encode_jpeg',
    'has_field',
    'header_ns',
    'returned',
    'row_step',
    'scan_to_points',
    'serialised_header_ns',
    'to_camera',
    'to_depth',
    'to_organised',
    'to_points',
    'to_rgb',
]
