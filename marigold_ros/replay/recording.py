# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Record the pipeline's outputs for a bag under the node's topics, together with their inputs.

Decision: the recording also holds images, scans and transforms of the bag, with their times of
recording, so that RViz and Foxglove need no other; outputs have the header and the time of
recording of their image, so that a recording can also be played beside its bag.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
import shutil
from typing import Any

from marigold_ros.bags.frames import BagFrame, Excerpt, WHOLE
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import PointsConfig
from marigold_ros.errors import BagError, with_names
from marigold_ros.frame import FrameResult
from marigold_ros.geometry.cloud.organised import cloud_of
from marigold_ros.geometry.fit_report import details_of, fit_report
from marigold_ros.message_codec import camera_info_fields, encode_cloud, encode_depth, encode_image

NODE = '/marigold_depth'
SOURCE, DAMAGE = 'marigold_ros.source', 'marigold_ros.damage'  # in metadata.yaml
_IMAGE, _INFO = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo'
_CLOUD, _STATUS = 'sensor_msgs/msg/PointCloud2', 'diagnostic_msgs/msg/DiagnosticArray'
_OK, _WARN = 0, 1


class Recording:
    """
    A bag of outputs, written at ``path`` during the replay of ``bag``; use it in a ``with``.

    ``topics`` are those that are replayed, ``points`` has the cloud's range, stride and fields.
    All outputs are added to the inputs of the replay, or those that ``outputs`` names, such as
    'depth' and 'points', to all topics of the bag. ``left_out`` names topics with messages that
    cannot be copied, as those of types that ROS 2 lacks, and outputs of an earlier run; ``damage``
    says what of the copied topics cannot be read, and is noted in the metadata.
    ``excerpt`` is the part of the bag that is replayed; images that it skips are copied. An older
    recording at ``path`` is replaced. On entering, raises BagError where something else is there
    or the folder cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        bag: str | Path,
        topics: BagTopics,
        points: PointsConfig,
        excerpt: Excerpt = WHOLE,
        outputs: tuple[str, ...] | None = None,
    ) -> None:
        self._path, self._topics, self._points = Path(path), topics, points
        self._outputs = outputs
        self._excerpt, self._images = excerpt, 0
        self.left_out: set[str] = set()
        self.damage = ''
        self._bag = BagReader(bag)

    def __enter__(self) -> Recording:
        remove_recording(self._path)
        with ExitStack() as opened:
            opened.enter_context(self._bag)
            static = self._bag.static_topics
            latched = [*static, *self._bag.latched_topics]
            self._writer = opened.enter_context(BagWriter(self._path, latched=latched))
            self._writer.note(SOURCE, self._bag.contents)
            begin_ns, end_ns = self._excerpt.bounds_ns(self._bag)
            self._inputs = self._bag.raw(self._copied(static), begin_ns, end_ns, every_type=True)
            self._waiting = self._following()
            first_ns = self._waiting[3] if self._waiting else 0
            with suppress(BagError):  # the replay raises the same error
                for topic, msgtype, data, log_ns in self._bag.raw(static):
                    # Static transforms from outside of the recording are moved to its beginning.
                    log_ns = max(min(log_ns, first_ns), begin_ns or 0)
                    self._copy(topic, msgtype, data, log_ns)
            opened.pop_all()  # __exit__ closes
        return self

    def _copied(self, static: list[str]) -> list[str]:
        """Return the topics that are copied, apart from static transforms."""
        if self._outputs is None:
            moving = [t for t in self._bag.topics if t.rpartition('/')[2] == 'tf']
            return list(dict.fromkeys([*self._topics.named, *moving]))
        own = {topic for topic in self._bag.topics if self._is_output(topic)}
        self.left_out |= own
        return [t for t in self._bag.topics if t not in static and t not in own]

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        # A damaged bag's recording ends where the bag does.
        keeps = kind is None or issubclass(kind, BagError)
        while keeps and self._waiting is not None and self._waiting[0] != self._topics.image:
            self._copy(*self._waiting)  # the last image's scan may come after it
            self._waiting = self._following()
        self._bag.__exit__(kind, *error)
        if damage := self.damage or str(error[0] or ''):
            # Readers of the recording need not know the bag's folder.
            self._writer.note(DAMAGE, with_names(damage, [self._bag.path]))
        self._writer.__exit__(None if keeps else kind, *error)

    def add(self, item: BagFrame, result: FrameResult | None) -> None:
        """Write the next image of the bag, the messages before it, and its outputs if any."""
        log_ns = self._copy_up_to_the_image()
        if result is None or log_ns is None:
            return
        header = replace(item.image_message.header, frame_id=item.frame_id)
        for name, msgtype, fields in output_messages(result, item.usable.scan_ns, self._points):
            if self._is_output(f'{NODE}/{name}'):
                self._writer.write(f'{NODE}/{name}', msgtype, {'header': header, **fields}, log_ns)

    def _is_output(self, topic: str) -> bool:
        """Return whether a topic is one of the outputs."""
        if not topic.startswith(f'{NODE}/'):
            return False
        return self._outputs is None or topic.split('/')[2] in self._outputs

    def _following(self) -> tuple[str, str, bytes, int] | None:
        try:
            return next(self._inputs, None)
        except BagError as error:
            self.damage = str(error)
            return None

    def _copy_up_to_the_image(self) -> int | None:
        """Copy inputs up to the next image that is replayed; returns its log time, ns."""
        while self._waiting is not None:
            topic, msgtype, data, log_ns = self._waiting
            self._copy(topic, msgtype, data, log_ns)
            self._waiting = self._following()
            if topic == self._topics.image and msgtype == self._bag.topics[topic].msgtype:
                self._images += 1
                if (self._images - 1) % self._excerpt.every == 0:
                    return log_ns
        return None

    def _copy(self, topic: str, msgtype: str, data: bytes, log_ns: int) -> None:
        try:
            if self._outputs is not None and self._bag.types is not None:
                self._writer.write_raw(topic, msgtype, data, log_ns, self._bag.types)
                return
            message = self._bag.decode(data, msgtype)
            if hasattr(message, 'K'):  # CameraInfo of ROS 1
                fields = vars(message).items()
                message = {name.lower(): value for name, value in fields if name != '__msgtype__'}
            self._writer.write(topic, msgtype, message, log_ns)
        except BagError:
            self.left_out.add(topic)


def output_messages(
    result: FrameResult, scan_ns: int | None, points: PointsConfig
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield topic (below the node's name), type and fields without header, as the node does."""
    info = None if result.camera is None else camera_info_fields(result.camera)
    images = {'relative': encode_image(result.relative, '32FC1')}
    if result.metric is not None:
        images['depth'] = encode_depth(result.metric)
    if result.metric is not None and result.sigma is not None:
        images['uncertainty'] = encode_image(result.sigma, '32FC1')
    for part, image in images.items():
        yield (f'{part}/image' + ('_rect' if part == 'depth' else ''), _IMAGE, vars(image))
        if info is not None:
            yield f'{part}/camera_info', _INFO, info
    cloud = cloud_of(result, points)
    if cloud is not None:
        yield 'points', _CLOUD, vars(encode_cloud(cloud))
    yield 'alignment', _STATUS, {'status': [_alignment_status(result, scan_ns)]}


def _alignment_status(result: FrameResult, scan_ns: int | None) -> dict[str, Any]:
    """Return the status of the node's ``~/alignment``."""
    report = fit_report(result.alignment, result.stamp_ns, scan_ns, details_of(result))
    return {
        'level': _OK if report.is_good else _WARN,
        'name': f'{NODE}: alignment',
        'message': report.text,
        'values': [
            {'key': key, 'value': f'{value:.6g}' if isinstance(value, float) else str(value)}
            for key, value in report.values.items()
        ],
    }


def remove_recording(path: Path) -> None:
    """Remove an earlier recording, if there is one; raises BagError as `check_recording`."""
    check_recording(path)
    if path.exists():
        shutil.rmtree(path)


def is_same_bag(path: Path, bag: Path) -> bool:
    """Return whether a path is that of a bag, or of the folder of its file."""
    return path.resolve() in (bag.resolve(), bag.resolve().parent)


def check_recording(path: Path, bags: Sequence[Path] = ()) -> None:
    """Raise BagError where a path exists and is no bag, or is one of ``bags``: it is kept."""
    if path.is_symlink() or (path.exists() and not (path / 'metadata.yaml').is_file()):
        raise BagError(f'{path} is in the way and no bag; choose another --out')
    for bag in bags:
        if is_same_bag(path, bag):
            raise BagError(f'the recording would take the place of {bag}; choose another --out')
