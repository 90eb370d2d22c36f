# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The choice of a bag's topics: the image, its camera_info, the sparse depth and the true depth.

Decision: topics are found by type and content, not by a list of well-known names: the first
message of each candidate is read, because depth images, colourised depth and images share one
type. Names only break ties, and tell what this node itself has published.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
import re
from typing import Any

from marigold_ros.errors import BagError, InputError
from marigold_ros.message_codec import check_image
from marigold_ros.sparse_sources import source_of_topic, SPARSE_SOURCES

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
INFO_TYPES = ('sensor_msgs/msg/CameraInfo',)
_LISTED = 40  # topics, in an error
_GREY = ('mono8', 'mono16', '8UC1')
_OWN = '/marigold_depth/'  # in the names of what the node or `label` has added to a bag


@dataclass(frozen=True)
class TopicInfo:
    """Type and number of messages of one topic."""

    msgtype: str
    count: int


@dataclass(frozen=True)
class BagTopics:
    """
    The topics to read; all but the image may be None.

    ``lidar`` is the sparse depth of any kind, ``further`` that of other kinds; ``notes`` says why
    candidates are passed over; ``cameras`` are images of others that could have been chosen.
    """

    image: str
    camera_info: str | None = None
    lidar: str | None = None
    truth: str | None = None
    notes: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()

    @property
    def by_role(self) -> dict[str, str | None]:
        """The topic of each role, or None."""
        return {role: getattr(self, role) for role in ('image', 'camera_info', 'lidar', 'truth')}

    @property
    def named(self) -> list[str]:
        """All topics that are not None."""
        return [topic for topic in (*self.by_role.values(), *self.further) if topic]

    @property
    def sensors(self) -> list[str]:
        """The topics of sparse depth."""
        return [topic for topic in (self.lidar, *self.further) if topic]


def choose_topics(
    topics: Mapping[str, TopicInfo], first: Callable[[str], Any], given: Mapping[str, str | None]
) -> BagTopics:
    """
    Choose among all topics of a bag; those ``given`` by role are only checked.

    ``first`` returns a topic's first message, or None where it cannot be read. Raises BagError
    where no topic holds images, or a given one is absent or of a wrong type.
    """
    chosen: dict[str, str | None] = {}
    for role, types in (
        ('image', IMAGE_TYPES),
        ('camera_info', INFO_TYPES),
        ('lidar', tuple(source.msgtype for source in SPARSE_SOURCES.values())),
        ('truth', IMAGE_TYPES),
    ):
        chosen[role] = given.get(role)
        if chosen[role]:
            _check_given(role, str(chosen[role]), types, topics)
    if chosen['lidar']:
        _check_sparse_depth(chosen['lidar'], topics[chosen['lidar']].msgtype, first)
    present = {name: info for name, info in topics.items() if info.count}
    truth = chosen['truth'] or _truth(present)
    notes: list[str] = []
    images = [chosen['image']] if chosen['image'] else _images(present, first, truth, notes)
    image = images[0] if images else None
    if image is None:
        why = f' that can be read ({"; ".join(notes)})' if notes else ''
        raise BagError(
            f'no topic holds images{why}; the bag has {listing(topics)}; '
            'name the image topic, or record one'
        )
    notes.clear()  # another topic serves
    others = {n: i for n, i in present.items() if n not in (image, truth) and _OWN not in n}
    lidar = chosen['lidar'] or _sparse_depth(others, first, notes)
    if lidar:
        notes.clear()
    info = chosen['camera_info'] or _camera_info(present, image, notes)
    if info and first(info) is None:
        notes.append(f'{info}: no message can be decoded; check the recording')
        info = None
    return BagTopics(image, info, lidar, truth, tuple(notes), cameras=tuple(images[1:]))


def with_sources(
    chosen: BagTopics,
    topics: Mapping[str, TopicInfo],
    first: Callable[[str], Any],
    sources: Sequence[str],
) -> BagTopics:
    """
    Add a topic of each kind of sparse depth in ``sources`` that the chosen ones lack.

    Where there is none ``notes`` say so, with the candidates that are passed over.
    """
    named, lidar = chosen.named, chosen.lidar
    own = source_of_topic(lidar, topics[lidar].msgtype) if lidar else ''
    free = {name: info for name, info in topics.items() if info.count and name not in named}
    others = {name: info for name, info in free.items() if _OWN not in name}
    further, notes = [], list(chosen.notes)
    for kind in sources:
        if kind in SPARSE_SOURCES and kind != own:
            passed: list[str] = []
            found = _sparse_depth(others, first, passed, (kind,))
            if found:
                further.append(found)
                continue
            source = SPARSE_SOURCES[kind]
            named_so = source.word and f' with {source.word} in its name'
            article = 'an' if source.message_name[0] in 'AEIOU' else 'a'
            notes += [*passed, f'no topic of {kind}: {article} {source.message_name}{named_so}']
    return replace(chosen, further=tuple(further), notes=tuple(notes))


def listing(topics: Mapping[str, TopicInfo]) -> str:
    """List all topics with type and count, for an error."""
    first = sorted(topics.items())[:_LISTED]
    parts = [f'{name} ({info.msgtype}, {info.count})' for name, info in first]
    parts += [f'{len(topics) - _LISTED} more'] if len(topics) > _LISTED else []
    return ', '.join(parts) or 'no topics'


def near_names(topic: str, topics: Mapping[str, TopicInfo]) -> str:
    """Ask for the topics that a mistyped one may have meant; empty where none is near."""
    ends = [name for name in topics if name.endswith(f'/{topic.strip("/")}')]
    near = ends or get_close_matches(topic, topics, n=3)
    return f'; did you mean {" or ".join(near)}?' if near else ''


def sibling_info(topic: str) -> str:
    """Return the camera_info topic that image_transport expects beside an image."""
    folder, _, last = topic.rpartition('/')
    if folder and last in ('compressed', 'compressedDepth'):
        folder = folder.rpartition('/')[0]
    return f'{folder}/camera_info'


def is_rectified_name(topic: str) -> bool:
    """Return whether a word begins with «rect»: in /image_rect_color, not in /direct/image."""
    return any(word.startswith('rect') for word in re.split(r'[/_]', topic))


def _check_given(
    role: str, topic: str, types: tuple[str, ...], topics: Mapping[str, TopicInfo]
) -> None:
    if topic not in topics:
        raise BagError(
            f'{role} topic {topic} is not in the bag{near_names(topic, topics)}; it has '
            f'{listing(topics)}: choose one of these'
        )
    if topics[topic].msgtype not in types:
        raise BagError(
            f'{role} topic {topic} is of type {topics[topic].msgtype}; it must be '
            f'{" or ".join(dict.fromkeys(types))}: choose another topic, or record that type'
        )


def _check_sparse_depth(topic: str, msgtype: str, first: Callable[[str], Any]) -> None:
    """Refuse a given topic of other content, where images and depth share a message type."""
    source = SPARSE_SOURCES[source_of_topic(topic, msgtype)]
    message = first(topic) if source.word else None
    try:
        if message is not None:
            source.read(message)
    except InputError as error:
        raise BagError(f'lidar topic {topic} has no sparse depth: {error}') from error


def _truth(topics: Mapping[str, TopicInfo]) -> str | None:
    names = [n for n, i in topics.items() if i.msgtype in IMAGE_TYPES and 'depth_truth' in n]
    return min(names, key=lambda name: (len(name), name), default=None)


def _images(
    topics: Mapping[str, TopicInfo],
    first: Callable[[str], Any],
    truth: str | None,
    notes: list[str],
) -> list[str]:
    """
    Return the image to choose, and behind it those of other cameras that are as good.

    Prefer images of others than this node, with a camera_info, in colour, uncompressed, and then
    the most frequent. Topics of an image type that are passed over go to ``notes``, with the
    reason.
    """
    ranked = []
    for name, info in topics.items():
        if info.msgtype not in IMAGE_TYPES or name == truth:
            continue
        message = first(name)
        if message is None:
            notes.append(f'{name}: no message can be decoded')
            continue
        try:
            grey = _is_grey(message)
        except InputError as error:
            notes.append(f'{name}: {error}')
            continue
        compressed = info.msgtype == IMAGE_TYPES[1]
        kind = _OWN in name, sibling_info(name) not in topics, grey
        ranked.append((kind, compressed, -info.count, name))
    ranked.sort()
    cameras: dict[str, str] = {}
    for rank in ranked:
        if rank[0] == ranked[0][0]:  # a compressed image of another camera is as good
            cameras.setdefault(sibling_info(rank[-1]), rank[-1])
    return list(cameras.values())


def _is_grey(message: Any) -> bool:
    """Return whether a message is a grey image; raises InputError for depth."""
    encoding = message.format if hasattr(message, 'format') else message.encoding
    try:
        check_image(message)
    except InputError as error:
        # A first message that is cut short does not disqualify a whole topic; depth does.
        if error.cause == 'encoding':
            raise
    return encoding.split(';')[0].strip() in _GREY


def _camera_info(topics: Mapping[str, TopicInfo], image: str, notes: list[str]) -> str | None:
    names = [name for name, info in topics.items() if info.msgtype in INFO_TYPES]
    sibling, below = sibling_info(image), f'{image.removesuffix("/compressed")}/camera_info'
    for name in (sibling, f'{sibling}_rect', below):  # the second of Isaac ROS, the last of AirSim
        if name in names:
            return name
    names = [name for name in names if _OWN not in name]
    if len(names) != 1:
        return None  # with several, a guess would be a wrong K
    images = [name for name, info in topics.items() if info.msgtype in IMAGE_TYPES]
    if beside := [name for name in images if sibling_info(name) == names[0]]:
        notes.append(f'{names[0]} is that of {beside[0]}; name the camera_info of {image}')
    return names[0]


def _sparse_depth(
    topics: Mapping[str, TopicInfo],
    first: Callable[[str], Any],
    notes: list[str],
    kinds: Iterable[str] = SPARSE_SOURCES,
) -> str | None:
    """Choose the best topic of the first kind of sparse depth that there is."""
    for kind in kinds:
        source = SPARSE_SOURCES[kind]
        ranked: list[tuple[tuple[bool, ...], str]] = []
        for name, info in topics.items():
            if info.msgtype != source.msgtype or source.word not in name:
                continue
            if source_of_topic(name, info.msgtype) != kind:
                continue
            if source.rank is None:
                ranked.append(((), name))
                continue
            message = first(name)
            if message is None:
                notes.append(f'{name}: no message can be decoded; check the recording')
                continue
            try:
                ranked.append((source.rank(name, message), name))
            except InputError as error:
                notes.append(f'{name} has no sparse depth: {error}')
        if ranked:
            return min(ranked)[1]
    return None
