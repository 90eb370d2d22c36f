# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A robot that sends serialised messages of now and notes when the node's answers come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
import struct
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from loopback_node import INPUTS
from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.process import NodeProcess
from marigold_ros.message_codec import serialised_header_ns
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, PointCloud2
from synthetic_messages import View

RATE = 30.0  # images a second
OUTPUTS = {'depth/image_rect': Image, 'depth/color': Image, 'points': PointCloud2}
_PATIENCE = 120.0


class Robot:
    """
    Sends serialised messages and notes when answers come.

    Parameters
    ----------
    node : rclpy.node.Node
        Spun by somebody else.
    seen : list of View
        What its camera sees.

    """

    def __init__(self, node, seen: list[View]) -> None:
        self._arrived = threading.Condition()
        self.arrivals: dict[str, dict[int, float]] = {name: {} for name in OUTPUTS}
        self.first_relative: float | None = None
        self._report: dict[str, dict[str, str]] = {}
        self.reports = 0
        roles = ('scan', 'info', 'image')
        self._messages = [
            {role: bytearray(serialize_message(view.message(role, 0))) for role in roles}
            for view in seen
        ]
        self._publishers = {
            role: node.create_publisher(INPUTS[role][1], INPUTS[role][0], QoSProfile(depth=2))
            for role in roles
        }
        for name, kind in OUTPUTS.items():
            self._hear(node, name, kind, partial(self._note, name))
        self._hear(node, 'relative/image', Image, self._note_relative)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._read_report, 5)

    def _hear(self, node, name: str, kind: type, callback: Callable[[bytes], None]) -> None:
        topic = f'/marigold_depth/{name}'
        node.create_subscription(kind, topic, callback, QoSProfile(depth=5), raw=True)

    def _note(self, name: str, data: bytes) -> None:
        stamp = serialised_header_ns(data)
        with self._arrived:
            self.arrivals[name][stamp or 0] = time.time()
            self._arrived.notify_all()

    def _note_relative(self, _data: bytes) -> None:
        with self._arrived:
            if self.first_relative is None:
                self.first_relative = time.monotonic()
                self._arrived.notify_all()

    def _read_report(self, message: DiagnosticArray) -> None:
        with self._arrived:
            for status in message.status:
                part = status.name.partition(': ')[2]
                self._report[part] = {pair.key: pair.value for pair in status.values}
            self.reports += 1
            self._arrived.notify_all()

    def number(self, part: str, key: str) -> float:
        """A figure of the node's last diagnostics; 0 where it says nothing."""
        return float(self._report.get(part, {}).get(key, 0.0))

    def counts(self) -> dict[str, int]:
        """What the node's last diagnostics count of images."""
        values = self._report.get('frames', {})
        return {
            key: int(value)
            for key, value in values.items()
            if key.startswith('frames.') and value.isdigit()
        }

    def send(self, index: int) -> int:
        """Send scan, camera_info and image of now; returns their stamp."""
        stamp = time.time_ns()
        for role, data in self._messages[index % len(self._messages)].items():
            # Behind the four bytes of CDR's encapsulation a message begins with its stamp.
            struct.pack_into('<iI', data, 4, stamp // 10**9, stamp % 10**9)
            self._publishers[role].publish(bytes(data))
        return stamp

    def send_for(self, seconds: float) -> None:
        """Send at the camera's rate."""
        begun = time.monotonic()
        for index in range(round(seconds * RATE)):
            time.sleep(max(0.0, begun + index / RATE - time.monotonic()))
            self.send(index)

    def send_and_wait(self, index: int, names: Iterable[str], process: NodeProcess) -> None:
        """Send one frame and wait for outputs of it."""
        stamp = self.send(index)
        for name in names:
            self.wait(partial(self._has_come, name, stamp), f'{name} of a frame', process)

    def _has_come(self, name: str, stamp: int) -> bool:
        return stamp in self.arrivals[name]

    def wait(self, condition: Callable[[], bool], what: str, process: NodeProcess) -> None:
        """Wait for something that answers bring about."""
        deadline = time.monotonic() + _PATIENCE
        with self._arrived:
            while not self._arrived.wait_for(condition, 0.1):
                process.check()
                if time.monotonic() > deadline:
                    raise MarigoldError(f'{what} did not come within {_PATIENCE:g} s')
