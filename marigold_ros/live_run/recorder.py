# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Recorder of a depth node's outputs: writes them to a bag as they arrive and counts frames.

Decision: messages are written as the bytes that arrived; only the two small ones that report on
the node, ``~/alignment`` and ``/diagnostics``, are decoded.
"""

from collections import Counter
from collections.abc import Callable, Mapping
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.bags.writer import BagWriter
from marigold_ros.errors import MarigoldError
from marigold_ros.message_codec import serialised_header_ns
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.replay.recording import NODE
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

OUTPUTS = {
    'depth/image_rect': Image,
    'depth/camera_info': CameraInfo,
    'relative/image': Image,
    'points': PointCloud2,
    'alignment': DiagnosticArray,
}
_QOS = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)


class Recorder:
    """
    Subscriptions to a depth node's outputs and diagnostics.

    ``node`` subscribes, and the caller spins it in one thread; ``writer`` is an open bag, or None
    to record only arrivals; ``outputs`` maps names below the depth node's to message types.
    """

    def __init__(
        self, node, writer: BagWriter | None = None, outputs: Mapping[str, type] = OUTPUTS
    ) -> None:
        self._writer = writer
        self._changed = threading.Condition()
        self._heard: Counter[str] = Counter()
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
            if self._writer is not None:
                self._writer.write_raw(topic, msgtype, data, time.time_ns())
            self._note(name, data)

        node.create_subscription(kind, topic, take, _QOS, raw=True)

    def _note(self, name: str, data: bytes) -> None:
        stamp = serialised_header_ns(data)
        with self._changed:
            self._heard[name] += 1
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
        """Wait until a condition holds, checked on every message; returns whether it does."""
        with self._changed:
            return bool(self._changed.wait_for(condition, seconds))

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
        heard = self._heard
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

    @property
    def heard(self) -> dict[str, int]:
        """Messages received, by output."""
        return dict(self._heard)
