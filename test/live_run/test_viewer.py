# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The newest image of a node over DDS, subscribed to only while somebody watches."""

from contextlib import ExitStack
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from marigold_ros.live_run import viewer as watching  # noqa: E402
from marigold_ros.live_run.process import own_context, own_node  # noqa: E402
from marigold_ros.live_run.viewer import DepthViewer  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

NODE = '/front/marigold_depth'


@pytest.fixture(scope='module')
def viewer():
    with DepthViewer() as viewer:
        yield viewer


@pytest.fixture
def publishers():
    """Publishers of a node's images and of its fit."""
    with own_context() as context, own_node('stand_in', context) as node:
        images = node.create_publisher(CompressedImage, f'{NODE}/depth/color/compressed', 1)
        yield images, node.create_publisher(DiagnosticArray, f'{NODE}/alignment', 1)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_node_that_runs_already_is_listed_at_once(publishers):
    with DepthViewer() as opened:
        assert opened.nodes() == [NODE]


def test_images_are_handed_on_unchanged_while_somebody_watches(viewer, publishers, monkeypatch):
    images, fits = publishers
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(watching, 'time', clock)
    until(lambda: viewer.nodes() == [NODE])
    assert images.get_subscription_count() == 0
    assert viewer.state(NODE) == {}
    with viewer.watching(NODE):
        until(lambda: images.get_subscription_count() and fits.get_subscription_count())
        images.publish(CompressedImage(format='jpeg', data=b'first'))
        assert viewer.next_image(NODE, 0, 20) == (1, b'first')
        assert viewer.next_image(NODE, 1, 0.01) is None
        with viewer.watching(NODE):
            assert images.get_subscription_count() == 1
        fits.publish(DiagnosticArray())  # of a node of another kind
        time.sleep(0.2)
        now[0] += 0.5
        images.publish(CompressedImage(format='jpeg', data=b'second'))
        assert viewer.next_image(NODE, 1, 20) == (2, b'second')
        assert viewer.next_image(NODE, 0, 20) == (2, b'second')
        now[0] += 3.0
        values = [KeyValue(key='state', value='held'), KeyValue(key='reason', value='no scan')]
        fits.publish(DiagnosticArray(status=[DiagnosticStatus(values=values)]))
        until(lambda: viewer.state(NODE)['reason'] == 'no scan')
        assert viewer.state(NODE)['fit'] == 'held'
        assert (viewer.state(NODE)['hertz'], viewer.state(NODE)['age']) == (2.0, 3.0)
    until(lambda: images.get_subscription_count() == 0)


def test_a_node_that_has_ended_is_not_listed_and_is_silent_although_somebody_watches(viewer):
    with own_context() as context, own_node('ends', context) as node:
        node.create_publisher(CompressedImage, f'{NODE}/depth/color/compressed', 1)
        fits = node.create_publisher(DiagnosticArray, f'{NODE}/alignment', 1)
        until(lambda: viewer.nodes() == [NODE])
        stack = ExitStack()
        stack.enter_context(viewer.watching(NODE))
        until(fits.get_subscription_count)
        assert viewer.state(NODE)['silence'] is None
        status = DiagnosticStatus(values=[KeyValue(key='state', value='none')])

        def is_heard():  # the first may be lost while the two are being matched
            fits.publish(DiagnosticArray(status=[status]))
            return viewer.state(NODE)['fit'] == 'none'

        until(is_heard)
    with stack:
        until(lambda: viewer.nodes() == [])
        first, second = (viewer.state(NODE)['silence'] for _ in range(2))
        assert 0 < first < second
