# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The sources of a replay's fit: some kinds of sparse depth of the bag, and the ground.

The bag's LiDAR scores. If it is not among the sources, the fit sees no point of it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from marigold_ros.bags.frames import bag_frames, BagFrame
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.config import GroundConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Frame, SparseInput
from marigold_ros.geometry.ground.plane import ground_plane
from marigold_ros.reasons import as_reason
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.sparse_sources import GROUND, source_of_topic


def choose_sources(
    reader: BagReader, options: ReplayOptions
) -> tuple[BagTopics, SourcesOfBag | None]:
    """Return the topics of a replay of an open bag, and its sources; None for the bag's own."""
    topics = reader.choose_topics(**options.topics)
    if options.sources is None:
        return topics, None
    topics = reader.with_sources(topics, options.sources)
    return topics, SourcesOfBag(reader, topics, options.sources, options.ground)


def replayed_frames(
    path: Path, topics: BagTopics, options: ReplayOptions
) -> Generator[BagFrame, None, None]:
    """Yield the frames of a replay; the bag is opened by the thread that asks for the first."""
    with BagReader(path) as reader:
        pose, excerpt = options.T_cam_lidar, options.excerpt
        yield from bag_frames(reader, topics, options.lidar, pose, options.stamps, excerpt)


class SourcesOfBag:
    """
    What a fit sees of the frames of one bag.

    Of the open ``reader`` only /tf_static is read, at once. ``topics`` are those that are read,
    with a topic for each of the sources, by ``names``, that the bag has. ``ground`` says where the
    ground is, else /tf_static does.
    """

    def __init__(
        self, reader: BagReader, topics: BagTopics, names: Sequence[str], ground: GroundConfig
    ) -> None:
        self._names, self._ground = names, ground
        self._transforms = reader.static_transforms()
        lidar, known = topics.lidar, reader.topics
        own = source_of_topic(lidar, known[lidar].msgtype) if lidar in known else ''
        self._own = own if own in names else ''

    @property
    def has_lidar(self) -> bool:
        """Whether the LiDAR that scores is among the sources."""
        return bool(self._own)

    def seen(self, item: BagFrame) -> Frame:
        """Return the frame with the sparse depth of the sources alone."""
        frame = item.usable
        known = {one.source: one for one in frame.inputs}
        if GROUND in self._names:
            known[GROUND] = self._on_ground(item.frame_id)
        others = [
            known.get(
                name, SparseInput(name, no_points=as_reason(f'the bag has no topic of {name}'))
            )
            for name in self._names
            if name != self._own
        ]
        lidar = [frame.lidar] if self._own and frame.lidar is not None else []
        return replace(frame, inputs=(*lidar, *others))

    def _on_ground(self, camera_frame: str) -> SparseInput:
        pose = partial(self._transforms.lookup, camera_frame)
        try:
            return SparseInput(GROUND, ground=ground_plane(self._ground, pose))
        except CalibrationError as error:
            return SparseInput(GROUND, no_points=as_reason(f'{error}, or set ground.height'))
