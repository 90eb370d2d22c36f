# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The depth node started by its launch file; needs a full ROS installation."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import unittest

import pytest

for needed in ('launch', 'launch_ros', 'launch_testing'):
    pytest.importorskip(needed, reason='needs launch_testing, part of a full ROS installation')

from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
import launch_testing  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'


@pytest.mark.parametrize('name', ['depth.launch.py', 'replay.launch.py'])
def test_the_description_can_be_made(name):
    spec = importlib.util.spec_from_file_location('launched', LAUNCH / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities


def generate_test_description():
    """Start the node with a model that does not exist: it must say so and end."""
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH / 'depth.launch.py')),
        launch_arguments={'image': '/camera/image_raw', 'model': '/no/such/model'}.items(),
    )
    return LaunchDescription([node, ReadyToTest()])


class TestStart(unittest.TestCase):
    """Run by `launch_test test/launch/test_depth_launch.py`."""

    def test_a_missing_model_is_said(self, proc_output):
        if not hasattr(proc_output, 'assertWaitFor'):
            self.skipTest('run it with launch_test')
        proc_output.assertWaitFor('/no/such/model', timeout=60)


TestStart.__test__ = False  # pytest must leave it to launch_test, which gives proc_output


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """Run by launch_test."""

    def test_the_exit_code_is_1(self, proc_info):
        names = [name for name in proc_info.process_names() if 'depth_node' in name]
        assert names
        assert {proc_info[name].returncode for name in names} == {1}


TestEnd.__test__ = False
