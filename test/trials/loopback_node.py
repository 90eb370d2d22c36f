# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A depth node and a robot in one process, for the trials and the tests of the node.

They talk over DDS as two processes would. The node's own counters show what became of a message,
so that nothing waits for a guessed time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
import time
from typing import Any

from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.process import keep_to_this_machine, own_context, own_node, spinning
from marigold_ros.message_codec import header_ns
from marigold_ros.node.depth_node import DepthNode
from marigold_ros.node.distro import threaded_executor, without_events
from marigold_ros.node.loading import load
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

INPUTS = {
    'image': ('/camera/image_raw', Image),
    'compressed': ('/camera/image_raw/compressed', CompressedImage),
    'info': ('/camera/camera_info', CameraInfo),
    'scan': ('/velodyne_points', PointCloud2),
}
COUNTERS = {'image': 'frames', 'compressed': 'frames', 'info': 'infos', 'scan': 'scans'}
REMAP = ('-r', f'image:={INPUTS["image"][0]}', '-r', f'lidar:={INPUTS["scan"][0]}')
_PATIENCE = 30.0  # seconds, enough for a starved machine


def wait_for(condition: Callable[[], Any], seconds: float = _PATIENCE, what='the condition'):
    """Wait until a condition holds and return its value; raises MarigoldError naming ``what``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise MarigoldError(f'{what} did not come within {seconds:g} s')
        time.sleep(0.001)
    return value


class Robot:
    """Publishers of the node's inputs ``roles`` (keys of INPUTS), and subscribers."""

    def __init__(self, node, roles: Sequence[str] = ('image', 'info', 'scan')) -> None:
        self.node = node
        self.publishers: dict[str, Any] = {}
        for role in roles:
            self.offer(role)

    def offer(self, role: str, reliable: bool = True) -> None:
        """Create the publisher of an input, again if it existed."""
        if role in self.publishers:
            self.node.destroy_publisher(self.publishers[role])
        topic, kind = INPUTS[role]
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.publishers[role] = self.node.create_publisher(
            kind, topic, QoSProfile(depth=5, reliability=policy), event_callbacks=without_events()
        )

    def subscribe(self, output: str, kind: type, callback: Callable[[Any], None]) -> None:
        """Subscribe to an output such as ``depth/image_rect``, or to an absolute topic."""
        topic = output if output.startswith('/') else f'/marigold_depth/{output}'
        self.node.create_subscription(kind, topic, callback, QoSProfile(depth=50))


class LoopbackNode:
    """
    A running node with a robot; a context manager.

    ``parameters`` are the node's, None leaves one unset; ``roles`` are the inputs that the robot
    publishes, ``remap`` remapping arguments that go first, and ``robot`` is the robot's class.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        roles: Sequence[str] = ('image', 'info', 'scan'),
        load_model: Callable = load,
        remap: Sequence[str] = (),
        robot: type[Robot] = Robot,
    ) -> None:
        keep_to_this_machine()
        with ExitStack() as stack:
            context = stack.enter_context(own_context())
            self.node = DepthNode(
                load_model,
                context=context,
                cli_args=['--ros-args', *remap, *REMAP],
                parameter_overrides=[
                    Parameter(name, value=value)
                    for name, value in parameters.items()
                    if value is not None
                ],
            )
            stack.callback(self.node.destroy_node)
            self.robot = robot(stack.enter_context(own_node('robot', context)), roles)
            stack.enter_context(spinning(self.node, threaded_executor(context, 3)))
            stack.enter_context(spinning(self.robot.node))
            stack.callback(self.node.stop)
            self._stack = stack.pop_all()

    def __enter__(self) -> LoopbackNode:
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def start(self) -> None:
        """Configure and activate the node; raises MarigoldError if that fails."""
        self.node.autostart()
        if self.node.exit_code:
            raise MarigoldError('the node did not start; its log says why')

    def wait_connected(self, outputs: int = 0) -> None:
        """Wait until inputs and outputs are matched, by subscriptions that will stay."""

        def connected() -> bool:
            return all(p.get_subscription_count() == 1 for p in self.robot.publishers.values())

        def heard() -> bool:
            return sum(self.node.listeners().values()) >= outputs

        wait_for(connected, what='the connection of the inputs')
        wait_for(heard, what='the connection of the outputs')
        self.node.refresh_inputs()
        wait_for(connected, what='the connection of the inputs')

    def count(self, name: str) -> int:
        """Value of one of the node's counters; 0 for one that was never used."""
        return self.node.health.counters.snapshot(name).get(name, 0)

    def deliver(self, role: str, message: Any, publisher: Any = None) -> None:
        """Publish a message of an input and wait until the node has counted it."""
        counter = f'{COUNTERS[role]}.received'
        before = self.count(counter)
        (publisher or self.robot.publishers[role]).publish(message)
        stamp = header_ns(message) / 1e9
        wait_for(lambda: self.count(counter) > before, what=f'{role} of {stamp:.3f} s')

    def wait_idle(self) -> None:
        """Wait until no image is being processed."""
        wait_for(lambda: self.count('frames.in_flight') == 0, what='the end of the current frame')
