# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The launch files can be read by launch; what they answer is in test_starting.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

for needed in ('launch', 'launch_ros'):
    pytest.importorskip(needed, reason='needs launch_ros, part of a full ROS installation')

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'


@pytest.mark.parametrize('name', ['depth.launch.py', 'nav2.launch.py', 'replay.launch.py'])
def test_the_description_can_be_made(name):
    spec = importlib.util.spec_from_file_location('launched', LAUNCH / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate_launch_description().entities
