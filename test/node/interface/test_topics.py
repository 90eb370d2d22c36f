# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Where outputs go when they are remapped."""

from marigold_ros.node.interface.publishers import TOPICS

OWN = {f'/marigold_depth/{name}' for name in TOPICS}


def topics(running):
    """Topics of the node's outputs, without those of every lifecycle node."""
    found = running.node.get_publisher_names_and_types_by_node('marigold_depth', '/')
    others = ('/diagnostics', '/parameter_events', '/rosout', '/marigold_depth/transition_event')
    return {topic for topic, _ in found} - set(others)


def test_outputs_are_below_the_node(bench):
    assert topics(bench()) == OWN


def test_a_remapped_image_takes_camera_info_and_compressed_form_along(bench):
    rules = {
        'depth/image_rect': '/front/depth/image',
        'depth/color': 'colours',
        'uncertainty/image': '/front/sigma/image',
    }
    remap = [word for name, to in rules.items() for word in ('-r', f'~/{name}:={to}')]
    moved = {topic for topic in OWN if '/depth/' in topic or '/uncertainty/' in topic}
    assert topics(bench(remap=remap)) == (OWN - moved) | {
        '/front/depth/image',
        '/front/depth/camera_info',
        '/front/depth/image/compressedDepth',
        '/colours',
        '/colours/compressed',
        '/front/sigma/image',
        '/front/sigma/camera_info',
    }


def test_what_is_remapped_itself_stays_there(bench):
    remap = ['-r', '~/depth/image_rect:=/front/depth', '-r', '~/depth/camera_info:=/front/k']
    assert {'/front/k', '/front/depth/compressedDepth'} <= topics(bench(remap=remap))


def test_qos_overrides_of_a_moved_topic_win(bench):
    moved = '/front/camera_info'
    running = bench(
        {f'qos_overrides.{moved}.publisher.reliability': 'best_effort'},
        remap=['-r', '~/depth/image_rect:=/front/depth'],
    )
    (info,) = running.node.get_publishers_info_by_topic(moved)
    assert info.qos_profile.reliability.name == 'BEST_EFFORT'
