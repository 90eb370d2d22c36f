# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One topic of sparse depth of a bag: its scans by stamp, and what is wrong with them."""

from typing import Any

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import INFO_TYPES, is_rectified_name, sibling_info
from marigold_ros.config import LidarConfig
from marigold_ros.errors import InputError
from marigold_ros.frame import Camera
from marigold_ros.pairing import ScanBuffer
from marigold_ros.sparse_sources import source_of_topic, SPARSE_SOURCES, SparseReading

LOOK_AHEAD_NS = 2_000_000_000  # of log time; sensors come 0.2 s late at most in practice
_NANOSECONDS = 1_000_000_000


class SensorTopic:
    """
    Scans of one topic, or depth images with the camera_info beside them.

    ``error`` is why the last message could not be read, since somebody asked.
    """

    def __init__(self, reader: BagReader, topic: str, config: LidarConfig) -> None:
        self.topic, self.error = topic, ''
        self.source = source_of_topic(topic, reader.topics[topic].msgtype)
        self.scans: ScanBuffer[SparseReading] = ScanBuffer(
            round(config.max_dt * _NANOSECONDS),
            max(round(config.buffer * _NANOSECONDS), 2 * LOOK_AHEAD_NS),
        )
        self._max_dt, self._far = config.max_dt, ''
        self._info_topic = sibling_info(topic)
        beside = reader.topics.get(self._info_topic)
        has_info = beside is not None and beside.msgtype in INFO_TYPES and beside.count > 0
        self._info = reader.first(self._info_topic) if has_info else None

    def add(self, stamp_ns: int, message: Any) -> None:
        """Keep a scan, or why it cannot be read."""
        try:
            self.scans.add(stamp_ns, SPARSE_SOURCES[self.source].read(message, ring=True))
        except InputError as error:
            self.error = str(error)

    def camera(self, scan: SparseReading, frame_id: str, shape: tuple[int, ...]) -> Camera | None:
        """Return the camera of a depth image, None if registered; raises InputError."""
        rectified = is_rectified_name(self.topic)
        return scan.own_camera(frame_id, shape, self._info, self._info_topic, rectified)

    def why_no_scan(self, image_ns: int) -> str:
        """
        Return why there is no scan, in the same words for every image, so that they count.

        ``image_ns`` is the newest stamp of the images.
        """
        if self.error:
            return f'no scan near the image; the last invalid scan: {self.error}'
        if not self._far:
            scan_ns = self.scans.newest_ns
            self._far = 'no scan near the image'
            if scan_ns is not None and abs(scan_ns - image_ns) > LOOK_AHEAD_NS:
                apart_s = (scan_ns - image_ns) / _NANOSECONDS
                self._far += (
                    f': at the first such image the last scan of {self.topic} was '
                    f'{apart_s:+.1f} s away, at most {self._max_dt} s is allowed (lidar.max_dt); '
                    'with two clocks set lidar.time_offset, or use --stamps log'
                )
        return self._far
