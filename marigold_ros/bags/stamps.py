# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Which time of a message counts: when its sensor measured (header) or when it was recorded (log).

Decision: the header's, because transport delays differ by sensor. The log time is for recordings
whose drivers do not stamp, or stamp with clocks of their own; it has to be asked for.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, TYPE_CHECKING

from marigold_ros.bags.topics import BagTopics
from marigold_ros.errors import BagError, ConfigurationError

if TYPE_CHECKING:
    from marigold_ros.bags.reader import BagReader

STAMPS = ('header', 'log')
_NANOSECONDS = 1_000_000_000


def header_ns(message: Any) -> int:
    """Give the stamp in a message's header, nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec * _NANOSECONDS + stamp.nanosec)


def check_stamps(reader: BagReader, topics: BagTopics, stamps: str) -> None:
    """
    Refuse recordings whose stamps cannot tell what belongs together.

    Raises
    ------
    ConfigurationError
        If ``stamps`` is neither 'header' nor 'log'.
    BagError
        Where the first two messages of a topic that is to be paired have header stamp 0; a
        simulator's clock may well start with one.

    """
    if stamps not in STAMPS:
        raise ConfigurationError(f"stamps is '{stamps}'; choose one of {', '.join(STAMPS)}")
    partners = [topic for topic in (topics.lidar, topics.truth) if topic]
    if stamps == 'log' or not partners:
        return
    for topic in (topics.image, *partners):
        first = [_stamp_or_none(reader, *item) for item in islice(_readable(reader, topic), 2)]
        if first == [0, 0]:
            raise BagError(
                f'the messages of {topic} in {reader.path} have header stamp 0, and images and '
                'scans are paired by it; use the time of recording with --stamps log'
            )


def _readable(reader: BagReader, topic: str) -> Any:
    try:
        for _, msgtype, data, _ in reader.raw([topic]):
            yield data, msgtype
    except BagError:
        return  # whoever reads all messages tells of the damage


def _stamp_or_none(reader: BagReader, data: bytes, msgtype: str) -> int | None:
    try:
        return header_ns(reader.decode(data, msgtype))
    except BagError:
        return None
