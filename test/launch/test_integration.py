# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Nav2's costmap is marked by the cloud, and RTAB-Map gets its images; needs both packages."""

from __future__ import annotations

import shutil
import subprocess
import time

from marigold_ros.synthetic.drive.drive import write_drive
import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2')
if shutil.which('ros2') is None:
    pytest.skip('needs ros2 launch and ros2 bag', allow_module_level=True)

from ament_index_python.packages import (  # noqa: E402
    get_package_prefix,
    PackageNotFoundError,
)
from marigold_ros.live_run.process import own_context, own_node, spinning  # noqa: E402
from nav_msgs.msg import OccupancyGrid, Odometry  # noqa: E402
import numpy as np  # noqa: E402

ARGUMENTS = ('image:=/camera/image_raw', 'lidar:=/velodyne_points', 'use_sim_time:=true')


def needs(*packages):
    for package in ('marigold_ros', *packages):
        try:
            get_package_prefix(package)
        except (PackageNotFoundError, OSError):
            pytest.skip(f'{package} is not installed in a ROS workspace that is sourced')


@pytest.fixture
def first_message(tmp_path):
    """Return a function that launches a file beside a looped bag and awaits a sound message."""
    bag = write_drive(tmp_path / 'drive', frames=20, width=320, height=240)

    def wait(file, more, topic, kind, sound, seconds=120):
        heard = []
        launch = ['ros2', 'launch', 'marigold_ros', file, *ARGUMENTS, *more]
        play = ['ros2', 'bag', 'play', str(bag), '--clock', '100', '--loop']
        started = [subprocess.Popen(launch), subprocess.Popen(play)]
        try:
            with own_context() as context, own_node('listener', context) as node:
                node.create_subscription(kind, topic, heard.append, 5)
                with spinning(node):
                    deadline = time.monotonic() + seconds
                    while not any(map(sound, heard)) and time.monotonic() < deadline:
                        assert started[0].poll() is None, 'the launch ended'
                        time.sleep(0.2)
        finally:
            for process in reversed(started):
                process.send_signal(2)
            for process in started:
                process.wait(30)
        return any(map(sound, heard))

    return wait


def test_the_cloud_marks_obstacles_in_a_costmap(first_message):
    needs('nav2_costmap_2d', 'nav2_lifecycle_manager')

    def is_marked(message):
        return np.any(np.asarray(message.data) == 100)

    assert first_message('nav2.launch.py', (), '/costmap/costmap', OccupancyGrid, is_marked)


def test_rtabmap_follows_image_and_depth(first_message):
    needs('rtabmap_launch')
    more = ('frame_id:=base_link', 'rtabmap_viz:=false', 'args:=-d')
    assert first_message('rtabmap.launch.py', more, '/rtabmap/odom', Odometry, lambda _: True)
