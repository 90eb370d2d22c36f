# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Poses that change, from ``/tf``, at any moment: what a buffer of tf2 knows, without ROS.

As in tf2, rotations are interpolated on the sphere and translations on the line between the two
neighbours in time, nothing is extrapolated, and 10 s are kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from marigold_ros.bags.stamps import header_ns
from marigold_ros.bags.static_transforms import inverse, plain, pose_matrix, StaticTransforms
from marigold_ros.errors import CalibrationError
from marigold_ros.pairing import CLOCK_JUMP_NS
import numpy as np

_KEPT_NS = 10_000_000_000
_NANOSECONDS = 1_000_000_000
# Cosine of an angle below which chord and arc agree to 1e-9, and the sine is small to divide by.
_NEARLY_ONE = 1.0 - 1e-10

_Pose = tuple[np.ndarray, np.ndarray]


class MovingTransforms:
    """
    Frames of ``/tf`` above fixed ones, for the last ten seconds.

    Parameters
    ----------
    static : StaticTransforms
        The tree of ``/tf_static``.

    """

    def __init__(self, static: StaticTransforms) -> None:
        self._static = static
        self._tracks: dict[str, _Track] = {}

    def is_jump(self, message: Any) -> bool:
        """Tell whether a message is so far behind its frames' newest that the clock has jumped."""
        return any(
            self._newest(item) - header_ns(item) > CLOCK_JUMP_NS for item in message.transforms
        )

    def add_message(self, message: Any) -> None:
        """Add a tf2_msgs/TFMessage; an invalid transform in it does not corrupt the others."""
        for item in message.transforms:
            move, turn = item.transform.translation, item.transform.rotation
            parent, child = plain(item.header.frame_id), plain(item.child_frame_id)
            pose = (move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w)
            try:
                pose_matrix(*pose)
            except CalibrationError as error:
                self._static.refused.append(f"'{parent}' <- '{child}': {error}")
                continue
            if child not in self._tracks or self._tracks[child].parent != parent:
                self._tracks[child] = _Track(parent)
            self._tracks[child].add(header_ns(item), (np.array(pose[0]), np.array(pose[1])))

    def clear(self) -> None:
        """Forget all that moves, as after a clock jump."""
        self._tracks.clear()

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """
        Find the pose of ``source`` in ``target`` at one moment.

        Returns
        -------
        (4, 4) float64
            ``p_target = T @ p_source``.

        Raises
        ------
        CalibrationError
            Where nothing connects the two, or a pose is not known at that moment.

        """
        return _Moment(self._static, self._tracks, stamp_ns).lookup(target, source)

    def lookup_full(
        self, target: str, target_ns: int, source: str, source_ns: int, fixed: str
    ) -> np.ndarray:
        """
        Find where ``source`` at one moment lies in ``target`` at another, by what stands still.

        Parameters
        ----------
        target, source, fixed : str
            Frame names; ``fixed`` does not move in the world.
        target_ns, source_ns : int, nanoseconds
            The two moments.

        Returns
        -------
        (4, 4) float64
            ``p_target(target_ns) = T @ p_source(source_ns)``.

        Raises
        ------
        CalibrationError
            As :meth:`lookup`.

        """
        there = self.lookup(fixed, source, source_ns)
        return inverse(self.lookup(fixed, target, target_ns)) @ there

    def _newest(self, item: Any) -> int:
        track = self._tracks.get(plain(item.child_frame_id))
        return track.stamps[-1] if track is not None else header_ns(item)


class _Track:
    """Poses of one frame in the one above, in order of time."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.stamps: list[int] = []
        self._poses: list[_Pose] = []

    def add(self, stamp_ns: int, pose: _Pose) -> None:
        place = bisect_left(self.stamps, stamp_ns)
        if place < len(self.stamps) and self.stamps[place] == stamp_ns:
            self._poses[place] = pose
            return
        self.stamps.insert(place, stamp_ns)
        self._poses.insert(place, pose)
        old = bisect_left(self.stamps, self.stamps[-1] - _KEPT_NS)
        del self.stamps[:old], self._poses[:old]

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Pose at a moment, (4, 4); None before the first and behind the last."""
        after = bisect_right(self.stamps, stamp_ns)
        if after and self.stamps[after - 1] == stamp_ns:
            return pose_matrix(*self._poses[after - 1])
        if not 0 < after < len(self.stamps):
            return None
        first, last = self.stamps[after - 1], self.stamps[after]
        share = (stamp_ns - first) / (last - first)
        (move, turn), (next_move, next_turn) = self._poses[after - 1], self._poses[after]
        return pose_matrix(move + share * (next_move - move), slerp(turn, next_turn, share))


class _Moment(StaticTransforms):
    """The tree at one moment."""

    _kind, _topic = 'transform', '/tf and /tf_static'

    def __init__(self, static: StaticTransforms, tracks: dict[str, _Track], stamp_ns: int) -> None:
        super().__init__()
        self._static, self._tracks, self._stamp_ns = static, tracks, stamp_ns
        self.refused = static.refused

    @property
    def frames(self) -> list[str]:
        moving = {track.parent for track in self._tracks.values()} | set(self._tracks)
        return sorted(moving | set(self._static.frames))

    def _parent(self, frame: str) -> tuple[str, np.ndarray] | None:
        track = self._tracks.get(frame)
        if track is None:
            return self._static._parent(frame)
        pose = track.at(self._stamp_ns)
        if pose is None:
            known = [
                f'{stamp / _NANOSECONDS:.3f}' for stamp in (track.stamps[0], track.stamps[-1])
            ]
            raise CalibrationError(
                f"no transform '{track.parent}' <- '{frame}' at "
                f'{self._stamp_ns / _NANOSECONDS:.3f} s, it is known from {known[0]} to '
                f'{known[1]} s; record /tf around every image and scan'
            )
        return track.parent, pose


def slerp(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """Unit quaternion a share of the shorter way from the first to the last."""
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
