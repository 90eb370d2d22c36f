# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Where the LiDAR is, seen from the camera: parameters first, then tf2, never a guess.

Decision: a missing transform is an error that names both frames. Answering with the identity, as
some nodes do, gives metres that look right and are wrong.
"""

from __future__ import annotations

from typing import Any

from marigold_ros.bags.transforms import pose_matrix
from marigold_ros.config import ExtrinsicsConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.node.interface.messages import to_stamp
import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time


class Extrinsics:
    """
    ``T_cam_lidar`` for a pair of frames.

    Parameters
    ----------
    node : rclpy.node.Node
        Listens to /tf and /tf_static, unless the parameters say where the LiDAR is.
    config : ExtrinsicsConfig
        The parameters.
    fixed_frame : str
        Frame that stands still, through which motion is looked up; empty leaves that out.

    """

    def __init__(self, node, config: ExtrinsicsConfig, fixed_frame: str = '') -> None:
        self._fixed = None
        self.fixed_frame = fixed_frame
        self._buffer: Any = None
        self._listener: Any = None
        self.source = 'none'
        self.latest_used = 0
        self.not_moved = 0
        if config.translation:
            self._fixed = pose_matrix(config.translation, config.rotation_xyzw)
            self.source = 'parameters extrinsics.*'
            if not fixed_frame:
                return
        try:
            import tf2_ros
        except ImportError:
            if self._fixed is None:
                self.source = 'none (tf2_ros is not installed)'
            return
        self._errors = tf2_ros.TransformException
        # Not told of the node: it would offer a service that outlives this object.
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self.source = 'tf2' if self._fixed is None else self.source

    def lookup(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int, image_ns: int | None = None
    ) -> np.ndarray:
        """
        Pose of the LiDAR in the camera's optical frame.

        Parameters
        ----------
        camera_frame, lidar_frame : str
            Frames of the image and of the scan.
        stamp_ns : int, nanoseconds
            The scan's stamp; the latest transform serves where none of that time is known, and
            ``latest_used`` counts how often.
        image_ns : int or None, nanoseconds
            The image's stamp: with a fixed frame, the LiDAR's pose at its scan is that in the
            camera at its image, and ``not_moved`` counts where tf2 does not know the motion.

        Returns
        -------
        (4, 4) float64
            ``p_cam = T @ p_lidar``.

        Raises
        ------
        CalibrationError
            If there is neither a parameter nor a transform.

        """
        moved = None
        if self.fixed_frame and image_ns is not None:
            source = lidar_frame if self._fixed is None else camera_frame
            moved = self._moved((camera_frame, image_ns), (source, stamp_ns))
        if self._fixed is not None:
            return self._fixed if moved is None else moved @ self._fixed
        if moved is not None:
            return moved
        if self._buffer is None:
            raise CalibrationError(
                f'no transform {camera_frame} <- {lidar_frame}: tf2 is not installed; set '
                'extrinsics.translation and extrinsics.rotation_xyzw'
            )
        # Timeout 0: waiting would block while the transform may well arrive with the next frame.
        at_scan = Time.from_msg(to_stamp(stamp_ns))
        try:
            found = self._lookup(camera_frame, lidar_frame, at_scan)
        except self._errors as at_stamp:
            try:
                found = self._lookup(camera_frame, lidar_frame, Time())
            except self._errors:
                raise CalibrationError(
                    f'no transform {camera_frame} <- {lidar_frame} at {stamp_ns / 1e9:.3f} s; '
                    f'publish it or set extrinsics.*: {at_stamp}'
                ) from at_stamp
            self.latest_used += 1
        return _matrix(found)

    def camera_pose(self, camera_frame: str, stamp_ns: int) -> np.ndarray | None:
        """Pose of the camera in the fixed frame, (4, 4); None where there is none or no answer."""
        if not self.fixed_frame or self._buffer is None:
            return None
        try:
            at_image = Time.from_msg(to_stamp(stamp_ns))
            return _matrix(self._lookup(self.fixed_frame, camera_frame, at_image))
        except (self._errors, CalibrationError):
            return None

    def _moved(self, target: tuple[str, int], source: tuple[str, int]) -> np.ndarray | None:
        """Pose of a frame at one time in another frame at another time; None if not known yet."""
        if self._buffer is not None:
            (target_frame, target_ns), (source_frame, source_ns) = target, source
            try:
                found = self._buffer.lookup_transform_full(
                    target_frame,
                    Time.from_msg(to_stamp(target_ns)),
                    source_frame,
                    Time.from_msg(to_stamp(source_ns)),
                    self.fixed_frame,
                    timeout=Duration(seconds=0.0),
                )
                return _matrix(found)
            except (self._errors, CalibrationError):
                pass  # the pose without motion serves, and the counter tells
        self.not_moved += 1
        return None

    def _lookup(self, target: str, source: str, time: Time):
        return self._buffer.lookup_transform(target, source, time, timeout=Duration(seconds=0.0))

    def clear(self) -> None:
        """Forget moving transforms after a clock jump; older releases of tf2 do not do so."""
        if self._buffer is not None:
            self._buffer.clear()

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
        self._listener = self._buffer = None


def _matrix(stamped) -> np.ndarray:
    """Give the pose of a TransformStamped as (4, 4)."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    return pose_matrix((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
