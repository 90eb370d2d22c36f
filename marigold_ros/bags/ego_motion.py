# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Where a bag's sensors were in a frame that stands still, at the stamps of images and scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marigold_ros.bags.moving_transforms import MovingTransforms
from marigold_ros.bags.static_transforms import StaticTransforms
from marigold_ros.errors import CalibrationError
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.bags.reader import BagReader

_TYPE = 'tf2_msgs/msg/TFMessage'


class EgoMotion:
    """
    The motion of camera and LiDAR, as far as the messages so far tell it.

    Parameters
    ----------
    reader : BagReader
        An open bag.
    fixed_frame : str
        Frame that stands still; empty switches everything off.
    static : StaticTransforms
        The bag's /tf_static.

    ``topics`` are those whose messages ``transforms`` wants to have.

    """

    def __init__(self, reader: BagReader, fixed_frame: str, static: StaticTransforms) -> None:
        self.fixed_frame = fixed_frame
        self.topics = [
            name
            for name, info in reader.topics.items()
            if fixed_frame and name.rpartition('/')[2] == 'tf' and info.msgtype == _TYPE
        ]
        self.transforms = MovingTransforms(static)

    def may_come(self, frame_id: str, stamp_ns: int) -> bool:
        """Tell whether a pose is unknown that a later message can still bring."""
        return bool(self.topics) and self._place(frame_id, stamp_ns) is None

    def camera_pose(self, frame_id: str, stamp_ns: int, warnings: list[str]) -> np.ndarray | None:
        """Pose of a camera in the fixed frame, (4, 4); None, with a warning, where unknown."""
        if not self.fixed_frame:
            return None
        place = self._place(frame_id, stamp_ns)
        if place is None:
            warnings.append(self._unknown(frame_id))
        return place

    def scan_pose(
        self,
        camera: tuple[str, int],
        lidar: tuple[str, int],
        given: np.ndarray | None,
        warnings: list[str],
    ) -> np.ndarray | None:
        """
        Pose of the LiDAR at its scan in the camera at its image, (4, 4).

        Parameters
        ----------
        camera, lidar : (str, int)
            Frame and stamp in ns of each.
        given : (4, 4) float or None
            Extrinsics that count in place of the bag's: then the camera's own motion is added.
        warnings : list of str
            Told what is missing.

        Returns
        -------
        (4, 4) float64 or None
            None where the motion is not known, or is not wanted.

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

    def _place(self, frame_id: str, stamp_ns: int) -> np.ndarray | None:
        try:
            return self.transforms.lookup(self.fixed_frame, frame_id, stamp_ns)
        except CalibrationError:
            return None

    def _unknown(self, frame_id: str) -> str:
        """Say the same of every frame, so that warnings can be counted."""
        return (
            f"'{frame_id}' has no pose in '{self.fixed_frame}' at the time of image or scan: "
            'motion is not compensated; record /tf, or check lidar.fixed_frame'
        )
