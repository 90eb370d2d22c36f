# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The node's inputs: images, camera_info and sparse depth, checked by header and paired by stamp.

A callback here reads the header only, and what it rejects is counted at once. Decoding pixels and
points is left to the worker.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
import threading
import time
from typing import Any

from marigold_ros.bags.topics import is_rectified_name, sibling_info
from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError, InputError, MarigoldError
from marigold_ros.frame import SparseInput
from marigold_ros.message_codec import header_ns
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.node.distro import HoldableGroup, without_events
from marigold_ros.node.health import (
    explain_missing_scan,
    Health,
    OTHER_CLOCK_S,
    PROBLEM_MEMORY,
    Rate,
)
from marigold_ros.node.interface.qos import (
    describe_profile,
    input_profile,
    user_overrides,
)
from marigold_ros.node.ros_helpers import ImageReader, subscribe
from marigold_ros.pairing import Choice, ScanBuffer, stamp_error, StampOrder
from marigold_ros.sparse_sources import source_names, SPARSE_SOURCES, SparseReading
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
import sensor_msgs.msg
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

# Names of image_transport's plugins whose messages are not read here.
_OTHER_TRANSPORTS = ('ffmpeg', 'h264', 'theora', 'webp', 'zstd')
# A camera_info may arrive just after its image, seconds.
_INFO_WAIT = 0.1
# Images in a row without a scan, after which the scans stay away.
_UNPAIRED = 10


@dataclass
class Input:
    """
    One subscription: what is asked for, what was chosen, and what arrives.

    ``source`` is the kind of sparse depth, as in SPARSE_SOURCES, and ``beside`` the camera_info of
    a depth image that is not registered; ``infos`` are the last camera_infos, and ``unpaired`` the
    images without a scan in a row.
    """

    name: str
    unresolved: str  # name of the topic for rclpy, which applies remapping rules once
    topic: str
    kind: type
    depth: int
    reliability: str
    callback: Callable  # takes this input and a message
    part: str = ''  # of the diagnostics
    source: str = ''
    beside: 'Input | None' = None
    infos: deque[CameraInfo] = field(default_factory=lambda: deque(maxlen=100))
    subscriber: Any = None
    profile: Any = None
    offers: list[QoSProfile] = field(default_factory=list)  # of publishers of the input's type
    mismatch: str = ''  # what else is published, and the setting that fits it
    rate: Rate = field(default_factory=Rate)
    unpaired: int = 0
    refused: bool = False  # the last message

    @property
    def is_away(self) -> bool:
        """Whether no scan fits the last images."""
        return self.unpaired >= _UNPAIRED

    @property
    def publishers(self) -> int:
        return len(self.offers)

    @property
    def incompatible(self) -> bool:
        """Whether a publisher offers less than is asked for, so that nothing comes of it."""
        return self.profile is not None and not all(
            qos_check_compatible(offer, self.profile)[0] != QoSCompatibility.ERROR
            for offer in self.offers
        )

    @property
    def problem_part(self) -> str:
        """The part under which problems are reported to ``Health``."""
        return self.part if '.' in self.part else self.name

    @property
    def qos(self) -> str:
        """The chosen profile in words."""
        return 'not subscribed' if self.profile is None else describe_profile(self.profile)

    def info_at(self, stamp_ns: int) -> CameraInfo | None:
        """Return the last camera_info at or before an image; the last of all without any."""
        infos = list(self.infos)[::-1]
        fitting = (info for info in infos if header_ns(info) <= stamp_ns)
        return next(fitting, infos[0] if infos else None)

    def with_camera(
        self, scan: SparseReading, scan_ns: int, image_frame: str, shape: tuple
    ) -> SparseInput:
        """Return the input of a scan, a depth image with its camera unless it is registered."""
        if self.beside is None:
            return scan.input
        info, rectified = self.beside.info_at(scan_ns), is_rectified_name(self.topic)
        return scan.with_camera(image_frame, shape, info, self.beside.topic, rectified)


def type_mismatch(item: Input, msgtype: str) -> str:
    """Return what an input's topic carries instead of its own type, and the remedy."""
    kind = msgtype.rpartition('/')[2]
    text = f'{item.topic} is {"an" if kind[0] in "AEIOU" else "a"} {kind}'
    if item.name == 'image' and kind == 'CompressedImage':
        stem = item.topic.removesuffix('/compressed')
        remap = f'{stem}/compressed to it' if stem == item.topic else f'image to {stem}'
        return f'{text}: set image_transport: compressed, and remap {remap}'
    if item.name == 'image' and kind == 'Image':
        return f'{text}: set image_transport: raw, and remap image to {item.topic}'
    if item.name == 'scan':
        for name, source in SPARSE_SOURCES.items():
            if source.msgtype == msgtype:
                return f'{text}: set sparse_source: {name}, and remap {source.topic} to it'
    text += f', and the node needs {item.kind.__name__} there'
    return f'{text}: choose another topic, or have the driver publish that'


def is_remapped(node, name: str) -> bool:
    """Return whether a topic was given another name at start."""
    return node.resolve_topic_name(name) != node.resolve_topic_name(name, only_expand=True)


def _image_info(node) -> str:
    beside = sibling_info(node.resolve_topic_name('image'))
    return 'camera_info' if is_remapped(node, 'camera_info') else beside


def infos_read(node) -> set[str]:
    """Return the topics of camera_info that the node reads: of its images and depth images."""
    found = [_image_info(node)]
    if 'depth_image' in source_names(node.get_parameter('sparse_source').value):
        found.append(sibling_info(node.resolve_topic_name(SPARSE_SOURCES['depth_image'].topic)))
    return set(map(node.resolve_topic_name, found))


def _limits(config: NodeConfig) -> tuple[int, int]:
    """Return the largest difference of stamps and how long scans are kept, nanoseconds."""
    return round(config.lidar.max_dt * 1e9), round(config.lidar.buffer * 1e9)


class Inputs:
    """
    Images with a valid header, which go to ``on_image``, camera_info, and scans.

    ``config`` names topics, QoS and pairing; ``health`` receives the counters ``frames.*``,
    ``scans.*`` and ``infos.*``, and problems; ``images`` checks headers here and decodes
    elsewhere; ``on_jump`` is called with a reason when the stamps' clock jumps.
    """

    def __init__(
        self,
        node,
        config: NodeConfig,
        health: Health,
        images: ImageReader,
        on_image: Callable[[Any], None],
        on_jump: Callable[[str], None],
    ) -> None:
        self._node, self._health = node, health
        self._on_sound_image, self._on_jump = on_image, on_jump
        self._group = HoldableGroup()
        self._refreshing = threading.Lock()
        self._scan_arrived = threading.Condition()
        self._info_arrived = threading.Event()
        self._image_ns = -1  # of the last image
        self._stamps = StampOrder()
        self._open = False
        self.images, self.config = images, config
        self.image, self.info = self._plan_images()
        self.sparse = self._plan_sparse()
        self._check_topics()
        limits = _limits(config)
        self._scans: dict[str, ScanBuffer] = {
            item.source: ScanBuffer(*limits) for item in self.sparse
        }

    def _plan_images(self) -> tuple[Input, Input]:
        """Resolve topics and types of the images and of their camera_info."""
        config, info = self.config, _image_info(self._node)
        kind, image = Image, 'image'
        if config.image_transport == 'compressed':
            kind, image = CompressedImage, self._node.resolve_topic_name(image) + '/compressed'
        wanted, of_info = config.image_reliability, config.info_reliability
        return (
            self._input('image', image, kind, 1, wanted, self._on_image, 'frames'),
            self._input('info', info, CameraInfo, 1, of_info, self._on_info, 'infos'),
        )

    def _input(self, name: str, unresolved: str, *rest, **more) -> Input:
        return Input(name, unresolved, self._node.resolve_topic_name(unresolved), *rest, **more)

    def _plan_sparse(self) -> list[Input]:
        """Resolve topics and types of sparse depth."""
        config, plan = self.config, []
        names = source_names(config.sparse_source)
        for name in names:
            if name not in SPARSE_SOURCES:
                continue
            source = SPARSE_SOURCES[name]
            kind = getattr(sensor_msgs.msg, source.message_name)
            part = keys.SCANS if len(names) == 1 else keys.source_part(name)
            wanted, of_info = config.lidar_reliability, config.info_reliability
            given = kind, 5, wanted, self._on_scan, part
            item = self._input('scan', source.topic, *given, source=name)
            if not source.needs_extrinsics:
                beside, heard = sibling_info(item.topic), self._on_depth_info
                item.beside = self._input('depth_info', beside, CameraInfo, 1, of_info, heard)
            plan.append(item)
        return plan

    def _check_topics(self) -> None:
        """Refuse two inputs of one topic, unless both are camera_info."""
        for one, other in combinations(self.inputs, 2):
            if one.topic == other.topic and {one.kind, other.kind} != {CameraInfo}:
                both = ' and '.join(
                    SPARSE_SOURCES[item.source].topic if item.source else item.name
                    for item in (one, other)
                )
                raise ConfigurationError(f'{both} are both {one.topic}: remap one')

    @property
    def inputs(self) -> list[Input]:
        sparse = [one for item in self.sparse for one in (item, item.beside) if one is not None]
        return [self.image, self.info, *sparse]

    def set_config(self, config: NodeConfig) -> None:
        """Apply changed settings; scans that are there stay, for the image that is served next."""
        before, self.config = self.config, config
        if config.lidar != before.lidar:
            later = config.lidar.time_offset - before.lidar.time_offset
            for scans in self._scans.values():
                scans.change(*_limits(config), round(later * 1e9))

    # Subscriptions

    def open(self) -> None:
        self._open = True
        self.clear()
        # Images last: of messages that are ready together, camera_info and scan are taken first.
        for item in reversed(self.inputs):
            self._subscribe(item, self._wanted_profile(item))

    def close(self) -> None:
        """Destroy the subscriptions; a wait for a scan ends."""
        with self._refreshing:  # which might subscribe anew
            self._open = False
            for item in self.inputs:
                self._unsubscribe(item)
        with self._scan_arrived:
            self._scan_arrived.notify_all()

    def _wanted_profile(self, item: Input):
        publishers = self._node.get_publishers_info_by_topic(item.unresolved)
        msgtype = f'sensor_msgs/msg/{item.kind.__name__}'
        fitting = [info for info in publishers if info.topic_type == msgtype]
        others = sorted({info.topic_type for info in publishers} - {msgtype})
        if fitting and not item.publishers:
            item.rate.begin()
        item.offers, item.mismatch = [info.qos_profile for info in fitting], ''
        if not fitting:
            item.mismatch = (
                type_mismatch(item, others[0]) if others else self._other_transport(item)
            )
        return input_profile(item.reliability, item.depth, item.offers)

    def _other_transport(self, item: Input) -> str:
        """Return the remedy where a camera publishes its images in other forms only; or ''."""
        if item.name != 'image':
            return ''
        published = self._node.get_publishers_info_by_topic
        stem = self._node.resolve_topic_name('image')
        topic = f'{stem}/compressed'
        kinds = {info.topic_type for info in published(topic)}
        if item.kind is Image and 'sensor_msgs/msg/CompressedImage' in kinds:
            return f'{topic} is a CompressedImage: set image_transport: compressed'
        other = next((name for name in _OTHER_TRANSPORTS if published(f'{stem}/{name}')), None)
        if other is None:
            return ''
        return (
            f'only {stem}/{other} is published: {other} is not read here; decode it with '
            f'`ros2 run image_transport republish {other} raw --ros-args -p in_transport:={other} '
            f'-p out_transport:=raw -r in/{other}:={stem}/{other} -r out:={stem}/decoded`, and '
            f'remap image to {stem}/decoded'
        )

    def _subscribe(self, item: Input, profile) -> None:
        item.subscriber = subscribe(
            self._node,
            item.kind,
            item.unresolved,
            partial(item.callback, item),
            qos_profile=profile,
            callback_group=self._group,
            event_callbacks=without_events('subscription'),
            qos_overriding_options=user_overrides(self._node, item.topic, 'subscription'),
        )
        item.profile = profile

    def _unsubscribe(self, item: Input) -> None:
        if item.subscriber is not None:
            with self._group.held():
                self._node.destroy_subscription(item.subscriber.sub)
        item.subscriber = None

    def refresh_qos(self) -> None:
        """Compare with the publishers' QoS; subscribe anew where the chosen profile changed."""
        with self._refreshing:  # the node does so every second
            for item in self.inputs:
                profile = self._wanted_profile(item)
                fixed = user_overrides(self._node, item.topic, 'subscription') is not None
                if not self._open or fixed or describe_profile(profile) == item.qos:
                    continue
                self._unsubscribe(item)
                self._subscribe(item, profile)
                self._node.get_logger().info(f'{item.topic}: subscribed anew, {item.qos}')

    # Pairing

    def clear(self) -> None:
        """Forget scans and stamps, as after a clock jump; of camera_info the last one stays."""
        for scans in self._scans.values():
            scans.clear()
        with self._scan_arrived:  # against another thread that clears
            for item in self.inputs:
                while len(item.infos) > 1:  # drivers may never publish the last one again
                    item.infos.popleft()
        self._stamps.clear()

    def await_info(self, image_ns: int) -> CameraInfo | None:
        """Return an image's camera_info; wait briefly for the first, or if each image has one."""
        info, before, self._image_ns = self.info, self._image_ns, image_ns
        self._info_arrived.clear()
        last = info.info_at(before)
        is_own = last is not None and header_ns(last) == before
        is_due = header_ns(info.infos[-1]) < image_ns if is_own else last is None
        if is_due and info.publishers and not info.rate.is_silent(PROBLEM_MEMORY):
            self._info_arrived.wait(_INFO_WAIT)
        return info.info_at(image_ns)

    def await_scans(self, image_ns: int) -> dict[str, Choice]:
        """
        Choose each source's scan for an image, waiting up to ``lidar.wait`` for nearer ones.

        One that has fallen silent or has another clock would slow all images down, for nothing.
        """
        deadline = time.monotonic() + self.config.lidar.wait
        with self._scan_arrived:
            while True:
                choices, awaited = self._choose_scans(image_ns)
                remaining = deadline - time.monotonic()
                if not awaited or remaining <= 0 or not self._open:
                    return choices
                self._scan_arrived.wait(remaining)

    def settled_scans(self, image_ns: int) -> dict[str, Choice] | None:
        """Choose as `await_scans` does; None where a nearer scan may still come."""
        choices, awaited = self._choose_scans(image_ns)
        return None if awaited else choices

    def _choose_scans(self, image_ns: int) -> tuple[dict[str, Choice], bool]:
        """Choose among the scans that are there; whether nearer ones may come."""
        choices = {name: scans.choose(image_ns) for name, scans in self._scans.items()}
        awaited = any(
            not choices[item.source].final and self._may_come(item, image_ns)
            for item in self.sparse
        )
        return choices, awaited

    def _may_come(self, item: Input, image_ns: int) -> bool:
        """Whether a scan for an image may come from a sensor that is there and of its clock."""
        scans = self._scans[item.source]
        newest_ns, period_ns = scans.newest_ns, scans.period_ns
        if newest_ns and period_ns and newest_ns + period_ns > image_ns + _limits(self.config)[0]:
            return False  # its next scan will be too late for this image
        if not item.is_away:
            return newest_ns is not None or item.publishers > 0
        of_other_clock = newest_ns is None or image_ns - newest_ns > OTHER_CLOCK_S * 1e9
        return not (of_other_clock or item.rate.is_silent(PROBLEM_MEMORY))

    def why_no_scan(self, item: Input, image_ns: int) -> str:
        """Return why none of the scans of an input matches an image."""
        scans, (max_dt_ns, _) = self._scans[item.source], _limits(self.config)
        return explain_missing_scan(
            image_ns, scans.newest_ns, max_dt_ns, scans.period_ns, item.rate.silence
        )

    # Callbacks

    def _on_image(self, item: Input, message) -> None:
        if not self._open:  # delivered while the subscription ended
            return
        self._health.counters.enter_frame()
        item.rate.tick()
        stamp = header_ns(message)
        try:
            self.images.check(message)
            # As it is now: where all images are too old, none is served that would read settings.
            self.check_age(stamp, self._node.current_config().max_input_age)
            self._check_order(item, stamp)
        except InputError as error:
            self._health.counters.leave_frame(f'{keys.FRAMES_REJECTED}{error.cause}')
            self._health.report('image', f'image rejected: {error}')
            return
        for scans in self._scans.values():
            scans.expect(stamp)
        self._on_sound_image(message)

    def _check_order(self, item: Input, stamp: int) -> None:
        """Refuse a stamp that is out of order alone; of two that agree, the clock has jumped."""
        if item is self.image and self._stamps.is_repeated(item.topic, stamp):
            raise stamp_error(stamp)  # the scan of the first such image would fit all of them
        judged = self._stamps.judge(item.topic, stamp, time.monotonic_ns())
        if judged == 'lone':
            raise stamp_error(stamp)
        if judged == 'jump':
            self._on_jump(f'the clock of {item.topic} jumped')
            self._stamps.judge(item.topic, stamp, time.monotonic_ns())

    def check_age(self, stamp: int, limit: float) -> None:
        """Raise InputError if an image is older than a limit in seconds; 0 is none."""
        now = self._node.get_clock().now().nanoseconds
        if limit > 0 and now - stamp > limit * 1e9:
            raise InputError(
                f'image is {(now - stamp) / 1e9:.3f} s old, max_input_age is {limit:g} s; '
                'compare the clocks, or set use_sim_time when a bag is played',
                cause='age',
            )

    def _on_info(self, item: Input, message) -> None:
        self._health.counters.add(keys.INFOS_RECEIVED)
        item.rate.tick()
        item.infos.append(message)
        self._info_arrived.set()

    def _on_depth_info(self, item: Input, message) -> None:
        item.infos.append(message)

    def _on_scan(self, item: Input, message) -> None:
        if not self._open:
            return
        self._count(item, 'received')
        item.rate.tick()
        stamp = header_ns(message)
        try:
            SPARSE_SOURCES[item.source].check(message)
            if stamp == 0:
                raise stamp_error(stamp)
            self._check_order(item, stamp)
        except MarigoldError as error:
            self.reject_scan(item, error)
            return
        stamp += round(self.config.lidar.time_offset * 1e9)
        item.refused = False
        with self._scan_arrived:
            self._scans[item.source].add(stamp, message)
            self._scan_arrived.notify_all()

    def _count(self, item: Input, event: str) -> None:
        """Count an event of sparse depth, in all and by source if there are several."""
        for part in {keys.SCANS, item.part}:
            self._health.counters.add(f'{part}.{event}')

    def reject_scan(self, item: Input, error: MarigoldError) -> None:
        """Count and report a scan of an input that cannot be used."""
        item.refused = True
        self._count(item, f'rejected.{error.cause}')
        self._health.report(item.problem_part, f'scan rejected: {error}')
