# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Serialised messages of a bag, in the order in which to play them to a running node.

Decision: the bytes are passed on as recorded, because decoding and encoding an image costs more
than sending it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from marigold_ros.bags.frames import LOOK_AHEAD_NS
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.errors import BagError
from marigold_ros.message_codec import serialised_header_ns
from marigold_ros.sparse_sources import source_of_topic


@dataclass(frozen=True)
class SerialMessage:
    """
    One message with a header, serialised as CDR.

    ``role`` is 'image', 'camera_info', 'lidar' (sparse depth of any kind) or the kind of further
    sparse depth; ``stamp_ns`` is the header's stamp, or the log time where there are too few
    bytes for one.
    """

    role: str
    msgtype: str
    data: bytes
    stamp_ns: int
    log_ns: int


def serial_messages(
    reader: BagReader, topics: BagTopics, limit: int | None = None
) -> Iterator[SerialMessage]:
    """
    Yield images, camera_info and sparse depth in the order of the bag, up to ``limit`` images.

    Raises BagError for a ROS 1 bag, which serialises otherwise, and for a damaged file.
    """
    if reader.path.suffix == '.bag':
        raise BagError(
            f'{reader.path} is a ROS 1 bag, which cannot be played over ROS 2; convert it with '
            '`rosbags-convert --src BAG --dst FOLDER`, or use `evaluate`, which reads it'
        )
    roles = {t: role for role, t in topics.by_role.items() if t and role != 'truth'}
    roles |= {t: source_of_topic(t, reader.topics[t].msgtype) for t in topics.further}
    images = 0
    for topic, msgtype, data, log_ns in reader.raw(list(roles)):
        images += roles[topic] == 'image'
        if limit is not None and images > limit:
            return
        stamp_ns = serialised_header_ns(data)
        yield SerialMessage(
            roles[topic], msgtype, bytes(data), log_ns if stamp_ns is None else stamp_ns, log_ns
        )


def scans_first(messages: Iterable[SerialMessage]) -> Iterator[SerialMessage]:
    """
    Delay each image until the scan that completes its predecessor's pairing has been played.

    A player that sends an image only after the answer to the last one would otherwise wait for
    ever, if the answer needs a scan behind the image. The order within a topic is kept.
    """
    held: deque[SerialMessage] = deque()
    sent_ns: int | None = None
    scan_ns: int | None = None
    for message in messages:
        if message.role == 'image':
            held.append(message)
        else:
            if message.role != 'camera_info':
                scan_ns = max(message.stamp_ns, message.stamp_ns if scan_ns is None else scan_ns)
            yield message
        while held:
            settled = sent_ns is None or (scan_ns is not None and scan_ns >= sent_ns)
            if not settled and message.log_ns - held[0].log_ns <= LOOK_AHEAD_NS:
                break
            sent_ns = held[0].stamp_ns
            yield held.popleft()
    yield from held
