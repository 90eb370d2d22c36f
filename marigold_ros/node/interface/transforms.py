# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Extrinsics of LiDAR and camera: from parameters, else from tf2, never guessed.

Decision: a missing transform is an error that names both frames. The identity in its place gives
metres that look right and are wrong. Lookups have tf2's default timeout of 0: the transform may
well arrive with the next frame, and waiting would block.
"""

from collections.abc import Callable
from typing import Any

from marigold_ros.bags.transforms import pose_matrix
from marigold_ros.config import ExtrinsicsConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.message_codec import header_ns
from marigold_ros.node.ros_helpers import to_stamp
from marigold_ros.pairing import CLOCK_JUMP_NS
import numpy as np
from rclpy.time import Time


class Extrinsics:
    """
    ``T_cam_lidar`` for a pair of frames.

    ``node`` subscribes to /tf and /tf_static, unless the parameters hold the extrinsics;
    ego-motion is looked up through ``fixed_frame``, or not compensated if that is empty. With
    ``more_frames``, poses of other frames are looked up too. ``buffer`` is tf2's, None without it.
    """

    def __init__(
        self, node, config: ExtrinsicsConfig, fixed_frame: str = '', more_frames: bool = False
    ) -> None:
        self._node = node
        self._fixed, self.source = None, 'none (tf2_ros is not installed)'
        self.fixed_frame = fixed_frame
        self.buffer: Any = None
        self._listener: Any = None
        self.latest_used = self.not_moved = 0
        if config.translation:
            self._fixed = pose_matrix(config.translation, config.rotation_xyzw)
            self.source = 'parameters extrinsics.*'
            if not (fixed_frame or more_frames):
                return
        try:
            import tf2_ros
        except ImportError:
            return
        self._errors = tf2_ros.TransformException
        # Without the node, for which it would create a service that outlives this object.
        self.buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self.buffer, node, spin_thread=False)
        self.source = 'tf2' if self._fixed is None else self.source

    def lookup(
        self,
        camera_frame: str,
        lidar_frame: str,
        stamp_ns: int,
        image_ns: int | None = None,
        is_first: bool = True,
    ) -> np.ndarray:
        """
        Look up the pose of the LiDAR in the camera's optical frame.

        Without a transform at the scan's ``stamp_ns`` the latest one is used, and ``latest_used``
        counts how often. With a fixed frame, the motion between scan and image is compensated;
        ``not_moved`` counts how often tf2 does not know it. Parameters are those of the first
        source. Returns (4, 4) float64: ``p_cam = T @ p_lidar``. Raises CalibrationError if there
        is neither a parameter nor a transform.
        """
        moved, given = None, self._fixed if is_first else None
        if self.fixed_frame and image_ns is not None:
            source = lidar_frame if given is None else camera_frame
            stamps = _time(image_ns), _time(stamp_ns)
            moved = self._known(
                lambda buffer: buffer.lookup_transform_full(
                    camera_frame, stamps[0], source, stamps[1], self.fixed_frame
                )
            )
            self.not_moved += moved is None
        if given is not None:
            return given if moved is None else moved @ given
        if moved is not None:
            return moved
        settings = 'extrinsics.translation and extrinsics.rotation_xyzw'
        settings = settings if is_first else f'{settings}, with this sensor first in sparse_source'
        return self.pose(camera_frame, lidar_frame, stamp_ns, settings)

    def is_settled(
        self, camera_frame: str, lidar_frame: str, stamp_ns: int, is_first: bool
    ) -> bool:
        """Return whether `lookup` of a scan knows all that may come: nothing better by waiting."""
        if self.fixed_frame:  # odometry of the image's time often comes after the image
            return False
        if (self._fixed is not None and is_first) or lidar_frame in ('', camera_frame):
            return True
        at_scan = _time(stamp_ns)
        found = self._known(lambda b: b.lookup_transform(camera_frame, lidar_frame, at_scan))
        return found is not None

    def pose(self, camera_frame: str, frame: str, stamp_ns: int, settings: str) -> np.ndarray:
        """
        Look up the pose (4, 4) of any frame in the camera's, the latest one if need be.

        One that is more than a second off is reported, too: what moves has moved since.
        ``settings`` are named as the remedy where there is none (CalibrationError).
        """
        if frame and frame == camera_frame:  # which tf2 knows only once a transform names it
            return np.eye(4)
        if self.buffer is None:
            raise CalibrationError(
                f'no transform {camera_frame} <- {frame}: tf2 is not installed; set {settings}'
            )
        try:
            found = self.buffer.lookup_transform(camera_frame, frame, _time(stamp_ns))
        except self._errors as at_stamp:
            try:
                found = self.buffer.lookup_transform(camera_frame, frame, Time())
            except self._errors:
                raise CalibrationError(
                    f'no transform {camera_frame} <- {frame} at {stamp_ns / 1e9:.3f} s; '
                    f'publish it or set {settings}: {at_stamp}'
                ) from at_stamp
            self.latest_used += 1
            apart_ns = abs(stamp_ns - header_ns(found))
            if apart_ns > CLOCK_JUMP_NS:  # not just late
                text = f'{camera_frame} <- {frame} is {apart_ns / 1e9:.1f} s off'
                text = f'the latest transform {text}: does its publisher run, by the same clock?'
                self._node.health.report('transform', text)
        return _matrix(found)

    def camera_pose(self, camera_frame: str, stamp_ns: int) -> np.ndarray | None:
        """Look up the camera's pose (4, 4) in the fixed frame; None if there is no such pose."""
        if not self.fixed_frame:
            return None
        at_image = _time(stamp_ns)
        return self._known(
            lambda buffer: buffer.lookup_transform(self.fixed_frame, camera_frame, at_image)
        )

    def _known(self, look_up: Callable[[Any], Any]) -> np.ndarray | None:
        """Return the pose that tf2's buffer knows; None if it does not know it (yet)."""
        try:
            return None if self.buffer is None else _matrix(look_up(self.buffer))
        except (self._errors, CalibrationError):
            return None

    def clear(self) -> None:
        """Forget transforms after a clock jump; older releases of tf2 do not do so themselves."""
        if self.buffer is not None:
            self.buffer.clear()

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
        self._listener = self.buffer = None


def _time(stamp_ns: int) -> Time:
    """Return the time of a stamp; before 0 there is none in ROS: the latest, which 0 means."""
    return Time.from_msg(to_stamp(max(0, stamp_ns)))


def _matrix(stamped) -> np.ndarray:
    """Return the pose of a TransformStamped as (4, 4)."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    return pose_matrix((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
