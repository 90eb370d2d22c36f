# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Read a bag's topics, messages and static transforms; `frames` joins them into frames.

Decision: the rosbags library, because it needs no ROS and reads ROS 1 and 2. It is given Humble's
message definitions, since bags recorded before Iron carry none of their own. The readable part of
a damaged bag is read before the error is raised (`storage`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from marigold_ros.bags.guarded import damage_of, message_counts, reason
from marigold_ros.bags.message_types import why_not_defined, why_too_large
from marigold_ros.bags.storage import open_bag, OpenBag, remedy
from marigold_ros.bags.topics import (
    BagTopics,
    choose_topics,
    listing,
    near_names,
    TopicInfo,
    with_sources,
)
from marigold_ros.bags.transforms import transform_topics, TransformTree
from marigold_ros.errors import BagError
from rosbags.interfaces import QosDurability


class BagReader:
    """
    A bag being read; use it in a ``with`` block.

    ``path`` is a ROS 2 bag's folder, a lone .mcap or .db3 file, or a ROS 1 .bag file. Entering the
    block raises BagError for a missing path, or one of which nothing can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._bag: OpenBag | None = None
        self._undecoded: dict[str, str] = {}  # why, by type; empty for those that are decoded

    def __enter__(self) -> BagReader:
        self._bag = open_bag(self.path)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bag is not None:
            self._bag.reader.close()
            self._bag = None

    @property
    def topics(self) -> dict[str, TopicInfo]:
        """Type and number of messages by topic; of several types the most frequent counts."""
        infos: dict[str, TopicInfo] = {}
        counts = message_counts(self._open.reader.connections)
        for (topic, msgtype), count in counts.items():
            if topic not in infos or count > infos[topic].count:
                infos[topic] = TopicInfo(msgtype, count)
        return infos

    @property
    def static_topics(self) -> list[str]:
        """The topics of static transforms."""
        return transform_topics(self.topics, 'tf_static')

    @property
    def latched_topics(self) -> list[str]:
        """The topics whose last message a player offers to late subscribers."""
        found: list[Any] = self._open.reader.connections
        if not self._open.reader.is2:
            return [c.topic for c in found if c.ext.latching]
        offers = ((c.topic, q.durability) for c in found for q in c.ext.offered_qos_profiles)
        return [topic for topic, kind in offers if kind == QosDurability.TRANSIENT_LOCAL]

    def choose_topics(
        self,
        image: str | None = None,
        camera_info: str | None = None,
        lidar: str | None = None,
        truth: str | None = None,
    ) -> BagTopics:
        """
        Choose the topics to read: those that are given, the others by content.

        Images with a camera_info beside them are preferred, then colour, then uncompressed ones.
        Sparse depth (``lidar``) is a cloud, else a planar scan, else a depth image with
        'sparse_depth' in its name; true depth is an image topic with 'depth_truth' in its name.
        Raises BagError as `marigold_ros.bags.topics.choose_topics` does.
        """
        given = {'image': image, 'camera_info': camera_info, 'lidar': lidar, 'truth': truth}
        try:
            chosen = choose_topics(self.topics, self.first, given)
        except BagError as error:
            lost = f'; {self.lost}' if self.lost else ''
            raise BagError(f'{self.path}: {error}{lost}') from error
        types = {(c.topic, c.msgtype) for c in self._open.reader.connections}
        mixed = [
            f'{topic} has messages of {msgtype}, too, which are not read'
            for topic, msgtype in sorted(types)
            if topic in chosen.named and msgtype != self.topics[topic].msgtype
        ]
        return replace(chosen, notes=(*self._open.notes, *mixed, *chosen.notes))

    def with_sources(self, chosen: BagTopics, sources: Sequence[str]) -> BagTopics:
        """Add a topic of each kind of sparse depth in ``sources`` that the chosen ones lack."""
        return with_sources(chosen, self.topics, self.first, sources)

    @property
    def span_ns(self) -> tuple[int, int]:
        """
        Log times of the first and the last message, ns; 0 and 0 without messages.

        All of a damaged bag is read for them, because it has no index.
        """
        if not any(info.count for info in self.topics.values()):
            return 0, 0
        if not self.lost:
            return self._open.reader.start_time, self._open.reader.end_time
        times: list[int] = []
        with suppress(BagError):  # reading all messages raises it
            times.extend(log_ns for *_, log_ns in self.raw(list(self.topics)))
        return (min(times), max(times)) if times else (0, 0)

    @property
    def about(self) -> dict[str, str]:
        """What its writer noted about the bag, see `BagWriter`."""
        storage = getattr(self._open.reader.readers[0], 'storage', None)
        return dict(getattr(getattr(storage, 'metadata', None), 'custom', None) or {})

    @property
    def contents(self) -> str:
        """What identifies the bag: the number of its messages and its time, in words."""
        count = sum(info.count for info in self.topics.values())
        first_ns, last_ns = self.span_ns
        return f'{count} messages from {first_ns} to {last_ns} ns'

    @property
    def types(self) -> Any:
        """Message types for `BagWriter.write_raw`; None for ROS 1, which serialises otherwise."""
        return self._open.reader.typestore if self._open.reader.is2 else None

    @property
    def lost(self) -> str:
        """Missing and truncated files, in words; empty where the bag is complete."""
        return self._bag.lost if self._bag is not None else ''

    def first(self, topic: str) -> Any:
        """Return a topic's first message that can be decoded; None where there is none."""
        with suppress(BagError):  # reading all messages raises it
            for _, msgtype, data, _ in self.raw([topic]):
                with suppress(BagError):
                    return self.decode(data, msgtype)
        return None

    def raw(
        self,
        topics: Sequence[str],
        start_ns: int | None = None,
        stop_ns: int | None = None,
        every_type: bool = False,
    ) -> Iterator[tuple[str, str, bytes, int]]:
        """
        Yield topic, type, serialised message and log time in ns, in the order of log time.

        Files without an index, as damaged ones, are read in the order of their recording.

        With ``start_ns`` and ``stop_ns`` from the one log time to before the other, which an
        undamaged bag finds by its index. With ``every_type`` also messages of other types than
        `topics` names.

        Raises BagError for an unknown topic; and for a damaged file, after its readable messages.
        """
        unknown = sorted(set(topics) - set(self.topics))
        if unknown:
            raise BagError(
                f'{self.path} has no topic {", ".join(unknown)}'
                f'{near_names(unknown[0], self.topics)}; it has {listing(self.topics)}'
            )
        reader = self._open.reader
        infos = {topic: info for topic, info in self.topics.items() if topic in topics}
        connections = [
            c
            for c in reader.connections
            if c.topic in infos and (every_type or c.msgtype == infos[c.topic].msgtype)
        ]
        if not connections:  # the library would take an empty list for all topics
            return
        missing = Counter[str]()
        for c in connections:
            missing[c.topic] += c.msgcount
        try:
            for connection, log_ns, data in reader.messages(connections, start_ns, stop_ns):
                if not isinstance(log_ns, int) or not isinstance(data, bytes):
                    continue  # of a damaged database, and missed below
                missing[connection.topic] -= 1
                yield connection.topic, connection.msgtype, data, log_ns
        except Exception as error:  # a damaged file can fail anywhere in the library
            raise BagError(
                f'reading {self.path} failed midway ({type(error).__name__}: {reason(error)}); '
                f'the file is damaged: {remedy(self.path)}'
            ) from error
        if self.lost:
            raise BagError(self.lost)
        self._check_complete(missing if start_ns is None and stop_ns is None else {})

    def _check_complete(self, missing: Mapping[str, int]) -> None:
        """Raise BagError if messages are ``missing`` by topic, or parts could not be read."""
        lost = [
            f'{count} of {self.topics[topic].count} messages of {topic} are missing'
            for topic, count in missing.items()
            if count > 0
        ]
        if lost or not missing:
            lost += [f'cannot read {text}' for text in damage_of(self._open.reader)]
        if lost:
            raise BagError(f'{self.path} is damaged: {", ".join(lost)}; {remedy(self.path)}')

    def decode(self, data: bytes, msgtype: str) -> Any:
        """
        Decode one message of a type of ROS.

        Raises BagError where the bytes do not fit the type, where they are too many, and where
        the bag defines the type otherwise.
        """
        reader = self._open.reader
        if msgtype not in self._undecoded:
            self._undecoded[msgtype] = why_not_defined(msgtype, reader.typestore, reader.is2)
        why = self._undecoded[msgtype] or why_too_large(msgtype, data, reader.is2)
        if why:
            raise BagError(
                f'{self.path}: a message of {len(data)} bytes, as {msgtype}, is not read: {why}'
            )
        try:
            return reader.deserialize(data, msgtype)
        except Exception as error:  # bytes of a damaged message can fail anywhere in the library
            raise BagError(
                f'{self.path}: a message of {len(data)} bytes is no {msgtype} '
                f'({type(error).__name__}: {error}); check the recording'
            ) from error

    def messages(self, topics: Sequence[str]) -> Iterator[tuple[str, Any, int]]:
        """
        Yield topic, decoded message and log time in ns; arrays in messages are read-only views.

        Raises BagError as `raw` does, and for a message that cannot be decoded.
        """
        for topic, msgtype, data, log_ns in self.raw(topics):
            yield topic, self.decode(data, msgtype), log_ns

    def static_transforms(self) -> TransformTree:
        """
        Return all transforms of /tf_static, which may be recorded late.

        Errors of messages that cannot be decoded go to ``refused``, as invalid transforms do.
        """
        transforms = TransformTree()
        try:
            for _, msgtype, data, _ in self.raw(self.static_topics):
                try:
                    transforms.add_message(self.decode(data, msgtype))
                except BagError as error:
                    transforms.refused.append(str(error))
        except BagError as error:  # reading all messages raises it
            transforms.refused.append(str(error))
        return transforms

    @property
    def _open(self) -> OpenBag:
        if self._bag is None:
            raise BagError(f'bag {self.path} is not open; read inside a with block')
        return self._bag
