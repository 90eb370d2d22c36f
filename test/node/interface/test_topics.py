# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Where outputs go when they are remapped."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

from marigold_ros.node.interface.publishers import TOPICS  # noqa: E402


def topics(running):
    """Topics of the node's outputs, by name."""
    return {name: p.topic_name for name, p in running.node._outputs._publishers.items()}


def own(name):
    return f'/marigold_depth/{name}'


def test_outputs_are_below_the_node(bench):
    assert topics(bench()) == {name: own(name) for name in TOPICS}


def test_a_remapped_image_takes_camera_info_and_compressed_form_along(bench):
    rules = {
        'depth/image_rect': '/front/depth/image',
        'depth/color': 'colours',
        'uncertainty/image': '/front/sigma/image',
    }
    remap = [word for name, to in rules.items() for word in ('-r', f'~/{name}:={to}')]
    assert topics(bench(remap=remap)) == {
        **{name: own(name) for name in TOPICS},
        'depth/image_rect': '/front/depth/image',
        'depth/camera_info': '/front/depth/camera_info',
        'depth/image_rect/compressedDepth': '/front/depth/image/compressedDepth',
        'depth/color': '/colours',
        'depth/color/compressed': '/colours/compressed',
        'uncertainty/image': '/front/sigma/image',
        'uncertainty/camera_info': '/front/sigma/camera_info',
    }


def test_what_is_remapped_itself_stays_there(bench):
    remap = ['-r', '~/depth/image_rect:=/front/depth', '-r', '~/depth/camera_info:=/front/k']
    found = topics(bench(remap=remap))
    assert found['depth/camera_info'] == '/front/k'
    assert found['depth/image_rect/compressedDepth'] == '/front/depth/compressedDepth'


def test_qos_overrides_of_a_moved_topic_win(bench):
    moved = '/front/camera_info'
    running = bench(
        {f'qos_overrides.{moved}.publisher.reliability': 'best_effort'},
        remap=['-r', '~/depth/image_rect:=/front/depth'],
    )
    (info,) = running.node.get_publishers_info_by_topic(moved)
    assert info.qos_profile.reliability.name == 'BEST_EFFORT'
