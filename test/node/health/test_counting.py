# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bad input, bursts and clocks that jump, over DDS: everything is counted, and life goes on."""

import array

from marigold_ros.message_codec import encode_jpeg, header_ns
from marigold_ros.node.interface.messages import compressed_message, to_stamp
import numpy as np
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

SECOND = 1_000_000_000


def total(frames):
    """Add up what the images became."""
    return sum(n for name, n in frames.items() if name != 'frames.received')


def test_bad_clouds_are_counted_and_the_next_scan_serves(running):
    running.deliver('scan', running.robot.cloud(SECOND, np.full((50, 3), np.nan)))
    running.send(SECOND, scan=False)
    running.wait_received('relative/image')
    running.wait_quiet(1)
    assert running.count('scans.rejected.empty') == 1
    assert 'none with finite' in running.status('scans')[1]
    cloud = running.robot.scan_of_plane(2 * SECOND)
    cloud.fields[0].name = 'intensity'
    running.deliver('scan', cloud)
    running.send(2 * SECOND, scan=False)
    assert running.wait_quiet(2)['frames.served'] == 2
    assert running.count('scans.rejected.fields') == 1
    running.send(3 * SECOND)
    running.wait_received('depth/image_rect')
    assert running.count('scans.received') == 3


def test_the_newest_image_wins_and_nothing_queues(running):
    running.model.gate.clear()
    for number in range(1, 6):
        running.send(number * SECOND)
        if number == 1:
            assert running.model.started.acquire(timeout=30)
    running.model.gate.set()
    frames = running.wait_quiet(5)
    assert frames['frames.served'] == 2
    assert frames['frames.dropped_newer'] == 3
    begin, answers = running.robot.begin_ns, running.wait_received('relative/image', 2)
    assert [header_ns(m) - begin for m in answers] == [1 * SECOND, 5 * SECOND]


def test_counters_add_up_after_a_burst_of_bad_images(running):
    unknown, cut, narrow, hollow = (running.robot.image_message(SECOND) for _ in range(4))
    unknown.encoding, cut.data, narrow.step, hollow.height = 'rgb17', cut.data[:-10], 10, 0
    sent = 0
    for number in range(10):
        running.send(SECOND + number * 10_000_000)
        for broken in (unknown, cut, narrow, hollow):
            running.deliver('image', broken)
        sent += 5
        moment = running.node.health.counters.snapshot('frames.')
        assert moment['frames.received'] == total(moment)
    frames = running.wait_quiet(sent)
    assert frames['frames.received'] == sent == total(frames)
    assert frames['frames.rejected.encoding'] == 10
    assert frames['frames.rejected.truncated'] == 10
    assert frames['frames.rejected.step'] == 10
    assert sum(n for name, n in frames.items() if '.rejected.' in name) == 40
    assert frames['frames.served'] + frames['frames.dropped_newer'] == 10
    assert len(running.wait_received('relative/image', frames['frames.served'])) > 0


def test_a_clock_that_jumps_back_empties_buffers_and_filters(running):
    assert running.configure(alignment__hold_limit=60.0)
    running.send(100 * SECOND)
    running.wait_received('depth/image_rect')
    running.send(50 * SECOND, scan=False)
    running.wait_received('relative/image', 2)
    running.wait_quiet(2)
    assert running.count('clock_jumps') == 1
    # Neither the old scan nor the old fit serves the new time.
    assert len(running.robot.received['depth/image_rect']) == 1
    running.send(51 * SECOND)
    running.wait_received('depth/image_rect', 2)


def test_after_an_internal_error_the_next_image_is_served(running, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(running.model, 'predict', lambda *_a, **_k: 1 / 0)
        running.send(SECOND)
        assert running.wait_quiet(1)['frames.rejected.internal'] == 1
    running.send(2 * SECOND)
    assert running.wait_quiet(2)['frames.served'] == 1


def test_a_broken_jpeg_is_rejected(bench):
    running = bench({'image_transport': 'compressed'}, hear=('relative/image',), connect=False)
    publisher = running.robot.node.create_publisher(
        CompressedImage, '/camera/image_raw/compressed', QoSProfile(depth=5)
    )
    running.wait_for(lambda: publisher.get_subscription_count() == 1)
    running.node.refresh_inputs()
    running.wait_for(lambda: publisher.get_subscription_count() == 1)
    image = encode_jpeg(np.full((48, 64, 3), 90, np.uint8))
    good = compressed_message(running.robot.header(SECOND), image)
    broken = compressed_message(running.robot.header(2 * SECOND), image)
    broken.data = array.array('B', bytes(broken.data)[: len(broken.data) // 3])
    running.deliver('image', broken, publisher)
    running.wait_quiet(1)
    running.deliver('image', good, publisher)
    frames = running.wait_quiet(2)
    assert frames['frames.served'] == 1
    assert sum(n for name, n in frames.items() if '.rejected.' in name) == 1
    assert total(frames) == 2


def test_while_nobody_listens_nothing_is_computed_unless_set(bench):
    running = bench()
    running.send(SECOND)
    frames = running.wait_quiet(1)
    assert (frames['frames.skipped_idle'], frames['frames.served']) == (1, 0)
    assert running.model.calls == 0
    assert running.configure(compute_without_listeners=True)
    running.send(2 * SECOND)
    assert running.wait_quiet(2)['frames.served'] == 1


def test_ros_time_that_jumps_back_empties_them_too(bench):
    running = bench({'use_sim_time': True})
    clock = running.robot.node.create_publisher(Clock, '/clock', QoSProfile(depth=1))
    running.wait_for(lambda: clock.get_subscription_count() == 1)
    for seconds, jumps in ((100, 0), (101, 0), (50, 1), (51, 1)):
        clock.publish(Clock(clock=to_stamp(seconds * SECOND)))
        running.wait_for(
            lambda s=seconds: running.node.get_clock().now().nanoseconds == s * SECOND
        )
        assert running.count('clock_jumps') == jumps


def test_images_older_than_the_limit_are_rejected(bench):
    running = bench({'max_input_age': 1.0}, hear=('relative/image',))
    running.send(SECOND)  # 1970
    frames = running.wait_quiet(1)
    assert frames['frames.rejected.age'] == 1
    assert 'max_input_age' in running.status('frames')[1]
    running.send(running.node.get_clock().now().nanoseconds)
    assert running.wait_quiet(2)['frames.served'] == 1
