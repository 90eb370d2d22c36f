# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Frames of a bag: each image with its camera, its sparse depth, its extrinsics and its truth.

Decision: a bag is in the order of arrival, while images and scans belong together by header
stamp, so an image waits for the messages that match it. The wait is bounded by log time: after a
sensor has died, the rest of the bag must not pile up in memory. A single bad message never ends
the stream; it becomes the ``error`` or a ``warning`` of its frame.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
import math
from typing import Any

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.stamp_matching import CameraInfos, LOOK_AHEAD_NS, SensorTopic, Truths
from marigold_ros.bags.topics import BagTopics, is_rectified_name
from marigold_ros.bags.transforms import EgoMotion, TransformTree
from marigold_ros.config import LidarConfig
from marigold_ros.errors import BagError, CalibrationError, ConfigurationError, InputError
from marigold_ros.frame import Frame, SparseInput
from marigold_ros.message_codec import header_ns, to_rgb
from marigold_ros.pairing import stamp_error, StampOrder
from marigold_ros.reasons import as_reason
from marigold_ros.sparse_sources import NONE
import numpy as np

STAMPS = ('header', 'log')
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class BagFrame:
    """One image of a bag with everything that belongs to it."""

    frame: Frame | None  # None where ``error`` is set
    image_message: Any  # None where it cannot be decoded
    stamp_ns: int  # header stamp of the image (log time where there is no message), nanoseconds
    truth: np.ndarray | None = None  # depth (H, W) float32, metres; within 1 ms of the image
    scan_stamp_ns: int | None = None  # of the paired scan, with ``time_offset`` added
    # (N,) int32: scan line of each row of ``frame.points_lidar``, if the cloud has a field 'ring'.
    ring: np.ndarray | None = None
    error: InputError | None = None  # why the image cannot be used
    warning: str = ''  # what else is missing or wrong, in words
    frame_id: str = ''  # of the image, or of its camera_info where it has none
    truth_is_rectified: bool = False  # registered to the rectified image, not to the one taken

    @property
    def usable(self) -> Frame:
        """The frame; raises the ``error`` where there is none."""
        if self.frame is None:
            raise self.error or InputError('the image cannot be read')
        return self.frame


@dataclass(frozen=True)
class Excerpt:
    """
    A part of a bag: from ``start`` to ``stop`` seconds of log time after its beginning.

    Of its images every ``every``-th is taken, the first one among them.
    """

    start: float = 0.0
    stop: float = math.inf
    every: int = 1

    def bounds_ns(self, reader: BagReader) -> tuple[int | None, int | None]:
        """Return the log times of beginning and end in a bag; None where it is not cut."""
        if self.start <= 0 and not math.isfinite(self.stop):
            return None, None  # the span of a damaged bag takes a reading of all of it
        first_ns, _ = reader.span_ns
        begin = first_ns + round(self.start * _NANOSECONDS) if self.start > 0 else None
        end = first_ns + round(self.stop * _NANOSECONDS) if math.isfinite(self.stop) else None
        return begin, end


WHOLE = Excerpt()


def bag_frames(
    reader: BagReader,
    topics: BagTopics,
    lidar_config: LidarConfig,
    T_cam_lidar: np.ndarray | None = None,
    stamps: str = 'header',
    excerpt: Excerpt = WHOLE,
) -> Iterator[BagFrame]:
    """
    Yield one BagFrame for every message of the image topic, in the order of an open bag.

    Parameters
    ----------
    lidar_config : LidarConfig
        ``max_dt``, ``time_offset`` and ``fixed_frame``; a scan is waited for as long as it can
        still come. With a fixed frame, ``T_cam_lidar`` goes from the LiDAR at its scan to the
        camera at its image.
    T_cam_lidar : (4, 4) float or None
        Extrinsics; None takes them from /tf_static, or /tf, between the frames of scan and image.
    stamps : {'header', 'log'}
        Header stamps are when sensors measured; the log times of recording are for drivers that
        do not stamp, or stamp with clocks of their own.

    Yields
    ------
    BagFrame
        ``frame.camera`` is the last camera_info at or before the image, else the bag's first; one
        without a stamp, or before the excerpt, counts from its log time.

    Raises
    ------
    ConfigurationError
        For another ``stamps``.
    BagError
        Where stamps cannot be used; where the file is damaged, after the frames before.

    """
    _check_stamps(reader, topics, stamps)
    yield from _FrameStream(reader, topics, lidar_config, T_cam_lidar, stamps, excerpt).run()


@dataclass(frozen=True)
class _Waiting:
    message: Any
    stamp_ns: int
    log_ns: int
    error: InputError | None = None


class _FrameStream:
    """The look-ahead window over one bag."""

    def __init__(
        self,
        reader: BagReader,
        topics: BagTopics,
        config: LidarConfig,
        T_cam_lidar: np.ndarray | None,
        stamps: str,
        excerpt: Excerpt,
    ) -> None:
        self._reader, self._excerpt = reader, excerpt
        self._images = 0
        self._topics = topics
        self._by_header = stamps == 'header'
        self._offset_ns = round(config.time_offset * _NANOSECONDS)
        # The first one's scans are the frame's own, which score it too.
        self._sensors = [SensorTopic(reader, topic, config) for topic in topics.sensors]
        self._given_extrinsics = T_cam_lidar
        tree = reader.static_transforms()
        info = topics.camera_info
        self._motion = EgoMotion(reader.topics, config.fixed_frame, tree)
        if self._motion.topics and not config.fixed_frame:
            is_needed = T_cam_lidar is None and not self._are_fixed(tree)
            self._motion.topics = self._motion.topics if is_needed else []
        first_info = self._info_before(info) if info else None
        self._infos = CameraInfos(first_info, is_rectified_name(topics.image))
        # One latched camera_info is not worth waiting for another.
        self._await_info = reader.topics[info].count > 1 if info else False
        self._truths = Truths(self._by_header)
        self._newest: dict[str, int] = {}
        self._order = StampOrder()
        # Out of order, until the next message shows whether the clock has jumped.
        self._suspect: tuple[str, Any, int, int] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._notes: list[str] = []
        self._damage: BagError | None = None

    def _info_before(self, topic: str) -> Any:
        """Return the last camera_info before the excerpt, or the bag's first."""
        found, topics = self._reader.first(topic), self._reader.topics
        begin_ns, _ = self._excerpt.bounds_ns(self._reader)
        # One beside every image need not be looked for in all that comes before.
        if begin_ns is None or topics[topic].count >= topics[self._topics.image].count:
            return found
        with suppress(BagError):  # reading all messages raises it
            for _, msgtype, data, _ in self._reader.raw([topic], None, begin_ns):
                with suppress(BagError):
                    found = self._reader.decode(data, msgtype)
        return found

    def _are_fixed(self, tree: TransformTree) -> bool:
        """Return whether fixed transforms connect all sensors with the image."""
        topics = self._topics.image, *self._topics.sensors
        frames = [one.header.frame_id for one in map(self._reader.first, topics) if one]
        with suppress(CalibrationError):
            for frame in frames:
                tree.lookup(frames[0], frame or frames[0])
            return True
        return False

    def run(self) -> Iterator[BagFrame]:
        for topic, msgtype, data, log_ns in self._messages():
            try:
                message = self._reader.decode(data, msgtype)
            except BagError as error:
                self._settle(False)
                self._refuse(topic, None, log_ns, InputError(str(error), 'unreadable'))
                continue
            is_motion = topic in self._motion.topics
            if is_motion and not message.transforms:
                continue
            head = message.transforms[0] if is_motion else message
            # Each publisher of transforms may be late by itself.
            name = f'{topic} of {head.child_frame_id}' if is_motion else topic
            stamp_ns = header_ns(head) if self._by_header or is_motion else log_ns
            repeated = self._by_header and self._order.is_repeated(name, stamp_ns)
            judged = self._order.judge(name, stamp_ns, log_ns)
            if judged == 'jump':
                later_s = (stamp_ns - self._newest.get(topic, stamp_ns)) / _NANOSECONDS
                yield from self._start_anew()
                self._notes.append(
                    f'the clock of {topic} jumped {"back" if later_s < 0 else "ahead"} by '
                    f'{abs(later_s):.1f} s; of what came before only camera_info is used after it'
                )
            self._settle(False)
            if judged == 'lone':
                self._suspect = topic, message, stamp_ns, log_ns
            elif repeated and topic == self._topics.image:
                self._refuse(topic, message, log_ns, stamp_error(stamp_ns))
            else:
                self._take(topic, message, stamp_ns, log_ns)
            while self._waiting and self._is_ready(self._waiting[0], log_ns):
                yield self._finish(self._waiting.popleft())
        self._settle(False)
        yield from self._flush()
        if self._damage is not None:
            raise self._damage

    def _messages(self) -> Iterator[tuple[str, str, bytes, int]]:
        """Yield the readable messages; damage is raised later, after the frames before it."""
        try:
            names = [*self._topics.named, *self._motion.topics]
            names += [sensor.info_topic for sensor in self._sensors if sensor.has_info]
            for item in self._reader.raw(names, *self._excerpt.bounds_ns(self._reader)):
                if item[0] == self._topics.image:
                    self._images += 1
                    if (self._images - 1) % self._excerpt.every:
                        continue
                yield item
        except BagError as error:
            self._damage = error

    def _settle(self, jumped: bool) -> None:
        """Take the message that was out of order if the clock ``jumped``, else refuse it."""
        suspect, self._suspect = self._suspect, None
        if suspect is not None and jumped:
            self._take(*suspect)
        elif suspect is not None:
            topic, message, stamp_ns, log_ns = suspect
            self._refuse(topic, message, log_ns, stamp_error(stamp_ns))

    def _take(self, topic: str, message: Any, stamp_ns: int, log_ns: int) -> None:
        """Put one message where it belongs; a topic may have two roles."""
        if topic in self._motion.topics:
            self._motion.tree.add_message(message, moving=True)
        if topic in self._topics.sensors:
            if self._by_header and stamp_ns == 0:
                self._refuse(topic, message, log_ns, stamp_error(stamp_ns))
                return
            stamp_ns += self._offset_ns
        self._newest[topic] = max(self._newest.get(topic, stamp_ns), stamp_ns)
        if topic == self._topics.image:
            self._waiting.append(_Waiting(message, stamp_ns, log_ns))
        if topic == self._topics.camera_info:
            self._infos.add(stamp_ns or log_ns, message)  # some drivers do not stamp it
        if topic == self._topics.truth:
            self._truths.add(stamp_ns, message)
        for sensor in self._sensors:
            if topic == sensor.topic:
                sensor.add(stamp_ns, message)
            if topic == sensor.info_topic and sensor.has_info:
                sensor.infos.add(stamp_ns or log_ns, message)

    def _refuse(self, topic: str, message: Any, log_ns: int, error: InputError) -> None:
        if topic == self._topics.image:
            self._waiting.append(_Waiting(message, log_ns, log_ns, error))
        for sensor in self._sensors:
            if topic == sensor.topic:
                sensor.error = str(error)
        if topic in (self._topics.truth, self._topics.camera_info, *self._motion.topics):
            self._notes.append(f'{topic}: {error}')

    def _flush(self) -> Iterator[BagFrame]:
        while self._waiting:
            yield self._finish(self._waiting.popleft())

    def _start_anew(self) -> Iterator[BagFrame]:
        """Drop everything from before a clock jump, of all topics once one of them jumps."""
        yield from self._flush()
        for sensor in self._sensors:
            sensor.scans.clear()
            sensor.infos.clear()
        self._infos.clear()
        self._truths.clear()
        self._motion.tree.clear()
        self._newest.clear()
        self._settle(True)

    def _is_ready(self, head: _Waiting, log_ns: int) -> bool:
        """Return whether no message to come can change this frame."""
        if head.error is not None or log_ns - head.log_ns > LOOK_AHEAD_NS:
            return True
        choices = [sensor.scans.choose(head.stamp_ns) for sensor in self._sensors]
        if not all(choice.final for choice in choices):
            return False
        last_ns = max(head.stamp_ns, *(choice.stamp_ns or 0 for choice in choices), 0)
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
        warnings = list(dict.fromkeys([*self._topics.notes, *self._notes]))
        self._notes.clear()
        camera, info_frame = self._infos.camera(head.stamp_ns, rgb.shape[:2], warnings)
        camera_at = head.message.header.frame_id or info_frame, head.stamp_ns
        found = [
            self._measured(sensor, camera_at, rgb.shape, warnings) for sensor in self._sensors
        ] or [(SparseInput(NONE, T_cam_lidar=self._given_extrinsics), None)]
        frame = Frame(
            rgb=rgb,
            camera=camera,
            stamp_ns=head.stamp_ns,
            T_world_camera=self._motion.camera_pose(*camera_at, warnings),
            inputs=[item for item, _ in found],
        )
        truth = self._truths.depth(head.stamp_ns, rgb.shape[:2], warnings)
        lidar, ring = found[0]
        return BagFrame(
            frame,
            head.message,
            head.stamp_ns,
            truth,
            lidar.stamp_ns,
            ring,
            warning='; '.join(warnings),
            frame_id=camera_at[0],
            truth_is_rectified=is_rectified_name(self._topics.truth or ''),
        )

    def _measured(
        self,
        sensor: SensorTopic,
        camera_at: tuple[str, int],
        shape: tuple[int, ...],
        warnings: list[str],
    ) -> tuple[SparseInput, np.ndarray | None]:
        """
        Return the sparse depth nearest to an image, and the scan line of each point if known.

        ``camera_at`` are frame and stamp of the image of a shape (H, W). Without any there is the
        reason, also in ``warnings``.
        """
        given = self._given_extrinsics if sensor is self._sensors[0] else None
        nothing = SparseInput(sensor.source, T_cam_lidar=given)
        choice = sensor.scans.choose(camera_at[1])
        message, scan_ns, error = choice.item, choice.stamp_ns, sensor.error
        if message is None or scan_ns is None:
            warnings.append(sensor.why_no_scan(self._newest.get(self._topics.image, 0)))
            sensor.error = ''
            return replace(nothing, no_points=as_reason(error)), None
        sensor.error = ''
        try:
            scan = sensor.read(scan_ns, message)
            info, rectified = sensor.infos.at(scan_ns), is_rectified_name(sensor.topic)
            found = scan.with_camera(camera_at[0], shape, info, sensor.info_topic, rectified)
        except InputError as problem:
            warnings.append(str(problem))
            return replace(nothing, no_points=as_reason(problem)), None
        if found.points_lidar is None and found.sparse_camera is None:
            pose = given
        elif found.sparse_camera is not None and scan.frame_id in ('', camera_at[0]):
            pose = np.eye(4)  # of another size only
        else:
            pose = self._motion.scan_pose(camera_at, (scan.frame_id, scan_ns), given, warnings)
        return replace(found, T_cam_lidar=pose, stamp_ns=scan_ns), scan.ring


def _check_stamps(reader: BagReader, topics: BagTopics, stamps: str) -> None:
    """Refuse recordings without header stamps; a simulator's clock may well start with one 0."""
    if stamps not in STAMPS:
        raise ConfigurationError(f"stamps is '{stamps}'; choose one of {', '.join(STAMPS)}")
    matched = [topic for topic in (topics.lidar, topics.truth) if topic]
    if stamps == 'log' or not matched:
        return
    for topic in (topics.image, *matched):
        first: list[int] = []
        with suppress(BagError):  # reading all messages raises it
            first = [header_ns(m) for _, m, _ in islice(reader.messages([topic]), 2)]
        if first == [0, 0]:
            raise BagError(
                f'the messages of {topic} in {reader.path} have header stamp 0, and images and '
                'scans are paired by it; use the time of recording with --stamps log'
            )
