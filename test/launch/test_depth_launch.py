# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The launch files can be read by launch; what they answer is in test_starting.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from marigold_ros.errors import ConfigurationError
import pytest

for needed in ('launch', 'launch_ros'):
    pytest.importorskip(needed, reason='needs launch_ros, part of a full ROS installation')

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'


def launched(name):
    """Return a launch file as a module."""
    spec = importlib.util.spec_from_file_location('launched', LAUNCH / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('name', ['depth.launch.py', 'nav2.launch.py', 'replay.launch.py'])
def test_the_description_can_be_made(name):
    assert launched(name).generate_launch_description().entities


@pytest.mark.parametrize('name', ['nav2.launch.py', 'replay.launch.py'])
def test_large_messages_arrive_where_their_subscriber_is_started_too(name):
    description = launched(name).generate_launch_description()
    defaults = {a.name: a.default_value for a in description.get_launch_arguments()}
    assert defaults['fast_dds'][0].text == 'auto'


@pytest.mark.parametrize(
    ('given', 'topic'),
    [
        ({}, '/marigold_depth/points'),
        ({'namespace': 'robot'}, '/robot/marigold_depth/points'),
        ({'namespace': '/robot', 'cameras': 'front'}, '/robot/front/marigold_depth/points'),
        ({'ros_namespace': '/fleet', 'namespace': 'robot'}, '/fleet/robot/marigold_depth/points'),
    ],
)
def test_the_costmap_hears_the_cloud_in_the_namespace_of_the_node(given, topic):
    assert launched('nav2.launch.py').cloud_topic(given) == topic


def test_one_cloud_of_several_cameras_is_refused_for_a_costmap():
    with pytest.raises(ConfigurationError, match='cameras is front, left, and this costmap has'):
        launched('nav2.launch.py').cloud_topic({'cameras': 'front,left'})
