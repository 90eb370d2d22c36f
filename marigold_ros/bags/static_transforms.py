# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The tree of ``/tf_static``: poses between frames that never move against each other.

Decision: a dozen lines instead of tf2, which needs a running ROS. A missing transform is an
error: the identity in its place would put every LiDAR point beside the image, unnoticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marigold_ros.errors import CalibrationError
import numpy as np

_NORM_TOLERANCE = 1e-3  # single precision and hand-typed quaternions stay well within


def pose_matrix(
    translation: Sequence[float] | np.ndarray, rotation_xyzw: Sequence[float] | np.ndarray
) -> np.ndarray:
    """
    Make a homogeneous matrix of a pose.

    Parameters
    ----------
    translation : (3,) float, metres
        Origin of the child frame in the parent frame.
    rotation_xyzw : (4,) float
        Unit quaternion in the order of geometry_msgs.

    Returns
    -------
    (4, 4) float64
        ``p_parent = T @ p_child``.

    Raises
    ------
    CalibrationError
        For a wrong count, values that are not finite, or a norm not within 0.001 of 1.

    """
    t = np.asarray(translation, np.float64).reshape(-1)
    q = np.asarray(rotation_xyzw, np.float64).reshape(-1)
    if t.size != 3 or q.size != 4 or not (np.isfinite(t).all() and np.isfinite(q).all()):
        raise CalibrationError(
            f'pose has translation {t.tolist()} and rotation_xyzw {q.tolist()}; '
            'give 3 and 4 finite numbers'
        )
    norm = float(np.linalg.norm(q))
    if abs(norm - 1.0) > _NORM_TOLERANCE:
        raise CalibrationError(
            f'rotation_xyzw {q.tolist()} has norm {norm:g}; a rotation has norm 1: '
            'check the order x y z w and the values'
        )
    x, y, z, w = q / norm
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = t
    return T


class StaticTransforms:
    """Frames and the fixed poses between them; as in tf2, the last pose of a child counts."""

    _kind, _topic = 'static transform', '/tf_static'

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}
        self.refused: list[str] = []

    def __len__(self) -> int:
        return len(self._parents)

    @property
    def frames(self) -> list[str]:
        """All known frames in alphabetical order."""
        return sorted(set(self._parents) | {parent for parent, _ in self._parents.values()})

    def add(
        self,
        parent: str,
        child: str,
        translation: Sequence[float],
        rotation_xyzw: Sequence[float],
    ) -> None:
        """
        Add the pose of ``child`` in ``parent``.

        Raises
        ------
        CalibrationError
            For a pose that is none (``pose_matrix``), an empty name, or a frame below itself.

        """
        parent, child = plain(parent), plain(child)
        if not parent or not child or parent == child:
            raise CalibrationError(
                f"transform from '{child}' to '{parent}' needs two different frame names; "
                'check the publisher of /tf_static'
            )
        self._parents[child] = (parent, pose_matrix(translation, rotation_xyzw))

    def add_message(self, message: Any) -> None:
        """
        Add all transforms of a tf2_msgs/TFMessage.

        One that is invalid, as with a quaternion of zeros, does not corrupt the others: its error
        goes to ``refused``, and ``lookup`` quotes it where a transform is missing.
        """
        for stamped in message.transforms:
            t, q = stamped.transform.translation, stamped.transform.rotation
            parent, child = stamped.header.frame_id, stamped.child_frame_id
            try:
                self.add(parent, child, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
            except CalibrationError as error:
                self.refused.append(f"'{parent}' <- '{child}': {error}")

    def lookup(self, target: str, source: str) -> np.ndarray:
        """
        Find the pose of ``source`` in ``target``.

        Parameters
        ----------
        target, source : str
            Frame names; a leading slash (ROS 1) is ignored.

        Returns
        -------
        (4, 4) float64
            ``p_target = T @ p_source``.

        Raises
        ------
        CalibrationError
            Where a frame is unknown or nothing connects the two.

        """
        target, source = plain(target), plain(source)
        if target == source and target:
            return np.eye(4)
        from_target, from_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in from_source if frame in from_target), None)
        known = {*self.frames}
        if common is None or target not in known or source not in known:
            refused = f'; refused: {" | ".join(self.refused)}' if self.refused else ''
            raise CalibrationError(
                f"no {self._kind} '{target}' <- '{source}'; known frames: "
                f'{", ".join(sorted(known)) or "none"}{refused}; '
                f'record {self._topic}, or give the extrinsics yourself'
            )
        return inverse(from_target[common]) @ from_source[common]

    def _parent(self, frame: str) -> tuple[str, np.ndarray] | None:
        """Give the frame above and the pose in it; None at the root."""
        return self._parents.get(frame)

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Map a frame and all above it to the frame's pose in each, nearest first."""
        poses = {frame: np.eye(4)}
        pose = poses[frame]
        while (above := self._parent(frame)) is not None:
            frame, step = above
            if frame in poses:
                raise CalibrationError(
                    f"{self._kind}s form a loop through '{frame}'; "
                    f'each frame may have one parent: check the publishers of {self._topic}'
                )
            pose = step @ pose
            poses[frame] = pose
        return poses


def plain(frame: str) -> str:
    """Frame name without the leading slash of ROS 1."""
    return frame.removeprefix('/')


def inverse(T: np.ndarray) -> np.ndarray:
    """Inverse of a rigid motion (4, 4)."""
    inverted = np.eye(4)
    inverted[:3, :3] = T[:3, :3].T
    inverted[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverted
