# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
depth.launch.py brings the node to active and depth flows; needs a full ROS installation.

Run by ``launch_test test/launch/test_depth_flows.py``.
"""

from __future__ import annotations

from pathlib import Path
import tempfile
import time
import unittest

import pytest

for needed in ('launch', 'launch_ros', 'launch_testing'):
    pytest.importorskip(needed, reason='needs launch_testing, part of a full ROS installation')

from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
import launch_testing  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from loopback_node import INPUTS, Robot  # noqa: E402
from marigold_ros.message_codec import to_depth  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from sensor_msgs.msg import Image, PointCloud2  # noqa: E402
from synthetic_messages import mounting_parameters, views  # noqa: E402

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
NAMESPACE = 'robot'
ROLES = ('scan', 'info', 'image')


def generate_test_description():
    """Start the node with the embedded model, in a namespace, with a parameter file."""
    lines = ''.join(f'    {name}: {value}\n' for name, value in mounting_parameters().items())
    with tempfile.NamedTemporaryFile('w', suffix='.yaml', delete=False) as file:
        file.write(f'/**:\n  ros__parameters:\n{lines}')
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH / 'depth.launch.py')),
        launch_arguments={
            'image': INPUTS['image'][0],
            'lidar': INPUTS['scan'][0],
            'namespace': NAMESPACE,
            'params_file': file.name,
        }.items(),
    )
    return LaunchDescription([node, ReadyToTest()])


class TestFlow(unittest.TestCase):
    """Run by launch_test."""

    @classmethod
    def setUpClass(cls):
        """Create a robot."""
        rclpy.init()
        cls.robot = Robot(rclpy.create_node('robot'), ROLES)
        cls.heard = {'depth/image_rect': [], 'points': []}
        for name, kind in (('depth/image_rect', Image), ('points', PointCloud2)):
            topic = f'/{NAMESPACE}/marigold_depth/{name}'
            cls.robot.subscribe(topic, kind, cls.heard[name].append)

    @classmethod
    def tearDownClass(cls):
        """End it."""
        cls.robot.node.destroy_node()
        rclpy.shutdown()

    def spin_until(self, condition, seconds, between=lambda: None):
        """Spin until something holds; True if it came to hold."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            between()
            rclpy.spin_once(self.robot.node, timeout_sec=0.2)
        return condition()

    def test_it_becomes_active_and_publishes_metres(self):
        """Active within two minutes, then depth and a cloud of what the robot sends."""
        state = self.robot.node.create_client(GetState, f'/{NAMESPACE}/marigold_depth/get_state')
        assert state.wait_for_service(60.0)

        def is_active():
            answer = state.call_async(GetState.Request())
            self.spin_until(answer.done, 10.0)
            return answer.done() and answer.result().current_state.id == State.PRIMARY_STATE_ACTIVE

        assert self.spin_until(is_active, 120.0)
        view = views(3)[0]

        def send():
            stamp = self.robot.node.get_clock().now().nanoseconds
            for role in ROLES:
                self.robot.publishers[role].publish(view.message(role, stamp))

        assert self.spin_until(lambda: all(self.heard.values()), 60.0, send)
        depth = to_depth(self.heard['depth/image_rect'][-1])
        assert np.isfinite(depth).mean() > 0.5
        assert self.heard['depth/image_rect'][-1].header.frame_id == 'camera_optical'


TestFlow.__test__ = False  # pytest must leave it to launch_test


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """Run by launch_test."""

    def test_the_node_ends_cleanly(self, proc_info):
        """Ctrl-C ends it with 0."""
        names = [name for name in proc_info.process_names() if 'depth_node' in name]
        assert names
        assert {proc_info[name].returncode for name in names} == {0}


TestEnd.__test__ = False
