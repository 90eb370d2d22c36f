# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Frames of a bag: each image with its camera, its scan, its extrinsics and its truth.

Decision: a bag is in the order of arrival, while images and scans belong together by header
stamp, so an image waits until its partners are known. The wait is bounded by log time: a sensor
that died must not make the whole rest of the bag pile up in memory. Nothing that a single message
does wrong ends the stream; it is told in ``error`` or ``warning``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

from marigold_ros.bags.bag_frame import BagFrame
from marigold_ros.bags.ego_motion import EgoMotion
from marigold_ros.bags.scans import decode_scan, Scan
from marigold_ros.bags.stamp_matching import (
    CameraInfos,
    LOG_TOLERANCE_NS,
    TRUTH_TOLERANCE_NS,
    Truths,
)
from marigold_ros.bags.stamps import check_stamps, header_ns
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
    stamps: str = 'header',
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
        camera at its image.
    T_cam_lidar : (4, 4) float or None
        Extrinsics; None takes them from /tf_static, between the frames of scan and image.
    stamps : {'header', 'log'}
        Whether the headers' stamps count, or the times of recording.

    Yields
    ------
    BagFrame
        ``frame.camera`` is the last camera_info at or before the image, else the bag's first.

    Raises
    ------
    BagError
        Where stamps cannot be used; where the file is damaged, after the frames before.

    """
    check_stamps(reader, topics, stamps)
    yield from _FrameStream(reader, topics, lidar_config, T_cam_lidar, stamps).run()


class _FrameStream:
    """The look-ahead window over one bag."""

    def __init__(
        self,
        reader: BagReader,
        topics: BagTopics,
        config: LidarConfig,
        T_cam_lidar: np.ndarray | None,
        stamps: str,
    ) -> None:
        self._reader = reader
        self._topics = topics
        self._by_header = stamps == 'header'
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
        tolerance_ns = TRUTH_TOLERANCE_NS if self._by_header else LOG_TOLERANCE_NS
        self._truths = Truths(2 * LOOK_AHEAD_NS, tolerance_ns)
        self._newest: dict[str, int] = {}
        self._waiting: deque[_Waiting] = deque()
        self._scan_error = self._far = ''
        self._max_dt = config.max_dt
        self._noted: list[str] = []
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
            stamp_ns = header_ns(message) if self._by_header else log_ns
            if topic == self._topics.lidar:
                stamp_ns += self._offset_ns
            back_ns = self._newest.get(topic, stamp_ns) - stamp_ns
            if back_ns > CLOCK_JUMP_NS:
                yield from self._flush()
                self._forget()
                self._noted.append(
                    f'the clock of {topic} jumped back by {back_ns / _NANOSECONDS:.1f} s; nothing '
                    'from before is used after'
                )
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
            self._noted.append(f'{topic}: {error}')

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
        warnings = list(dict.fromkeys([*self._topics.notes, *self._noted]))
        self._noted.clear()
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
            warnings.append(self._no_scan())
        self._scan_error = ''
        given = self._given_extrinsics
        if scan is None or scan_ns is None:
            return given
        lidar_at = scan.frame_id, scan_ns
        moved = self._motion.scan_pose(camera_at, lidar_at, given, warnings)
        if moved is not None or given is not None:
            return given if moved is None else moved
        return self._lookup(camera_at[0], scan.frame_id, warnings)

    def _no_scan(self) -> str:
        """Say why there is no scan, in the same words for every image, so that they count."""
        if self._scan_error:
            return f'no scan near the image; the last broken scan: {self._scan_error}'
        if not self._far:
            scan_ns, image_ns = self._scans.newest_ns, self._newest.get(self._topics.image, 0)
            self._far = 'no scan near the image'
            if scan_ns is not None and abs(scan_ns - image_ns) > LOOK_AHEAD_NS:
                apart_s = (scan_ns - image_ns) / _NANOSECONDS
                self._far += (
                    f': at the first such image the last scan of {self._topics.lidar} was '
                    f'{apart_s:+.1f} s away, at most {self._max_dt} s is allowed (lidar.max_dt); '
                    'with two clocks set lidar.time_offset, or use --stamps log'
                )
        return self._far

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
