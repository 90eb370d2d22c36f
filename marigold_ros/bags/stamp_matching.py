# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Match camera_info, true depth and sparse depth of a bag to images by their stamps.

What is missing or wrong goes to a list of warnings: the image can be used without either.
"""

from collections import deque
from typing import Any

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import INFO_TYPES, is_rectified_name, sibling_info
from marigold_ros.config import LidarConfig
from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Camera
from marigold_ros.message_codec import to_camera, to_depth
from marigold_ros.pairing import nearest, ScanBuffer
from marigold_ros.sparse_sources import source_of_topic, SPARSE_SOURCES, SparseReading
import numpy as np

LOOK_AHEAD_NS = 2_000_000_000  # of log time; sensors come 0.2 s late at most in practice
_NANOSECONDS = 1_000_000_000
_HEADER_TOLERANCE_NS = 1_000_000
_LOG_TOLERANCE_NS = 20_000_000  # messages of one moment are recorded one after the other


class CameraInfos:
    """
    The camera of each image: the last camera_info at or before it, else the bag's ``first``.

    ``rectified`` images are described by P instead of K and distortion.
    """

    def __init__(self, first: Any, rectified: bool) -> None:
        self._first, self._rectified = first, rectified
        self._last: Any = None  # at or before the image
        self._queue: deque[tuple[int, Any]] = deque()

    def add(self, stamp_ns: int, message: Any) -> None:
        """Queue a camera_info."""
        self._queue.append((stamp_ns, message))

    def clear(self) -> None:
        """Keep the newest only, as after a clock jump: drivers may never publish it again."""
        if self._queue:
            _, self._last = self._queue[-1]
        self._queue.clear()

    def at(self, stamp_ns: int) -> Any:
        """Return the message of an image, None without any; call in the order of time."""
        while self._queue and self._queue[0][0] <= stamp_ns:
            _, self._last = self._queue.popleft()
        return self._first if self._last is None else self._last

    def camera(
        self, stamp_ns: int, shape: tuple[int, ...], warnings: list[str]
    ) -> tuple[Camera | None, str]:
        """Return the camera of an image of a shape (H, W), or None, and its frame_id."""
        message = self.at(stamp_ns)
        if message is None:
            warnings.append('no camera_info; record it, or name its topic')
            return None, ''
        frame_id = message.header.frame_id
        try:
            camera = to_camera(message, rectified=self._rectified)
            camera.require_size(shape, 'name the camera_info that fits it, or calibrate anew')
        except CalibrationError as error:
            warnings.append(str(error))
            return None, frame_id
        return camera, frame_id


class Truths:
    """True depth with the stamp of the image."""

    def __init__(self, by_header: bool) -> None:
        self._tolerance_ns = _HEADER_TOLERANCE_NS if by_header else _LOG_TOLERANCE_NS
        self._queue: deque[tuple[int, Any]] = deque()
        self._is_found = False

    def add(self, stamp_ns: int, message: Any) -> None:
        """Queue a depth image, and drop those that are too old."""
        self._queue.append((stamp_ns, message))
        while stamp_ns - self._queue[0][0] > 2 * LOOK_AHEAD_NS:
            self._queue.popleft()

    def clear(self) -> None:
        """Forget all, as after a clock jump."""
        self._queue.clear()

    def depth(
        self, stamp_ns: int, shape: tuple[int, ...], warnings: list[str]
    ) -> np.ndarray | None:
        """Return the true depth (H, W), metres, of an image of that shape, or None."""
        stamps = [stamp for stamp, _ in self._queue]
        index = nearest(stamps, stamp_ns, self._tolerance_ns)
        if index is None:
            if not self._is_found and nearest(stamps, stamp_ns, _LOG_TOLERANCE_NS) is not None:
                warnings.append(
                    'the stamps of true depth and image are more than 1 ms apart; have the driver '
                    'synchronise them, or use --stamps log'
                )
            return None
        self._is_found = True
        try:
            depth = to_depth(self._queue[index][1])
        except InputError as error:
            warnings.append(f'true depth: {error}')
            return None
        if depth.shape != shape:
            warnings.append(
                f'true depth is {depth.shape[1]}x{depth.shape[0]} px, the image '
                f'{shape[1]}x{shape[0]}; it must be registered to the image: name another topic'
            )
            return None
        return depth


class SensorTopic:
    """
    Scans of one topic, or depth images with the camera_info beside them, on ``info_topic``.

    ``error`` is why the last message could not be used, since somebody asked.
    """

    def __init__(self, reader: BagReader, topic: str, config: LidarConfig) -> None:
        self.topic, self.error = topic, ''
        self.source = source_of_topic(topic, reader.topics[topic].msgtype)
        self.scans: ScanBuffer[Any] = ScanBuffer(
            round(config.max_dt * _NANOSECONDS),
            max(round(config.buffer * _NANOSECONDS), 2 * LOOK_AHEAD_NS),
        )
        self._max_dt, self._far = config.max_dt, ''
        self.info_topic = sibling_info(topic)
        beside = reader.topics.get(self.info_topic)
        is_depth = not SPARSE_SOURCES[self.source].needs_extrinsics
        self.has_info = is_depth and beside is not None and beside.msgtype in INFO_TYPES
        first = reader.first(self.info_topic) if self.has_info else None
        self.infos = CameraInfos(first, is_rectified_name(topic))

    def add(self, stamp_ns: int, message: Any) -> None:
        """Keep a scan, or why its header shows that it is useless."""
        try:
            SPARSE_SOURCES[self.source].check(message)
            self.scans.add(stamp_ns, message)
        except InputError as error:
            self.error = str(error)

    def read(self, stamp_ns: int, scan: Any) -> SparseReading:
        """Read a scan of the buffer, once for all images that it serves; raises InputError."""
        if not isinstance(scan, SparseReading):
            scan = SPARSE_SOURCES[self.source].read(scan, ring=True)
            self.scans.add(stamp_ns, scan)
        return scan

    def why_no_scan(self, image_ns: int) -> str:
        """
        Return why there is no scan, in the same words for every image, so that they count.

        ``image_ns`` is the newest stamp of the images.
        """
        if self.error:
            return f'no scan near the image; the last invalid scan: {self.error}'
        if not self._far:
            scan_ns, last = self.scans.newest_ns, ''
            if scan_ns is not None and abs(scan_ns - image_ns) > LOOK_AHEAD_NS:
                apart_s = (scan_ns - image_ns) / _NANOSECONDS
                last = f'at the first such image the last one was {apart_s:+.1f} s away, '
            self._far = (
                f'no scan of {self.topic} near the image: {last}at most {self._max_dt} s '
                'is allowed (lidar.max_dt); with two clocks set lidar.time_offset, or use '
                '--stamps log'
            )
        return self._far
