# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Diagnostics describe problems, with their numbers, under listed keys."""

from fnmatch import fnmatchcase

from marigold_ros.live_run.process import own_context, own_node
from marigold_ros.message_codec import encode_image
from marigold_ros.node.health import diagnostics
from marigold_ros.node.health.diagnostic_keys import FRAMES_RECEIVED, KEYS, PARTS
from marigold_ros.node.interface.messages import image_message
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image, LaserScan

OK, WARN = 0, 1
SECOND = 1_000_000_000


def send_alone(running, stamp, grey):
    """Publish a noisy image of a grey value, without scan or camera_info."""
    rng = np.random.default_rng(stamp % 2**32)
    rgb = np.clip(grey + rng.integers(-3, 4, (48, 64, 3)), 0, 255).astype(np.uint8)
    message = image_message(running.robot.header(stamp), encode_image(rgb, 'rgb8'))
    running.deliver('image', message)
    running.wait_quiet(running.count('frames.received'))


@pytest.mark.parametrize(('grey', 'word'), [(0, 'black'), (255, 'white')])
def test_a_blind_camera_is_a_warning(running, grey, word):
    send_alone(running, SECOND, grey)
    level, text, _ = running.status('frames')
    assert (level, word in text) == (WARN, True)


def test_two_clocks_are_recognised_and_pairs_counted(bench):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    running.send(100 * SECOND)
    running.wait_quiet(1)
    for k in range(10):
        assert running.status('scans')[0] == OK
        send_alone(running, 137 * SECOND + k * SECOND // 10, 128)
    level, text, values = running.status('scans')
    assert level == WARN
    assert '37.9 s behind the image: two clocks?' in text
    assert values['pairs.whole'] == '1'
    assert values['pairs.without_scan'] == '10'


def test_a_missing_camera_info_is_the_other_half(bench):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    running.send(SECOND, info=False)
    running.wait_quiet(1)
    assert running.count('pairs.without_info') == 1


def test_every_published_key_stands_in_the_list(bench):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    for second in (100, 101, 50):  # the last is a clock jump
        running.send(second * SECOND, scan=second != 101)
        running.wait_quiet(running.count(FRAMES_RECEIVED))
    broken = running.robot.image_message(51 * SECOND)
    broken.encoding = 'rgb17'
    running.deliver('image', broken)
    cloud = running.robot.scan_of_plane(51 * SECOND)
    cloud.fields[0].name = 'intensity'
    running.deliver('scan', cloud)
    running.deliver('info', running.robot.camera_info(51 * SECOND, k=[0.0] * 9))
    running.send(52 * SECOND, info=False)
    running.wait_quiet(5)
    for part in PARTS:
        values = running.status(part)[2]
        assert values
        unlisted = [k for k in values if not any(fnmatchcase(k, known) for known in KEYS[part])]
        assert unlisted == []
    statuses = running.robot.received['diagnostics'][-1].status
    assert [status.name.partition(': ')[2] for status in statuses] == list(PARTS)
    # Aggregators group by hardware: the camera, as several cameras share one device.
    assert {status.hardware_id for status in statuses} == {'/camera/image_raw'}


@pytest.fixture
def other_process():
    """Create a node in a participant of its own: Fast DDS refuses a second type in one."""
    with own_context() as context, own_node('other', context) as node:
        yield node


@pytest.mark.parametrize(
    ('part', 'topic', 'kind', 'settings', 'words'),
    [
        (
            'frames',
            '/cam/image_raw/compressed',
            CompressedImage,
            {},
            '/cam/image_raw/compressed is a CompressedImage: set image_transport: compressed, and '
            'remap image to /cam/image_raw',
        ),
        (
            'frames',
            '/cam/image_raw',
            Image,
            {'image_transport': 'compressed'},
            '/cam/image_raw/compressed is an Image: set image_transport: raw, and remap image to '
            '/cam/image_raw/compressed',
        ),
        (
            'scans',
            '/front/scan',
            LaserScan,
            {},
            '/front/scan is a LaserScan: set sparse_source: scan, and remap scan to it',
        ),
        (
            'infos',
            '/cam/camera_info',
            Image,
            {},
            '/cam/camera_info is an Image, and the node needs CameraInfo there',
        ),
    ],
)
def test_a_topic_of_another_type_is_named_with_the_remedy(
    bench, other_process, part, topic, kind, settings, words
):
    role = {'frames': 'image', 'infos': 'camera_info', 'scans': 'lidar'}[part]
    running = bench(settings, connect=False, remap=('-r', f'{role}:={topic}'))
    compressed = settings.get('image_transport') == 'compressed'
    published = f'{topic}/compressed' if compressed else topic
    other_process.create_publisher(kind, published, 5)
    running.wait_for(lambda: running.node.count_publishers(published) == 1)
    running.node.refresh_inputs()
    level, text, _ = running.status(part)
    assert (level, words in text) == (WARN, True), text


def test_a_camera_that_publishes_compressed_images_only_is_recognised(bench):
    running = bench(connect=False, remap=('-r', 'image:=/cam/image_raw'))
    running.robot.node.create_publisher(CompressedImage, '/cam/image_raw/compressed', 5)
    running.wait_for(lambda: running.node.count_publishers('/cam/image_raw/compressed') == 1)
    running.node.refresh_inputs()
    assert running.status('frames')[:2] == (
        WARN,
        '/cam/image_raw/compressed is a CompressedImage: set image_transport: compressed',
    )


def test_idling_is_no_fault_and_rates_are_reported(bench, monkeypatch):
    running = bench()
    assert running.status('timing')[:2] == (OK, 'milliseconds a frame')
    for k in range(1, 4):
        running.send(k * SECOND)
    running.wait_quiet(3)
    assert float(running.status('frames')[2]['rate_hz']) > 0.0
    monkeypatch.setattr(diagnostics, 'PROBLEM_MEMORY', 0.0)  # however short the silence is
    assert running.status('timing')[:2] == (OK, 'idle: nobody listens')
    assert float(running.status('model')[2]['resident_mb']) > 10.0


def test_the_domain_gap_is_that_of_the_last_images_or_unknown(bench):
    running = bench()
    _, text, values = running.status('model')
    assert values['domain_gap'] == 'unknown'
    assert 'unknown whether the images are like' in text
    running.node.health.gaps.extend([0.5, 0.9])
    level, text, values = running.status('model')
    assert (level, float(values['domain_gap'])) == (OK, 0.7)
    assert 'unlike those it was trained on: consider adapting' in text
