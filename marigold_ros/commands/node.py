# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Run the ROS 2 node.

All arguments go to the node, for instance
  python -m marigold_ros node --ros-args -p model:=tiny -r image:=/camera/image_raw -r
  lidar:=/points
"""

import argparse

from marigold_ros.errors import needing, ROS_REMEDY


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare that all arguments are passed on to the node."""
    parser.set_defaults(passed_on=())
    parser.usage = 'python -m marigold_ros node [--ros-args …]'


def run(args: argparse.Namespace) -> int:
    """Run the node until it is stopped."""
    with needing('the node', ROS_REMEDY):
        from marigold_ros.node.main import main
    return int(main(['marigold_ros', *args.passed_on]) or 0)
