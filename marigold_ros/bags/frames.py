# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Frames of a bag: each picture with its camera, its scan, its extrinsics and its truth.

Decision: a bag is in the order of arrival, while pictures and scans belong together by header
stamp, so a picture waits until its partners are known. The wait is bounded by log time: a sensor
that died must not make the whole rest of the bag pile up in memory. Nothing that a single message
does wrong ends the stream; it is told in ``error`` or ``warning``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from marigold_ros.bags.ego_motion import EgoMotion
from marigold_ros.bags.partners import CameraInfos, Truths
from marigold_ros.bags.scans import decode_scan, Scan
from marigold_ros.bags.topics import BagTopics, is_rectified_name
from marigold_ros.config import LidarConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.frame import Frame
from marigold_ros.message_codec import to_rgb
from marigold_ros.pairing import CLOCK_JUMP_NS, ScanBuffer
import numpy as np

if TYPE_CHECKING:
    from marigold_ros.bags.reader import BagReader

LOOK_AHEAD_NS = 2_000_000_000  # of log time; sensors come 0.2 s late at most in practice
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class BagFrame:
    """
    One picture of a bag and what belongs to it.

    Parameters
    ----------
    frame : Frame or None
        None where ``error`` is set.
    image_message : object or None
        The picture's message, None where not even that could be read.
    stamp_ns : int, nanoseconds
        The picture's header stamp (its log time where there is no message).
    truth : (H, W) float32 or None, metres
        True depth with the picture's stamp within 1 ms.
    scan_stamp_ns : int or None, nanoseconds
        Stamp of the paired scan, with ``time_offset`` added.
    ring : (N,) int32 or None
        Scan line of each row of ``frame.points_lidar``, where the cloud has a field 'ring'.
    error : InputError or None
        Why the picture is unusable.
    warning : str
        What else is missing or wrong, in words; empty where all is well.

    """

    frame: Frame | None
    image_message: Any
    stamp_ns: int
    truth: np.ndarray | None = None
    scan_stamp_ns: int | None = None
    ring: np.ndarray | None = None
    error: InputError | None = None
    warning: str = ''


@dataclass(frozen=True)
class _Waiting:
    message: Any
    stamp_ns: int
    log_ns: int
    error: InputError | None = None


def frames(
    reader: BagReader,
    topics: BagTopics,
    lidar_config: LidarConfig,
    T_cam_lidar: np.ndarray | None = None,
) -> Iterator[BagFrame]:
    """
    Yield one BagFrame for every message of the image topic, in the order of the bag.

    Parameters
    ----------
    reader : BagReader
        An open bag; it is streamed, not loaded.
    topics : BagTopics
        As ``reader.choose_topics`` returns them.
    lidar_config : LidarConfig
        ``max_dt``, ``time_offset`` and ``fixed_frame``; a scan is waited for as long as it can
        still come. With a fixed frame, ``T_cam_lidar`` goes from the LiDAR at its scan to the
        camera at its picture.
    T_cam_lidar : (4, 4) float or None
        Extrinsics; None takes them from /tf_static, between the frames of scan and image.

    Yields
    ------
    BagFrame
        ``frame.camera`` is the last camera_info at or before the picture, else the bag's first.

    Raises
    ------
    BagError
        Where the file itself is damaged.

    """
    return _FrameStream(reader, topics, lidar_config, T_cam_lidar).run()


class _FrameStream:
    """The look-ahead window over one bag."""

    def __init__(
        self,
        reader: BagReader,
        topics: BagTopics,
        config: LidarConfig,
        T_cam_lidar: np.ndarray | None,
    ) -> None:
        self._reader = reader
        self._topics = topics
        self._offset_ns = round(config.time_offset * _NANOSECONDS)
        self._scans: ScanBuffer[Scan] = ScanBuffer(
            round(config.max_dt * _NANOSECONDS),
            max(round(config.buffer * _NANOSECONDS), 2 * LOOK_AHEAD_NS),
        )
        self._given_extrinsics = T_cam_lidar
        self._transforms = reader.static_transforms()
        self._motion = EgoMotion(reader, config.fixed_frame, self._transforms)
        self._extrinsics: dict[tuple[str, str], np.ndarray | CalibrationError] = {}
        first_info = reader.first(topics.camera_info) if topics.camera_info else None
        self._infos = CameraInfos(first_info, is_rectified_name(topics.image))
        # One latched camera_info is not worth waiting for another.
        counts = reader.topics
        self._await_info = bool(topics.camera_info) and counts[str(topics.camera_info)].count > 1
        self._truths = Truths(2 * LOOK_AHEAD_NS)
        self._newest: dict[str, int] = {}
        self._waiting: deque[_Waiting] = deque()
        self._scan_error = ''
        self._unreadable: list[str] = []
        self._damage: BagError | None = None

    def run(self) -> Iterator[BagFrame]:
        for topic, msgtype, data, log_ns in self._messages():
            try:
                message = self._reader.decode(data, msgtype)
            except BagError as error:
                self._note_unreadable(topic, log_ns, error)
                continue
            if topic in self._motion.topics:
                if self._motion.transforms.is_jump(message):
                    yield from self._flush()
                    self._forget()
                self._motion.transforms.add_message(message)
                continue
            stamp = message.header.stamp
            stamp_ns = stamp.sec * _NANOSECONDS + stamp.nanosec
            if topic == self._topics.lidar:
                stamp_ns += self._offset_ns
            if self._newest.get(topic, stamp_ns) - stamp_ns > CLOCK_JUMP_NS:
                yield from self._flush()
                self._forget()
            self._newest[topic] = max(self._newest.get(topic, stamp_ns), stamp_ns)
            self._take(topic, msgtype, message, stamp_ns, log_ns)
            while self._waiting and self._is_ready(self._waiting[0], log_ns):
                yield self._finish(self._waiting.popleft())
        yield from self._flush()
        if self._damage is not None:
            raise self._damage

    def _messages(self) -> Iterator[tuple[str, str, bytes, int]]:
        """Yield what can be read; where the file is damaged, the frames before it still count."""
        try:
            yield from self._reader.raw([*self._topics.named, *self._motion.topics])
        except BagError as error:
            self._damage = error

    def _take(self, topic: str, msgtype: str, message: Any, stamp_ns: int, log_ns: int) -> None:
        """Put one message where it belongs; a topic may play two roles."""
        if topic == self._topics.image:
            self._waiting.append(_Waiting(message, stamp_ns, log_ns))
        if topic == self._topics.camera_info:
            self._infos.add(stamp_ns, message)
        if topic == self._topics.truth:
            self._truths.add(stamp_ns, message)
        if topic == self._topics.lidar:
            try:
                self._scans.add(stamp_ns, decode_scan(message, msgtype))
            except InputError as error:
                self._scan_error = str(error)

    def _note_unreadable(self, topic: str, log_ns: int, error: BagError) -> None:
        if topic == self._topics.image:
            cause = InputError(str(error), 'unreadable')
            self._waiting.append(_Waiting(None, log_ns, log_ns, cause))
        if topic == self._topics.lidar:
            self._scan_error = str(error)
        if topic in (self._topics.truth, self._topics.camera_info):
            self._unreadable.append(f'{topic}: {error}')

    def _flush(self) -> Iterator[BagFrame]:
        while self._waiting:
            yield self._finish(self._waiting.popleft())

    def _forget(self) -> None:
        """Drop all that is from before a clock jump, for all topics as soon as one shows it."""
        self._scans.clear()
        self._infos.clear()
        self._truths.clear()
        self._motion.transforms.clear()
        self._newest.clear()

    def _is_ready(self, head: _Waiting, log_ns: int) -> bool:
        """Tell whether nothing that may still come can change this frame."""
        if head.error is not None or log_ns - head.log_ns > LOOK_AHEAD_NS:
            return True
        choice = self._scans.choose(head.stamp_ns)
        if self._topics.lidar and not choice.final:
            return False
        last_ns = max(head.stamp_ns, choice.stamp_ns or 0)
        if self._motion.may_come(head.message.header.frame_id, last_ns):
            return False
        awaited = [self._topics.truth] + [self._topics.camera_info] * self._await_info
        return all(self._newest.get(t, -1) >= head.stamp_ns for t in awaited if t)

    def _finish(self, head: _Waiting) -> BagFrame:
        if head.error is not None:
            return BagFrame(None, head.message, head.stamp_ns, error=head.error)
        try:
            rgb = to_rgb(head.message)
        except InputError as error:
            return BagFrame(None, head.message, head.stamp_ns, error=error)
        warnings = list(dict.fromkeys([*self._topics.notes, *self._unreadable]))
        self._unreadable.clear()
        camera, info_frame = self._infos.camera(head.stamp_ns, rgb.shape[:2], warnings)
        choice = self._scans.choose(head.stamp_ns)
        scan = choice.item
        image_frame = head.message.header.frame_id or info_frame
        camera_at = image_frame, head.stamp_ns
        T_cam_lidar = self._scan_pose(scan, camera_at, choice.stamp_ns, warnings)
        frame = Frame(
            rgb=rgb,
            camera=camera,
            points_lidar=scan.points if scan else None,
            T_cam_lidar=T_cam_lidar,
            stamp_ns=head.stamp_ns,
            T_world_camera=self._motion.camera_pose(*camera_at, warnings),
        )
        truth = self._truths.depth(head.stamp_ns, rgb.shape[:2], warnings)
        ring = scan.ring if scan else None
        text = '; '.join(warnings)
        return BagFrame(
            frame, head.message, head.stamp_ns, truth, choice.stamp_ns, ring, warning=text
        )

    def _scan_pose(
        self,
        scan: Scan | None,
        camera_at: tuple[str, int],
        scan_ns: int | None,
        warnings: list[str],
    ) -> np.ndarray | None:
        """Return the extrinsics, and say what is missing of scan or extrinsics."""
        if scan is None and self._topics.lidar:
            broken = f'; the last broken scan: {self._scan_error}' if self._scan_error else ''
            warnings.append(f'no scan near the picture{broken}')
        self._scan_error = ''
        given = self._given_extrinsics
        if scan is None or scan_ns is None:
            return given
        lidar_at = scan.frame_id, scan_ns
        moved = self._motion.scan_pose(camera_at, lidar_at, given, warnings)
        if moved is not None or given is not None:
            return given if moved is None else moved
        return self._lookup(camera_at[0], scan.frame_id, warnings)

    def _lookup(self, target: str, source: str, warnings: list[str]) -> np.ndarray | None:
        if (target, source) not in self._extrinsics:
            try:
                self._extrinsics[target, source] = self._transforms.lookup(target, source)
            except CalibrationError as error:
                self._extrinsics[target, source] = error
        found = self._extrinsics[target, source]
        if isinstance(found, CalibrationError):
            warnings.append(str(found))
            return None
        return found
