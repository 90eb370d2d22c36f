# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A bag's messages as they are stored, in the order in which to send them to a running node.

Decision: the serialised bytes are passed on untouched, because decoding and encoding an image
costs more than sending it, and because what the node gets is then what was recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import struct
from typing import TYPE_CHECKING

from marigold_ros.bags.frames import LOOK_AHEAD_NS
from marigold_ros.bags.topics import BagTopics
from marigold_ros.errors import BagError

if TYPE_CHECKING:
    from marigold_ros.bags.reader import BagReader

# Encapsulation of 4 bytes, of which the second tells the byte order; then header.stamp.
_STAMP = {0: '>iI', 1: '<iI'}
_HEAD_BYTES = 12


@dataclass(frozen=True)
class SerialMessage:
    """
    One message with a header, serialised as CDR.

    ``role`` is ``image``, ``camera_info`` or ``lidar``; ``stamp_ns`` the header's stamp, which is
    the log time where there are too few bytes for one.
    """

    role: str
    msgtype: str
    data: bytes
    stamp_ns: int
    log_ns: int


def header_stamp_ns(data: bytes | memoryview) -> int | None:
    """Stamp, in ns, of a serialised message that begins with a header; None where it cannot be."""
    if len(data) < _HEAD_BYTES or data[0] != 0 or data[1] not in _STAMP:
        return None
    seconds, nanoseconds = struct.unpack_from(_STAMP[data[1]], data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def serial_messages(
    reader: BagReader, topics: BagTopics, limit: int | None = None
) -> Iterator[SerialMessage]:
    """
    Yield images, camera_info and scans in the order of the bag.

    Parameters
    ----------
    reader : BagReader
        An open bag; it is streamed.
    topics : BagTopics
        The topic of true depth is left out.
    limit : int or None
        Stop before the image after that many.

    Raises
    ------
    BagError
        For a ROS 1 bag, whose messages are serialised otherwise, and a damaged file.

    """
    if reader.path.suffix == '.bag':
        raise BagError(
            f'{reader.path} is a ROS 1 bag, which cannot be played over ROS 2; convert it with '
            '`rosbags-convert --src BAG --dst FOLDER`, or use `evaluate`, which reads it'
        )
    roles = {topics.image: 'image'}
    for role in ('camera_info', 'lidar'):
        if getattr(topics, role):
            roles[getattr(topics, role)] = role
    images = 0
    for topic, msgtype, data, log_ns in reader.raw(list(roles)):
        images += roles[topic] == 'image'
        if limit is not None and images > limit:
            return
        stamp_ns = header_stamp_ns(data)
        yield SerialMessage(
            roles[topic], msgtype, bytes(data), log_ns if stamp_ns is None else stamp_ns, log_ns
        )


def scans_first(messages: Iterable[SerialMessage]) -> Iterator[SerialMessage]:
    """
    Hold each image back until the scan that settles its predecessor's pairing has passed.

    Who sends an image only after the answer to the last one would otherwise wait for an answer
    that waits for a scan that stands behind the image. The order within a topic stays.
    """
    held: deque[SerialMessage] = deque()
    sent_ns: int | None = None
    scan_ns: int | None = None
    for message in messages:
        if message.role == 'image':
            held.append(message)
        else:
            if message.role == 'lidar':
                scan_ns = max(message.stamp_ns, message.stamp_ns if scan_ns is None else scan_ns)
            yield message
        while held:
            settled = sent_ns is None or (scan_ns is not None and scan_ns >= sent_ns)
            if not settled and message.log_ns - held[0].log_ns <= LOOK_AHEAD_NS:
                break
            sent_ns = held[0].stamp_ns
            yield held.popleft()
    yield from held
