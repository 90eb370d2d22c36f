# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What a live run exchanges with the node over DDS: inputs from a bag are played, outputs recorded.

Decision: messages are recorded as the bytes that arrived; only the two small ones that report on
the node, ``~/alignment`` and ``/diagnostics``, are decoded.

Decision: ``auto`` measures the first frames and then sends an image when its period is over and
the previous image's outputs have arrived, whichever is later, so that a slow machine processes
every frame; at a multiple of real time the node drops what it cannot process.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.bags.writer import BagWriter
from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.played_bag import scans_first, SerialMessage
from marigold_ros.message_codec import serialised_header_ns
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.replay.recording import NODE
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
import sensor_msgs.msg
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

OUTPUTS = {
    'depth/image_rect': Image,
    'depth/camera_info': CameraInfo,
    'relative/image': Image,
    'points': PointCloud2,
    'alignment': DiagnosticArray,
}
# The first frame is the warm-up; the ones after it are measured.
PROBES = 4
# Seconds for one frame in the slowest case (a full checkpoint on a CPU).
PATIENCE = 300.0
# Diagnostics (one a second) after which an image that the node never counted is taken for lost:
# DDS drops what cannot be deserialised before the node sees it.
LOST_AFTER = 8
_OUTPUT_QOS = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
_INPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


class Recorder:
    """
    Subscriptions to a depth node's outputs and diagnostics.

    ``node`` subscribes, and the caller spins it in one thread; ``writer`` is an open bag, or None
    to record only arrivals; ``outputs`` maps names below the depth node's to message types.
    ``heard`` counts the messages by output.
    """

    def __init__(
        self, node, writer: BagWriter | None = None, outputs: Mapping[str, type] = OUTPUTS
    ) -> None:
        self._writer = writer
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self.heard: Counter[str] = Counter()
        self._not_metric = 0
        self.arrivals: dict[str, dict[int, float]] = {name: {} for name in outputs}
        self.reports = 0
        self._report: dict[str, dict[str, str]] = {}
        for name, kind in outputs.items():
            self._subscribe(node, f'{NODE}/{name}', kind, name)
        self._subscribe(node, '/diagnostics', DiagnosticArray, 'diagnostics')

    def _subscribe(self, node, topic: str, kind: type, name: str) -> None:
        msgtype = f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'

        def take(data: bytes) -> None:
            try:
                if self._writer is not None:
                    self._writer.write_raw(topic, msgtype, data, time.time_ns())
                self._note(name, data)
            except Exception as error:  # ends the thread that spins, so nothing arrives any more
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                raise

        node.create_subscription(kind, topic, take, _OUTPUT_QOS, raw=True)

    def _note(self, name: str, data: bytes) -> None:
        stamp = serialised_header_ns(data)
        with self._changed:
            self.heard[name] += 1
            if name == 'alignment':
                status = deserialize_message(data, DiagnosticArray).status[0]
                self._not_metric += keys.values_of(status)['state'] == 'none'
            if name == 'diagnostics':
                self._take_report(deserialize_message(data, DiagnosticArray))
            elif stamp is not None:
                self.arrivals[name][stamp] = time.monotonic()
            self._changed.notify_all()

    def _take_report(self, message: DiagnosticArray) -> None:
        own = f'{NODE}: '
        report = {
            status.name[len(own) :]: keys.values_of(status)
            for status in message.status
            if status.name.startswith(own)
        }
        if report:
            self._report = report
            self.reports += 1

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """
        Wait until a condition holds, checked on every message; returns whether it does.

        Raises the error of a message that could not be recorded.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or condition(), seconds)
            if self._failure:
                raise self._failure
            return condition()

    def require(
        self, condition: Callable[[], bool], what: str, check: Callable[[], None], seconds: float
    ) -> None:
        """Wait for a condition; raises MarigoldError with ``what`` after that many seconds."""
        deadline = time.monotonic() + seconds
        while not self.wait(condition, 0.1):
            check()
            if time.monotonic() > deadline:
                raise MarigoldError(
                    f'{what} after {seconds:g} s; see node.log, and check whether a firewall or '
                    'ROS_DOMAIN_ID keeps the processes apart'
                )

    def report(self, part: str) -> dict[str, str]:
        """One part of the latest diagnostics, such as ``frames``; empty before any arrived."""
        return self._report.get(part, {})

    def count(self, name: str) -> int:
        """One counter of the latest diagnostics, as ``frames.served``; 0 where it is missing."""
        return int(self.report(name.partition('.')[0]).get(name, 0))

    @property
    def complete(self) -> int:
        """Frames whose outputs have all arrived."""
        heard = self.heard
        metric = heard['depth/image_rect'] + self._not_metric
        return min(heard['alignment'], heard['relative/image'], metric)

    @property
    def unserved(self) -> int:
        """Frames that the node reported as rejected, dropped or skipped."""
        unserved = (keys.FRAMES_REJECTED, keys.FRAMES_DROPPED, keys.FRAMES_IDLE)
        frames = self.report('frames')
        return sum(int(value) for name, value in frames.items() if name.startswith(unserved))

    def arrival(self, stamp_ns: int) -> float | None:
        """When a frame's last output arrived, by the monotonic clock; None where none did."""
        times = [arrived[stamp_ns] for arrived in self.arrivals.values() if stamp_ns in arrived]
        return max(times, default=None)


@dataclass
class Played:
    """Images sent, by stamp and in all, and the rate as a multiple of real time."""

    sent: int = 0
    rate: float = float('nan')
    seconds: float = 0.0
    sent_at: dict[int, float] = field(default_factory=dict)
    unanswered: int = 0


class Player:
    """
    Publishers of the node's inputs, paced by what the recorder receives.

    ``topics`` maps the roles image, camera_info and lidar to (topic, message type); ``check``
    raises if the depth node has ended.
    """

    def __init__(self, node, topics, recorder: Recorder, check: Callable[[], None]) -> None:
        self._node, self._recorder, self._check = node, recorder, check
        self._publishers = {
            role: node.create_publisher(
                getattr(sensor_msgs.msg, msgtype.rpartition('/')[2]), topic, _INPUT_QOS
            )
            for role, (topic, msgtype) in topics.items()
        }

    def publish_transforms(self, messages: Iterable[bytes]) -> None:
        """Publish /tf_static for viewers, where tf2_msgs is installed."""
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            return
        latched = QoSProfile(
            depth=100,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._transforms = self._node.create_publisher(TFMessage, '/tf_static', latched)
        for data in messages:
            self._transforms.publish(data)

    @property
    def matched(self) -> bool:
        """Whether the node subscribes to every input, reliably."""
        for publisher in self._publishers.values():
            listeners = self._node.get_subscriptions_info_by_topic(publisher.topic_name)
            wanted = {info.qos_profile.reliability for info in listeners}
            if publisher.get_subscription_count() < 1 or wanted != {ReliabilityPolicy.RELIABLE}:
                return False
        return True

    def send(self, message: SerialMessage) -> None:
        """Publish one message."""
        self._publishers[message.role].publish(message.data)

    def play(
        self,
        messages: Iterable[SerialMessage],
        rate: float | None,
        period: float,
        progress: Callable[[int], None],
        announce: Callable[[float, float], None],
    ) -> Played:
        """
        Send all messages, given in the order of the bag; returns what was sent.

        ``rate`` is a multiple of real time, None to wait for every frame; ``period`` are the
        seconds between two images. ``progress`` receives the number of images sent or processed
        so far, ``announce`` the rate and the seconds per frame, once they are known.
        """
        started = time.monotonic()
        if rate is None:
            sensors = self._publishers.keys() - {'image', 'camera_info', 'depth_info'}
            queue = scans_first(messages, sensors)
            played = self._play_all(queue, period, progress, announce)
        else:
            played = self._play_timed(messages, rate, progress)
        played.seconds = time.monotonic() - started
        return played

    def _play_timed(self, messages, rate: float, progress) -> Played:
        played = Played(rate=rate)
        first_ns = start = None
        for message in messages:
            if first_ns is None:
                first_ns, start = message.log_ns, time.monotonic()
            self._pause_until(start + (message.log_ns - first_ns) / 1e9 / rate)
            if message.role == 'image':
                self._check()
                played.sent += 1
                played.sent_at[message.stamp_ns] = time.monotonic()
                progress(played.sent)
            self.send(message)
        return played

    def _play_all(self, messages, period: float, progress, announce) -> Played:
        played = Played()
        pace = 0.0
        took: list[float] = []
        sent_at = time.monotonic()
        for message in messages:
            if message.role == 'image':
                if played.sent:
                    self._await_answer(played, progress)
                    took.append(time.monotonic() - sent_at)
                if played.sent == PROBES:
                    pace = max(period, median(took[1:]))
                    played.rate = period / pace
                    announce(played.rate, median(took[1:]))
                self._pause_until(sent_at + pace)
                sent_at = time.monotonic()
                played.sent += 1
                played.sent_at[message.stamp_ns] = sent_at
            self.send(message)
        if played.sent:
            self._await_answer(played, progress)
            took.append(time.monotonic() - sent_at)
        if not pace and took:  # a bag with fewer images than probes
            played.rate = min(1.0, period / median(took))
            announce(played.rate, median(took))
        return played

    def _await_answer(self, played: Played, progress) -> None:
        """Wait until the last image is processed or known to be lost."""
        recorder, seen = self._recorder, self._recorder.reports

        def lost() -> bool:
            received = recorder.count(keys.FRAMES_RECEIVED) + played.unanswered
            idle = not recorder.count(keys.FRAMES_IN_FLIGHT)
            return recorder.reports >= seen + LOST_AFTER and received < played.sent and idle

        def answered() -> bool:
            return recorder.complete + recorder.unserved + played.unanswered >= played.sent

        deadline = time.monotonic() + PATIENCE
        while not recorder.wait(answered, 0.5):
            self._check()
            if lost() or time.monotonic() > deadline:
                played.unanswered += 1
        progress(played.sent)

    @staticmethod
    def _pause_until(moment: float) -> None:
        time.sleep(max(0.0, moment - time.monotonic()))
