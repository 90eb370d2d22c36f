# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A depth node and a robot around it in one process: what trials of the node stand on.

They talk over DDS as two processes would; in one process the node's own counters tell at once what
became of a message, so that a trial waits for what happened and never for a guessed time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
import time
from typing import Any

from marigold_ros.errors import MarigoldError
from marigold_ros.live_run.local_ros import keep_to_this_machine, own_context, spinning
from marigold_ros.node.depth_node import DepthNode
from marigold_ros.node.distro import threaded_executor, without_events
from marigold_ros.node.interface.messages import stamp_ns
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

INPUTS = {
    'image': ('/camera/image_raw', Image),
    'compressed': ('/camera/image_raw/compressed', CompressedImage),
    'info': ('/camera/camera_info', CameraInfo),
    'scan': ('/lidar', PointCloud2),
}
COUNTERS = {'image': 'frames', 'compressed': 'frames', 'info': 'infos', 'scan': 'scans'}
_PATIENCE = 30.0  # seconds; a starved machine's


class Rig:
    """
    A running node with a robot; a context manager.

    Parameters
    ----------
    parameters : mapping
        Of the node.
    outputs : mapping of str to type
        Outputs to listen to, as in ``depth/image_rect``; messages come to ``on_output``.
    on_output : callable
        ``on_output(name, message)``, in the robot's thread.

    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        outputs: Mapping[str, type],
        on_output: Callable[[str, Any], None],
    ) -> None:
        self._parameters, self._outputs = dict(parameters), dict(outputs)
        self._on_output = on_output
        self._stack = ExitStack()
        self.publishers: dict[str, Any] = {}

    def __enter__(self) -> Rig:
        keep_to_this_machine()
        with ExitStack() as stack:
            context = stack.enter_context(own_context())
            self.node = DepthNode(
                context=context,
                cli_args=[
                    *('--ros-args', '-r', f'image:={INPUTS["image"][0]}'),
                    *('-r', f'lidar:={INPUTS["scan"][0]}'),
                ],
                parameter_overrides=[
                    Parameter(name, value=value) for name, value in self._parameters.items()
                ],
            )
            stack.callback(self.node.destroy_node)
            self._robot = rclpy.create_node('robot', context=context, use_global_arguments=False)
            stack.callback(self._robot.destroy_node)
            for name, kind in self._outputs.items():
                self._robot.create_subscription(
                    kind,
                    f'/marigold_depth/{name}',
                    partial(self._on_output, name),
                    QoSProfile(depth=50),
                )
            stack.enter_context(spinning(self.node, threaded_executor(context, 3)))
            stack.enter_context(spinning(self._robot))
            stack.callback(self.node.stop)
            self.node.autostart()
            if self.node.exit_code:
                raise MarigoldError('the node did not start; its log says why')
            transport = self._parameters.get('image_transport', 'raw')
            self.open('image' if transport == 'raw' else 'compressed')
            self.open('info')
            self.open('scan')
            self.wait_connected()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def open(self, role: str, reliable: bool = True) -> None:
        """Offer an input, anew if it was there."""
        if role in self.publishers:
            self._robot.destroy_publisher(self.publishers[role])
        topic, kind = INPUTS[role]
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        profile = QoSProfile(depth=5, reliability=policy)
        self.publishers[role] = self._robot.create_publisher(
            kind, topic, profile, event_callbacks=without_events()
        )

    def wait_connected(self) -> None:
        """Wait until node and robot know each other, by subscriptions that will stay."""

        def connected() -> bool:
            return all(p.get_subscription_count() == 1 for p in self.publishers.values())

        self.wait(connected, 'the connection of the inputs')
        self.wait(
            lambda: sum(self.node.listeners().values()) >= len(self._outputs),
            'the connection of the outputs',
        )
        self.node.refresh_inputs()
        self.wait(connected, 'the connection of the inputs')

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
        """Wait for a condition; raises MarigoldError that names what did not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise MarigoldError(f'{what} did not come within {seconds:g} s')
            time.sleep(0.001)

    def count(self, name: str) -> int:
        """Value of one of the node's counters; 0 for one that was never used."""
        return self.node.health.counters.snapshot(name).get(name, 0)

    def arrive(self, role: str, message: Any) -> None:
        """Publish a message and wait until the node has counted it."""
        counter = f'{COUNTERS[role]}.received'
        before = self.count(counter)
        self.publishers[role].publish(message)
        self.wait(
            lambda: self.count(counter) > before,
            f'{role} of {stamp_ns(message.header.stamp) / 1e9:.3f} s',
        )

    def wait_idle(self) -> None:
        """Wait until no image is being worked on."""
        self.wait(lambda: self.count('frames.in_flight') == 0, 'the end of the frame in work')
