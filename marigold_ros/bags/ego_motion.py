# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Poses of a bag's camera and LiDAR in a fixed frame, at the stamps of images and scans."""

from collections.abc import Mapping

from marigold_ros.bags.topics import TopicInfo
from marigold_ros.bags.transforms import MovingTransforms, StaticTransforms
from marigold_ros.errors import CalibrationError
import numpy as np

_TYPE = 'tf2_msgs/msg/TFMessage'


class EgoMotion:
    """
    The motion of camera and LiDAR, as far as it is known from the messages so far.

    Parameters
    ----------
    topics : mapping of str to TopicInfo
        All topics of the bag.
    fixed_frame : str
        Frame that does not move in the world; empty switches motion compensation off.
    static : StaticTransforms
        The bag's /tf_static.

    Messages of ``topics`` go to ``transforms``.

    """

    def __init__(
        self, topics: Mapping[str, TopicInfo], fixed_frame: str, static: StaticTransforms
    ) -> None:
        self.fixed_frame = fixed_frame
        self.topics = [
            name
            for name, info in topics.items()
            if fixed_frame and name.rpartition('/')[2] == 'tf' and info.msgtype == _TYPE
        ]
        self.transforms = MovingTransforms(static)

    def may_come(self, frame_id: str, stamp_ns: int) -> bool:
        """Return whether a pose is unknown that a later message can still bring."""
        return bool(self.topics) and self._pose(frame_id, stamp_ns) is None

    def camera_pose(self, frame_id: str, stamp_ns: int, warnings: list[str]) -> np.ndarray | None:
        """Return a camera's pose (4, 4) in the fixed frame; None, with a warning, if unknown."""
        if not self.fixed_frame:
            return None
        pose = self._pose(frame_id, stamp_ns)
        if pose is None:
            warnings.append(self._unknown(frame_id))
        return pose

    def scan_pose(
        self,
        camera: tuple[str, int],
        lidar: tuple[str, int],
        given: np.ndarray | None,
        warnings: list[str],
    ) -> np.ndarray | None:
        """
        Return the pose of the LiDAR at its scan in the camera at its image.

        Parameters
        ----------
        camera, lidar : (str, int)
            Frame and stamp in nanoseconds of each.
        given : (4, 4) float or None
            Extrinsics in place of the bag's, to which the camera's own motion is added.
        warnings : list of str
            Receives the frame whose pose is unknown.

        Returns
        -------
        (4, 4) float64 or None
            None where the motion is unknown, or compensation is off.

        """
        if not self.fixed_frame:
            return None
        source = lidar[0] if given is None else camera[0]
        try:
            moved = self.transforms.lookup_full(*camera, source, lidar[1], self.fixed_frame)
        except CalibrationError:
            warnings.append(self._unknown(source))
            return None
        return moved if given is None else moved @ given

    def _pose(self, frame_id: str, stamp_ns: int) -> np.ndarray | None:
        try:
            return self.transforms.lookup(self.fixed_frame, frame_id, stamp_ns)
        except CalibrationError:
            return None

    def _unknown(self, frame_id: str) -> str:
        """Return the same warning for every image, so that warnings can be counted."""
        return (
            f"'{frame_id}' has no pose in '{self.fixed_frame}' at the time of image or scan: "
            'motion is not compensated; record /tf, or check lidar.fixed_frame'
        )
