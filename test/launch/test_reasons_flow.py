# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Under a real launch ~/alignment names the fault; needs a full ROS installation.

Run by ``launch_test test/launch/test_reasons_flow.py``: metres from the ground alone, by launch
arguments, first with a camera_info of zeros, then with a sound one.
"""

from __future__ import annotations

from pathlib import Path
import time
import unittest

import pytest

for needed in ('launch', 'launch_ros', 'launch_testing'):
    pytest.importorskip(needed, reason='needs launch_testing, part of a full ROS installation')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from loopback_node import INPUTS, Robot  # noqa: E402
from marigold_ros.node.diagnostic_keys import values_of  # noqa: E402
import rclpy  # noqa: E402
from synthetic_messages import views  # noqa: E402

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'


def generate_test_description():
    """Start the node with the ground as its only source, and the larger shared memory."""
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH / 'depth.launch.py')),
        launch_arguments={
            'image': INPUTS['image'][0],
            'sparse_source': 'ground',
            'ground.height': '1.6',
            'ground.pitch': '4.0',
            'fast_dds': 'auto',
        }.items(),
    )
    return LaunchDescription([node, ReadyToTest()])


class TestReasons(unittest.TestCase):
    """Run by launch_test."""

    @classmethod
    def setUpClass(cls):
        """Create a robot."""
        rclpy.init()
        cls.robot = Robot(rclpy.create_node('robot'), ('info', 'image'))
        cls.heard = []
        cls.robot.subscribe('alignment', DiagnosticArray, cls.heard.append)

    @classmethod
    def tearDownClass(cls):
        """End it."""
        cls.robot.node.destroy_node()
        rclpy.shutdown()

    def await_status(self, holds, change=lambda info: None, seconds=150.0):
        """Send images until a status of the fit holds; True if it came."""
        view, deadline = views(3)[0], time.monotonic() + seconds
        self.heard.clear()
        while not any(map(holds, self.statuses())) and time.monotonic() < deadline:
            stamp = self.robot.node.get_clock().now().nanoseconds
            info = view.message('info', stamp)
            change(info)
            self.robot.publishers['info'].publish(info)
            self.robot.publishers['image'].publish(view.message('image', stamp))
            rclpy.spin_once(self.robot.node, timeout_sec=0.2)
        return any(map(holds, self.statuses()))

    def statuses(self):
        """Return the values of all fits heard."""
        return [values_of(message.status[0]) for message in self.heard]

    def test_a_bad_camera_info_is_named_and_the_ground_alone_is_cautioned(self):
        """Zeros in K are the reason; with a sound K nothing says so any more."""

        def no_focal_length(info):
            info.k = [0.0] * 9

        assert self.await_status(lambda v: 'uncalibrated' in v['reason'], no_focal_length)
        # Of the images before this one, some are answered late.
        assert self.await_status(lambda v: 'ground' in v['reason'] + v['caution'])
        assert 'uncalibrated' not in self.statuses()[-1]['reason']


TestReasons.__test__ = False  # pytest must leave it to launch_test
