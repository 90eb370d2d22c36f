# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Views of a synthetic street as ROS messages with any stamp."""

from __future__ import annotations

import copy
from typing import Any

from marigold_ros.bags.transforms import pose_matrix
from marigold_ros.errors import MarigoldError
from marigold_ros.frame import Camera, Frame
from marigold_ros.geometry import unproject_depth
from marigold_ros.message_codec import (
    camera_info_fields,
    encode_cloud,
    encode_image,
    encode_jpeg,
    to_camera,
    to_points,
    to_rgb,
)
from marigold_ros.node.ros_helpers import (
    cloud_message,
    compressed_message,
    image_message,
    info_message,
    to_stamp,
)
from marigold_ros.pipeline import FramePipeline
from marigold_ros.synthetic.drive.drive import simulate_drive
import numpy as np
from std_msgs.msg import Header

WIDTH, HEIGHT, VIEWS = 160, 120, 6
_TRANSLATION = [0.0, -0.2, 0.1]
_ROTATION = [0.5, -0.5, 0.5, 0.5]  # x forward, y left, z up to z forward, x right, y down


def mounting_parameters() -> dict[str, list[float]]:
    """Return the extrinsics of the views as parameters of the node."""
    return {'extrinsics.translation': _TRANSLATION, 'extrinsics.rotation_xyzw': _ROTATION}


class View:
    """An image, its scan and camera as messages with any stamp, and the expected depth."""

    def __init__(self, rgb: np.ndarray, points: np.ndarray, camera: Camera) -> None:
        self._rgb, self._camera = encode_image(rgb, 'rgb8'), camera_info_fields(camera)
        self._jpeg = encode_jpeg(rgb)
        cloud = np.zeros((1, len(points)), [(axis, '<f4') for axis in 'xyz'])
        for column, axis in enumerate('xyz'):
            cloud[axis] = points[:, column]
        self._cloud = encode_cloud(cloud)
        self.depth: dict[str, np.ndarray] = {}

    def message(self, role: str, stamp: int) -> Any:
        """Return the message of an input: image, compressed, info or scan."""
        frame = 'lidar' if role == 'scan' else 'camera_optical'
        header = Header(stamp=to_stamp(stamp), frame_id=frame)
        if role == 'image':
            return image_message(header, self._rgb)
        if role == 'compressed':
            return compressed_message(header, self._jpeg)
        if role == 'info':
            return info_message(header, self._camera)
        return copy.deepcopy(cloud_message(header, self._cloud))

    def frame(self, role: str = 'image') -> Frame:
        """Return the frame that the messages decode to."""
        return Frame(
            rgb=to_rgb(self.message(role, 0)),
            camera=to_camera(self.message('info', 0)),
            points_lidar=to_points(self.message('scan', 0)),
            T_cam_lidar=pose_matrix(_TRANSLATION, _ROTATION),
        )

    def solve(self, role: str, pipeline: FramePipeline) -> None:
        """Compute the expected depth with the pipeline, without ROS."""
        depth = pipeline.process(self.frame(role)).metric
        if depth is None:
            raise MarigoldError('a view has no depth without ROS; use another seed')
        self.depth[role] = depth


def views(seed: int, width: int = WIDTH, height: int = HEIGHT, points: int = 600) -> list[View]:
    """Render views along a synthetic street, each with a scan of the same place."""
    drive = simulate_drive(VIEWS, 1.0, seed, width, height)
    T_lidar_cam = np.linalg.inv(pose_matrix(_TRANSLATION, _ROTATION))
    made = []
    for frame in drive.frames:
        v, u = np.nonzero(np.isfinite(frame.depth) & (frame.depth < 60.0))
        few = np.random.default_rng(seed).choice(len(u), points, replace=False)
        optical = unproject_depth(frame.depth, drive.camera.K)[v[few], u[few]]
        lidar = optical @ T_lidar_cam[:3, :3].T + T_lidar_cam[:3, 3]
        made.append(View(frame.rgb, lidar, drive.camera))
    return made
