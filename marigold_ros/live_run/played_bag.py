# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The bag that a live run plays: its topics, extrinsics and messages, in the order of playing.

Decision: the bytes are passed on as recorded, because decoding and encoding an image costs more
than sending it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
import hashlib
from itertools import pairwise
import json
import math
from pathlib import Path
import shutil
from statistics import median
from typing import Any

from marigold_ros.bags.frames import LOOK_AHEAD_NS
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import (
    BagTopics,
    IMAGE_TYPES,
    INFO_TYPES,
    is_rectified_name,
    sibling_info,
    TopicInfo,
)
from marigold_ros.bags.transforms import pose_matrix, transform_topics
from marigold_ros.config import NodeConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.evaluation.protocols.held_out import choose_fit_lines, lines_to_split
from marigold_ros.message_codec import (
    has_field,
    header_ns,
    row_step,
    serialised_header_ns,
    to_organised,
)
from marigold_ros.settings import as_values
from marigold_ros.sparse_sources import (
    NONE,
    source_names,
    source_of_topic,
    SPARSE_SOURCES,
)
import marigold_ros.synthetic
from marigold_ros.synthetic.drive.drive import quaternion_xyzw, write_drive
import numpy as np
from rosbags.typesys import get_typestore, Stores

DRIVE_RATE = 10.0
FIT_EVERY = 8  # scan lines, of which one is for the fit
_SILENT_NS = 1_000_000_000
_MOVED = 0.01  # change of a pose, metres or radians, above which a sensor is not fixed
COMPRESSED = 'sensor_msgs/msg/CompressedImage'


@dataclass(frozen=True)
class SerialMessage:
    """
    One message with a header, serialised as CDR.

    ``role`` is 'image', 'camera_info', 'lidar' (sparse depth of any kind), the kind of further
    sparse depth, or 'depth_info', the camera_info beside a depth image; ``stamp_ns`` is the
    header's stamp, or the log time where there are too few bytes for one.
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
    beside = _depth_info(reader.topics, topics.camera_info, topics.sensors)
    roles |= {beside: 'depth_info'} if beside else {}
    images = 0
    for topic, msgtype, data, log_ns in reader.raw(list(roles)):
        images += roles[topic] == 'image'
        if limit is not None and images > limit:
            return
        stamp_ns = serialised_header_ns(data)
        yield SerialMessage(
            roles[topic], msgtype, bytes(data), log_ns if stamp_ns is None else stamp_ns, log_ns
        )


def scans_first(
    messages: Iterable[SerialMessage], sensors: Iterable[str] = ('lidar',)
) -> Iterator[SerialMessage]:
    """
    Delay each image until the scans that complete its predecessor's pairing have been played.

    A player that sends an image only after the answer to the last one would otherwise wait for
    ever, if the answer needs a scan behind the image. Of the ``sensors``, roles of sparse depth,
    one that is silent for a second delays none where others are not. The order within a topic is
    kept.
    """
    held: deque[SerialMessage] = deque()
    sent_ns = scan_ns = -math.inf
    newest: dict[str, tuple[float, int]] = {}  # stamp and log time of each sensor
    for message in messages:
        newest = newest or dict.fromkeys(sensors, (-math.inf, message.log_ns))
        if message.role == 'image':
            held.append(message)
        else:
            if message.role in newest:
                before, _ = newest[message.role]
                newest[message.role] = max(before, message.stamp_ns), message.log_ns
            yield message
        heard = [stamp for stamp, log in newest.values() if message.log_ns - log < _SILENT_NS]
        scan_ns = min(heard, default=scan_ns)
        while held and (scan_ns >= sent_ns or message.log_ns - held[0].log_ns > LOOK_AHEAD_NS):
            sent_ns = held[0].stamp_ns
            yield held.popleft()
    yield from held


def synthetic_drive(folder: Path, frames: int, width: int, height: int) -> Path:
    """Return the synthetic drive in a folder; written unless one with these settings is there."""
    bag, note = folder / 'drive', folder / 'drive.json'
    settings = {'frames': frames, 'rate': DRIVE_RATE, 'width': width, 'height': height, 'seed': 0}
    digest = hashlib.sha256()  # of the code that draws: a drive of older code is written anew
    for path in sorted(Path(marigold_ros.synthetic.__file__).parent.rglob('*.py')):
        digest.update(path.read_bytes())
    written = json.dumps({**settings, 'made_by': digest.hexdigest()}).encode() + b'\n'
    if (bag / 'metadata.yaml').is_file() and note.is_file():
        if note.read_bytes() == written:
            return bag
        shutil.rmtree(bag)
    write_drive(bag, **settings)  # type: ignore[arg-type]
    note.write_bytes(written)
    return bag


@dataclass(frozen=True)
class PlayedBag:
    """
    A bag and what is needed to play it.

    ``inputs`` are the topic and message type to publish for the roles image, camera_info and
    lidar, for further sparse depth by its kind, and for depth_info, named as in the bag where
    possible; ``images`` is the number that is played and ``period`` the seconds between two.
    ``T_cam_lidar`` (4, 4) is None without a LiDAR, ``T_cam_sensor`` is of the first sensor that
    the node reads, None if that needs none; ``latched`` are serialised messages of /tf_static.
    ``thinned``: the node gets every 8th scan line only, because nothing else could be scored.
    ``sources`` are the node's, and ``lidar_kind`` is that of the LiDAR topic: if it is not among
    them the node reads none of its points, and all of them score.
    """

    path: Path
    topics: BagTopics
    inputs: Mapping[str, tuple[str, str]]
    images: int
    period: float
    T_cam_lidar: np.ndarray | None
    T_cam_sensor: np.ndarray | None
    latched: tuple[bytes, ...]
    thinned: bool
    sources: tuple[str, ...]
    lidar_kind: str
    size: tuple[int, int] | None  # height, width of the images, by camera_info

    @property
    def sees_lidar(self) -> bool:
        """Whether the node reads the LiDAR's points, or there are none."""
        return self.lidar_kind in (NONE, *self.sources)

    @property
    def fitted_sources(self) -> tuple[str, ...] | None:
        """The sources of the fit; None for the LiDAR alone."""
        return None if self.sources == (self.lidar_kind,) else self.sources

    @property
    def is_compressed(self) -> bool:
        """Whether the images are CompressedImage messages."""
        return self.inputs['image'][1] == COMPRESSED


@dataclass(frozen=True)
class DemoJob:
    """
    What a demo plays, with which settings of the node, and where it writes.

    ``rate`` is a multiple of real time, None to wait for every frame; ``rerun`` is a file to write
    for the viewer of rerun, or None.
    """

    bag: PlayedBag
    config: NodeConfig
    folder: Path
    rate: float | None = None
    rerun: Path | None = None

    @property
    def recording(self) -> Path:
        """The bag of the node's outputs."""
        return self.folder / 'recording'

    @property
    def log(self) -> Path:
        """The log of the node's process."""
        return self.folder / 'node.log'


def prepare_bag(path: str | Path, config: NodeConfig, limit: int | None) -> PlayedBag:
    """
    Choose the topics and find the extrinsics of a bag.

    Raises BagError if it cannot be read or has no images, and CalibrationError if it has a LiDAR,
    but neither the bag nor the settings hold its extrinsics.
    """
    with BagReader(path) as reader:
        topics, infos = reader.choose_topics(), reader.topics
        stamps = [m.stamp_ns for m in serial_messages(reader, topics, limit) if m.role == 'image']
        steps = [b - a for a, b in pairwise(stamps) if b > a]
        lidar, pose = NONE, None
        if topics.lidar:
            lidar = source_of_topic(topics.lidar, infos[topics.lidar].msgtype)
            pose = _extrinsics(reader, topics, topics.lidar, config)
        names = source_names(lidar)
        if config.sparse_source != NodeConfig().sparse_source:
            names = source_names(config.sparse_source)
        topics = reader.with_sources(topics, names)
        further = {source_of_topic(t, infos[t].msgtype): t for t in topics.further}
        sensors = ([lidar] if lidar in names else []) + list(further)
        of_sensor = None
        for first in sensors:  # the parameters are those of the first sensor that needs a pose
            of_sensor = (
                pose if first == lidar else _extrinsics(reader, topics, further[first], config)
            )
            if of_sensor is not None:
                names = tuple(sorted(names, key=lambda name: name != first))
                break
        info = reader.first(topics.camera_info) if topics.camera_info else None
        return PlayedBag(
            path=Path(path),
            topics=topics,
            inputs=_inputs(infos, topics, further, lidar in (NONE, *names)),
            images=len(stamps),
            period=median(steps) / 1e9 if steps else 1.0 / DRIVE_RATE,
            T_cam_lidar=pose,
            T_cam_sensor=of_sensor,
            latched=tuple(bytes(data) for _, _, data, _ in reader.raw(reader.static_topics)),
            thinned=topics.truth is None and lidar == 'pointcloud' and lidar in names,
            sources=names,
            lidar_kind=lidar,
            size=(info.height, info.width) if info and info.height and info.width else None,
        )


def _inputs(
    infos: Mapping[str, TopicInfo], topics: BagTopics, further: Mapping[str, str], lidar: bool
) -> dict[str, tuple[str, str]]:
    """Return topic and type to publish for each role; without ``lidar`` not the LiDAR's."""
    roles = {'image': topics.image, 'camera_info': topics.camera_info}
    roles |= {'lidar': topics.lidar if lidar else None, **further}
    read = [topic for topic in topics.sensors if topic in roles.values()]
    roles['depth_info'] = _depth_info(infos, topics.camera_info, read)
    inputs = {role: (topic, infos[topic].msgtype) for role, topic in roles.items() if topic}
    image, msgtype = inputs['image']
    # image_transport finds compressed images only under this name.
    if msgtype == COMPRESSED and not image.endswith('/compressed'):
        inputs['image'] = (f'{image}/compressed', msgtype)
    return inputs


def _depth_info(
    infos: Mapping[str, TopicInfo], camera_info: str | None, sensors: Sequence[str]
) -> str | None:
    """Return the camera_info beside depth images, unless it is that of the images too."""
    for topic in sensors:
        beside = sibling_info(topic)
        known = beside in infos and infos[beside].msgtype in INFO_TYPES
        if infos[topic].msgtype in IMAGE_TYPES and known and beside != camera_info:
            return beside
    return None


def _extrinsics(
    reader: BagReader, topics: BagTopics, sensor: str, config: NodeConfig
) -> np.ndarray | None:
    """
    Return the pose of a topic's sensor in the optical frame, from the settings or the bag.

    None of depth images in the frame of the images, which need none.
    """
    given = config.extrinsics
    if given.translation:
        return pose_matrix(given.translation, given.rotation_xyzw)
    first = [reader.first(topic) for topic in (topics.image, topics.camera_info) if topic]
    frames = [message.header.frame_id for message in first if message and message.header.frame_id]
    scan = reader.first(sensor)
    is_depth = reader.topics[sensor].msgtype in IMAGE_TYPES
    if is_depth and (scan is None or scan.header.frame_id in ('', *frames)):
        return None
    if not frames or scan is None:
        raise CalibrationError(
            f'{reader.path}: the frames of camera and LiDAR cannot be read; check the first '
            'messages, or give --set extrinsics.translation=… and extrinsics.rotation_xyzw=…'
        )
    try:
        return _recorded_pose(reader, frames[0], scan.header.frame_id)
    except CalibrationError as error:
        raise CalibrationError(
            f'{error}, or give it: --set extrinsics.translation=x,y,z '
            '--set extrinsics.rotation_xyzw=x,y,z,w'
        ) from error


def _recorded_pose(reader: BagReader, camera: str, sensor: str) -> np.ndarray:
    """Return the pose of a sensor by /tf_static, or by /tf where it stays the same."""
    tree, pose = reader.static_transforms(), None
    try:
        return tree.lookup(camera, sensor)
    except CalibrationError as error:
        why = error
    for _, message, _ in reader.messages(transform_topics(reader.topics, 'tf')):
        tree.add_message(message, moving=True)
        if not message.transforms:
            continue
        try:
            now = tree.lookup(camera, sensor, header_ns(message.transforms[0]), stale={})
        except CalibrationError as error:
            why = error
            continue
        pose = now if pose is None else pose
        if np.abs(now - pose).max() > _MOVED:
            raise CalibrationError(
                f"'{sensor}' moves against '{camera}' in /tf, and the node gets one pose; use "
                '`evaluate`, which reads the pose at each scan'
            )
    if pose is None:
        raise why
    return pose


def node_values(bag: PlayedBag, config: NodeConfig, every_frame: bool) -> dict[str, Any]:
    """Return the parameters that differ from the node's defaults, by full name."""
    defaults, values = as_values(NodeConfig()), as_values(config)
    wanted: dict[str, Any] = {
        'image_transport': 'compressed' if bag.is_compressed else 'raw',
        'image_rectified': 'yes' if is_rectified_name(bag.topics.image) else 'no',
        'points.max_rate': 0.5,  # the recording would be mostly clouds otherwise
        'sparse_source': ','.join(bag.sources) or NONE,
    }
    if bag.size is not None:  # compiled before the first image comes
        wanted['runtime.warm_up'] = '{}x{}'.format(*bag.size)
    if every_frame:
        # Waiting for the right scan costs nothing here and makes runs comparable.
        wanted['lidar.wait'] = 1.0
    values |= {n: value for n, value in wanted.items() if values[n] == defaults[n]}
    values['sparse_source'] = wanted['sparse_source']  # the LiDAR first
    if (pose := bag.T_cam_sensor) is not None:
        values['extrinsics.translation'] = tuple(pose[:3, 3])
        values['extrinsics.rotation_xyzw'] = tuple(quaternion_xyzw(pose[:3, :3]))
    return {name: value for name, value in values.items() if value != defaults[name]}


def node_arguments(bag: PlayedBag, values: dict[str, Any]) -> list[str]:
    """Format parameters and remapping rules as the node's command line."""
    arguments = ['--ros-args']
    for name, value in values.items():
        arguments += ['-p', f'{name}:={_yaml(value)}']
    for role, (topic, _) in bag.inputs.items():
        if role == 'depth_info':  # found beside its images
            continue
        kind = bag.lidar_kind if role == 'lidar' else role
        name = SPARSE_SOURCES[kind].topic if kind in SPARSE_SOURCES else role
        base = (
            topic.removesuffix('/compressed') if role == 'image' and bag.is_compressed else topic
        )
        arguments += ['-r', f'{name}:={base}']
    return arguments


def _yaml(value: Any) -> str:
    """Format a value so that ROS reads its type: JSON is YAML, but for short floats."""
    if isinstance(value, float):
        return f'{value:.12f}'
    if isinstance(value, tuple):
        return f'[{", ".join(f"{x:.12f}" for x in value)}]'
    # Escapes of JSON cut letters beyond 16 bits in two, which YAML refuses.
    return json.dumps(value, ensure_ascii=False)


def played_messages(reader: BagReader, bag: PlayedBag) -> Iterator[SerialMessage]:
    """Yield the messages to send; thinned scans hold every 8th scan line only."""
    for message in serial_messages(reader, bag.topics, bag.images):
        if message.role not in bag.inputs:
            continue
        thin = message.role == 'lidar' and bag.thinned
        yield _thinned(reader, message) if thin else message


def _thinned(reader: BagReader, message: SerialMessage) -> SerialMessage:
    """Keep every 8th scan line of a cloud, as ``heldout`` does, the points' bytes unchanged."""
    try:
        cloud = reader.decode(message.data, message.msgtype)
        has_ring = has_field(cloud, 'ring')
        columns = to_organised(cloud, ('x', 'y', 'z', 'ring') if has_ring else ('x', 'y', 'z'))
    except (BagError, InputError):
        return message  # the node reports what is wrong with it
    columns = columns.reshape(-1, columns.shape[2])
    read = np.flatnonzero(np.isfinite(columns).all(axis=1))
    if not len(read):
        return message
    ring = columns[read, 3].astype(np.int32) if has_ring else None
    lines = lines_to_split(np.ascontiguousarray(columns[read, :3]), ring, 'rings')
    kept = read[choose_fit_lines(lines, FIT_EVERY)]
    height, width, step = int(cloud.height), int(cloud.width), int(cloud.point_step)
    data = np.ascontiguousarray(cloud.data).view(np.uint8)
    points = np.ndarray((height, width, step), np.uint8, data, strides=(row_step(cloud), step, 1))
    changed = replace(
        cloud,
        height=1,
        width=len(kept),
        row_step=len(kept) * step,
        data=points.reshape(-1, step)[kept].reshape(-1),
    )
    types = get_typestore(Stores.ROS2_HUMBLE)
    return replace(message, data=bytes(types.serialize_cdr(changed, message.msgtype)))
