# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Where the LiDAR is, seen from the camera: parameters first, then tf2, never a guess.

Decision: a missing transform is an error that names both frames. Answering with the identity, as
some nodes do, gives metres that look right and are wrong.
"""

from __future__ import annotations

from typing import Any

from marigold_ros.bags.static_transforms import pose_matrix
from marigold_ros.config import ExtrinsicsConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.node.messages import to_stamp
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

    """

    def __init__(self, node, config: ExtrinsicsConfig) -> None:
        self._fixed = None
        self._buffer: Any = None
        self._listener: Any = None
        self.source = 'none'
        self.latest_used = 0
        if config.translation:
            self._fixed = pose_matrix(config.translation, config.rotation_xyzw)
            self.source = 'parameters extrinsics.*'
            return
        try:
            import tf2_ros
        except ImportError:
            self.source = 'none (tf2_ros is not installed)'
            return
        self._errors = tf2_ros.TransformException
        # Not told of the node: it would offer a service that outlives this object.
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self.source = 'tf2'

    def lookup(self, camera_frame: str, lidar_frame: str, stamp_ns: int) -> np.ndarray:
        """
        Pose of the LiDAR in the camera's optical frame.

        Parameters
        ----------
        camera_frame, lidar_frame : str
            Frames of the picture and of the scan.
        stamp_ns : int, nanoseconds
            The scan's stamp; the latest transform serves where none of that time is known, and
            ``latest_used`` counts how often.

        Returns
        -------
        (4, 4) float64
            ``p_cam = T @ p_lidar``.

        Raises
        ------
        CalibrationError
            If there is neither a parameter nor a transform.

        """
        if self._fixed is not None:
            return self._fixed
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
        move, turn = found.transform.translation, found.transform.rotation
        return pose_matrix((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))

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
