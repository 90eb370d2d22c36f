# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Hears what a depth node publishes: writes it to a bag as it comes, and counts what is complete.

Decision: messages are written as the bytes that came, never decoded, but for the two small ones
that tell how the node is doing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.bags.writer import BagWriter
from marigold_ros.message_codec import serialised_header_ns
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

DEPTH_NODE = '/marigold_depth'
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
    Subscriptions to a depth node's outputs.

    Parameters
    ----------
    node : rclpy.node.Node
        Subscribes; somebody spins it in one thread.
    writer : BagWriter
        An open bag.

    """

    def __init__(self, node, writer: BagWriter) -> None:
        self._writer = writer
        self._changed = threading.Condition()
        self._heard: Counter[str] = Counter()
        self._not_metric = 0
        self._arrival: dict[int, float] = {}
        self.reports = 0
        self._report: dict[str, dict[str, str]] = {}
        for name, kind in OUTPUTS.items():
            self._subscribe(node, f'{DEPTH_NODE}/{name}', kind, name)
        self._subscribe(node, '/diagnostics', DiagnosticArray, 'diagnostics')

    def _subscribe(self, node, topic: str, kind: type, name: str) -> None:
        msgtype = f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'

        def take(data: bytes) -> None:
            self._writer.write_raw(topic, msgtype, data, time.time_ns())
            self._note(name, data)

        node.create_subscription(kind, topic, take, _QOS, raw=True)

    def _note(self, name: str, data: bytes) -> None:
        stamp = serialised_header_ns(data)
        with self._changed:
            self._heard[name] += 1
            if name == 'alignment':
                status = deserialize_message(data, DiagnosticArray).status[0]
                values = {pair.key: pair.value for pair in status.values}
                self._not_metric += values['state'] == 'none'
            elif name == 'diagnostics':
                self._take_report(deserialize_message(data, DiagnosticArray))
            if name != 'diagnostics' and stamp is not None:
                self._arrival[stamp] = time.monotonic()
            self._changed.notify_all()

    def _take_report(self, message: DiagnosticArray) -> None:
        own = f'{DEPTH_NODE}: '
        report = {
            status.name[len(own) :]: {pair.key: pair.value for pair in status.values}
            for status in message.status
            if status.name.startswith(own)
        }
        if report:
            self._report = report
            self.reports += 1

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition holds, asked again whenever something came; tell whether so."""
        with self._changed:
            return bool(self._changed.wait_for(condition, seconds))

    def report(self, part: str) -> dict[str, str]:
        """One part of the node's newest diagnostics, such as ``frames``; empty before any came."""
        return self._report.get(part, {})

    def count(self, name: str) -> int:
        """One counter of the newest diagnostics, as ``frames.served``; 0 where it is not there."""
        return int(self.report(name.partition('.')[0]).get(name, 0))

    @property
    def complete(self) -> int:
        """Frames whose outputs have all come."""
        heard = self._heard
        metric = heard['depth/image_rect'] + self._not_metric
        return min(heard['alignment'], heard['relative/image'], metric)

    @property
    def unserved(self) -> int:
        """Frames that the node reported as rejected, dropped or skipped."""
        names = self.report('frames')
        away = ('frames.rejected.', 'frames.dropped_newer', 'frames.skipped_idle')
        return sum(int(value) for name, value in names.items() if name.startswith(away))

    def arrival(self, stamp_ns: int) -> float | None:
        """When the last output of a frame came, by the monotonic clock; None where none did."""
        return self._arrival.get(stamp_ns)

    @property
    def heard(self) -> dict[str, int]:
        """Messages recorded, by output."""
        return dict(self._heard)
