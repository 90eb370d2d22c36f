# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The transform tree of a bag: fixed poses of ``/tf_static`` and moving ones of ``/tf``.

Decision: a small tree instead of tf2, which needs a running ROS, with tf2's rules: rotations are
interpolated on the sphere and translations linearly between the two neighbours in time, nothing
is extrapolated, and 10 s are kept. A missing transform is an error: the identity in its place
would silently put every LiDAR point beside the image.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from marigold_ros.bags.topics import TopicInfo
from marigold_ros.errors import CalibrationError
from marigold_ros.message_codec import header_ns
from marigold_ros.pairing import CLOCK_JUMP_NS, is_clock_jump
import numpy as np

_TYPES = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')  # the second in old bags of ROS 1
_NORM_TOLERANCE = 1e-3  # single precision and hand-typed quaternions stay well within
_KEPT_NS = 10_000_000_000
_NANOSECONDS = 1_000_000_000

# Cosine of an angle below which chord and arc agree to 1e-9, and the sine is small to divide by.
_NEARLY_ONE = 1.0 - 1e-10

_Pose = tuple[np.ndarray, np.ndarray]


def pose_matrix(
    translation: Sequence[float] | np.ndarray, rotation_xyzw: Sequence[float] | np.ndarray
) -> np.ndarray:
    """
    Return a pose as a homogeneous matrix (4, 4), ``p_parent = T @ p_child``, in metres.

    Raises CalibrationError for a wrong count, values that are not finite, or a quaternion whose
    norm is not 1 within 0.001.
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


class TransformTree:
    """
    Poses between frames: fixed ones, and above them moving ones over the last ten seconds.

    As in tf2, the last fixed pose of a child counts. ``refused`` lists the invalid transforms of
    messages, in words.
    """

    def __init__(self) -> None:
        self._fixed: dict[str, tuple[str, np.ndarray]] = {}
        self._tracks: dict[str, _Track] = {}
        self.refused: list[str] = []

    def add(
        self, parent: str, child: str, translation: Sequence[float], rotation_xyzw: Sequence[float]
    ) -> None:
        """
        Add the fixed pose of ``child`` in ``parent``.

        Raises CalibrationError for an invalid pose, an empty name, or a frame below itself.
        """
        parent, child = _plain(parent), _plain(child)
        if not parent or not child or parent == child:
            raise CalibrationError(
                f"transform from '{child}' to '{parent}' needs two different frame names; "
                'check the publisher of /tf_static'
            )
        self._fixed[child] = (parent, pose_matrix(translation, rotation_xyzw))

    def add_message(self, message: Any, moving: bool = False) -> None:
        """
        Add all transforms of a tf2_msgs/TFMessage, of /tf if they are ``moving``.

        An invalid one, as with a quaternion of zeros, goes to ``refused``, which `lookup` quotes
        where a transform is missing; the others are added.
        """
        for item in message.transforms:
            parent, child = _plain(item.header.frame_id), _plain(item.child_frame_id)
            t, q = item.transform.translation, item.transform.rotation
            move, turn = (t.x, t.y, t.z), (q.x, q.y, q.z, q.w)
            try:
                if not moving:
                    self.add(parent, child, move, turn)
                    continue
                pose_matrix(move, turn)
            except CalibrationError as error:
                self.refused.append(f"'{parent}' <- '{child}': {error}")
                continue
            if child not in self._tracks or self._tracks[child].parent != parent:
                self._tracks[child] = _Track(parent)
            self._tracks[child].add(header_ns(item), (np.array(move), np.array(turn)))

    def clear(self) -> None:
        """Forget all moving frames, as after a clock jump."""
        self._tracks.clear()

    def lookup(
        self,
        target: str,
        source: str,
        stamp_ns: int | None = None,
        stale: dict[str, str] | None = None,
    ) -> np.ndarray:
        """
        Return the pose of ``source`` in ``target``: (4, 4) float64, ``p_target = T @ p_source``.

        With ``stamp_ns`` at that moment, else by fixed poses alone. Given ``stale``, the latest
        pose replaces one that is not known at that moment, and a warning for each frame whose pose
        is more than a second off is added there. A leading slash of a name (ROS 1) is ignored.
        Raises CalibrationError where a frame is unknown, nothing connects the two, or a pose
        between them is not known at its moment.
        """
        target, source = _plain(target), _plain(source)
        if target == source and target:
            return np.eye(4)
        from_target, target_end = self._ancestors(target, stamp_ns, stale)
        from_source, source_end = self._ancestors(source, stamp_ns, stale)
        common = next((frame for frame in from_source if frame in from_target), None)
        if common is None and (unknown := target_end or source_end):
            raise unknown
        known = {*self._fixed, *(parent for parent, _ in self._fixed.values())}
        kind, topic = 'static transform', '/tf_static'
        if stamp_ns is not None:
            known |= {*self._tracks, *(track.parent for track in self._tracks.values())}
            kind, topic = 'transform', '/tf and /tf_static'
        if common is None or target not in known or source not in known:
            refused = f'; refused: {" | ".join(self.refused)}' if self.refused else ''
            raise CalibrationError(
                f"no {kind} '{target}' <- '{source}'; known frames: "
                f'{", ".join(sorted(known)) or "none"}{refused}; record {topic}'
            )
        if stale:  # but not above both, as the pose of a vehicle in the world
            for frame in from_target.keys() & from_source.keys():
                stale.pop(frame, None)
        return _inverse(from_target[common]) @ from_source[common]

    def _parent(
        self, frame: str, stamp_ns: int | None, stale: dict[str, str] | None
    ) -> tuple[str, np.ndarray] | None:
        """Return the parent of a frame and the pose in it; None at the root."""
        track = None if stamp_ns is None else self._tracks.get(frame)
        if track is None or stamp_ns is None:
            return self._fixed.get(frame)
        pose = track.at(stamp_ns)
        if pose is None:
            first, last = (stamp / _NANOSECONDS for stamp in (track.stamps[0], track.stamps[-1]))
            text = (
                f"no transform '{track.parent}' <- '{frame}' at {stamp_ns / _NANOSECONDS:.3f} s, "
                f'it is known from {first:.3f} to {last:.3f} s; record /tf around every image and '
                'scan'
            )
            if stale is None:
                raise CalibrationError(text)
            pose = pose_matrix(*track.poses[-1])
            if abs(stamp_ns - track.stamps[-1]) > CLOCK_JUMP_NS:  # not just late
                stale[frame] = f'{text}: the latest one is used'
        return track.parent, pose

    def _ancestors(
        self, frame: str, stamp_ns: int | None, stale: dict[str, str] | None
    ) -> tuple[dict[str, np.ndarray], CalibrationError | None]:
        """Return the pose of a frame in itself and its ancestors, and why the last has no pose."""
        poses = {frame: np.eye(4)}
        pose = poses[frame]
        while True:
            try:
                above = self._parent(frame, stamp_ns, stale)
            except CalibrationError as error:
                return poses, error
            if above is None:
                return poses, None
            frame, step = above
            if frame in poses:
                raise CalibrationError(
                    f"transforms form a loop through '{frame}'; each frame may have one parent: "
                    'check the publishers of /tf and /tf_static'
                )
            poses[frame] = pose = step @ pose


def transform_topics(topics: Mapping[str, TopicInfo], last: str) -> list[str]:
    """Return the topics of transforms whose ``last`` name is 'tf_static', or 'tf'."""
    return [
        name
        for name, info in topics.items()
        if name.rpartition('/')[2] == last and info.msgtype in _TYPES
    ]


class EgoMotion:
    """
    The motion of camera and LiDAR in a fixed frame, as known from the messages so far.

    Messages of its ``topics``, which are chosen from those of the bag, go to ``tree``. An empty
    ``fixed_frame`` switches motion compensation off.
    """

    def __init__(
        self, topics: Mapping[str, TopicInfo], fixed_frame: str, tree: TransformTree
    ) -> None:
        self.fixed_frame, self.tree = fixed_frame, tree
        self.topics = transform_topics(topics, 'tf')

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
        Return the pose (4, 4) of the LiDAR at its scan in the camera at its image.

        ``camera`` and ``lidar`` are frame and stamp in nanoseconds. The camera's own motion is
        added to ``given`` extrinsics. Where the motion is unknown, which goes to ``warnings``, or
        compensation is off, it is not compensated; None, with a warning, without any pose.
        """
        source = lidar[0] if given is None else camera[0]
        if self.fixed_frame:
            try:
                there = self.tree.lookup(self.fixed_frame, source, lidar[1])
                moved = _inverse(self.tree.lookup(self.fixed_frame, *camera)) @ there
                return moved if given is None else moved @ given
            except CalibrationError:
                warnings.append(self._unknown(source))
        if given is not None:
            return given
        try:
            at_ns = lidar[1] if self.topics else None
            stale: dict[str, str] = {}
            pose = self.tree.lookup(camera[0], lidar[0], at_ns, stale)
            warnings += stale.values()
            return pose
        except CalibrationError as error:
            warnings.append(f'{error}, or set extrinsics.translation and extrinsics.rotation_xyzw')
        return None

    def _pose(self, frame_id: str, stamp_ns: int) -> np.ndarray | None:
        try:
            return self.tree.lookup(self.fixed_frame, frame_id, stamp_ns)
        except CalibrationError:
            return None

    def _unknown(self, frame_id: str) -> str:
        """Return the same warning for every image, so that warnings can be counted."""
        return (
            f"'{frame_id}' has no pose in '{self.fixed_frame}' at the time of image or scan: "
            'motion is not compensated; record /tf, or check lidar.fixed_frame'
        )


class _Track:
    """Poses of one frame in its parent, in order of time."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.stamps: list[int] = []
        self.poses: list[_Pose] = []

    def add(self, stamp_ns: int, pose: _Pose) -> None:
        place = bisect_left(self.stamps, stamp_ns)
        if place < len(self.stamps) and self.stamps[place] == stamp_ns:
            self.poses[place] = pose
            return
        if self.stamps and is_clock_jump(self.stamps[-1], stamp_ns):
            del self.stamps[place:], self.poses[place:]  # they were ahead of time
        self.stamps.insert(place, stamp_ns)
        self.poses.insert(place, pose)
        old = bisect_left(self.stamps, self.stamps[-1] - _KEPT_NS)
        del self.stamps[:old], self.poses[:old]

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Interpolate the pose (4, 4) at a moment; None outside the known time."""
        after = bisect_right(self.stamps, stamp_ns)
        if after and self.stamps[after - 1] == stamp_ns:
            return pose_matrix(*self.poses[after - 1])
        if not 0 < after < len(self.stamps):
            return None
        first, last = self.stamps[after - 1], self.stamps[after]
        share = (stamp_ns - first) / (last - first)
        (move, turn), (next_move, next_turn) = self.poses[after - 1], self.poses[after]
        return pose_matrix(move + share * (next_move - move), _slerp(turn, next_turn, share))


def _plain(frame: str) -> str:
    """Return a frame name without the leading slash of ROS 1."""
    return frame.removeprefix('/')


def _inverse(T: np.ndarray) -> np.ndarray:
    """Invert a rigid motion (4, 4)."""
    inverted = np.eye(4)
    inverted[:3, :3] = T[:3, :3].T
    inverted[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverted


def _slerp(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """Interpolate two unit quaternions by a share of the shorter way, without loading SciPy."""
    first, last = (q / np.linalg.norm(q) for q in (first, last))
    cosine = float(first @ last)
    if cosine < 0.0:
        last, cosine = -last, -cosine
    if cosine > _NEARLY_ONE:
        mixed = first + share * (last - first)
        return np.asarray(mixed / np.linalg.norm(mixed))
    angle = np.arccos(cosine)
    weights = np.sin((1.0 - share) * angle), np.sin(share * angle)
    return np.asarray((weights[0] * first + weights[1] * last) / np.sin(angle))
