# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What is counted over DDS, and how diagnostics describe it, with numbers, under listed keys."""

import array
from dataclasses import replace
from fnmatch import fnmatchcase
import time
from types import SimpleNamespace

from marigold_ros.config import NodeConfig, PointsConfig
from marigold_ros.errors import ConfigurationError, MarigoldError
from marigold_ros.frame import Alignment, FrameResult
from marigold_ros.geometry.calibration.edge_agreement import EdgeEvidence
from marigold_ros.geometry.fit_report import details_of
from marigold_ros.live_run.process import own_context, own_node
from marigold_ros.message_codec import encode_image, encode_jpeg, header_ns
from marigold_ros.node import diagnostics, health
from marigold_ros.node.diagnostic_keys import FRAMES_RECEIVED, KEYS, values_of
from marigold_ros.node.diagnostics import alignment_status
from marigold_ros.node.health import Health
from marigold_ros.node.interface import subscriptions
from marigold_ros.node.ros_helpers import compressed_message, image_message
from marigold_ros.reasons import Reason
from marigold_ros.replay.recording import output_messages
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image, LaserScan
from std_srvs.srv import Trigger

OK, WARN = 0, 1
SECOND = 1_000_000_000
PARTS = [part for part in KEYS if '*' not in part]  # with one source


def total(frames):
    """Add up what the images became."""
    return sum(n for name, n in frames.items() if name != 'frames.received')


def test_bad_clouds_are_counted_and_the_next_scan_serves(running):
    running.deliver('scan', running.robot.cloud(SECOND, np.full((50, 3), np.nan)))
    running.send(SECOND, scan=False)
    running.wait_received('relative/image')
    running.wait_quiet(1)
    running.send(SECOND + SECOND // 100, scan=False)  # the same scan is the nearest again
    assert running.wait_quiet(2)['frames.served'] == 2
    assert running.count('scans.rejected.empty') == 1
    for part in ('scans', 'alignment'):
        assert 'none with finite' in running.status(part)[1]
    cloud = running.robot.scan_of_plane(2 * SECOND)
    cloud.fields[0].name = 'intensity\x1b[2J\u202e\n'
    running.deliver('scan', cloud)
    running.send(2 * SECOND, scan=False)
    assert running.wait_quiet(3)['frames.served'] == 3
    assert running.count('scans.rejected.fields') == 1
    text = running.status('scans')[1]  # in one line without control characters
    assert r'intensity\u001b[2J\u202e' in text
    assert text.isprintable()
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
    depth, cut, narrow, hollow = (running.robot.image_message(SECOND) for _ in range(4))
    depth.encoding, cut.data, narrow.step, hollow.height = '16UC1', cut.data[:-10], 10, 0
    sent = 0
    for number in range(10):
        running.send(SECOND + number * 10_000_000)
        for broken in (depth, cut, narrow, hollow):
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
    running.send(50 * SECOND, scan=False)  # alone it is refused
    assert running.wait_quiet(2)['frames.rejected.stamp'] == 1
    assert 'out of order' in running.status('frames')[1]
    assert running.count('clock_jumps') == 0
    running.send(50 * SECOND + SECOND // 10, scan=False)
    running.wait_received('relative/image', 2)
    running.wait_quiet(3)
    assert running.count('clock_jumps') == 1
    assert 'image_raw jumped: buffers and filters' in running.status('frames')[1]
    # Neither the old scan nor the old fit serves the new time.
    assert len(running.robot.received['depth/image_rect']) == 1
    running.send(51 * SECOND)
    running.wait_received('depth/image_rect', 2)


def test_evidence_on_the_mounting_outlives_a_clock_jump_but_no_reset(running):
    pipeline = running.node._pipeline
    running.send(100 * SECOND)
    running.wait_quiet(1)
    pipeline.state = replace(pipeline.state, edges=EdgeEvidence(frames=7))
    for n in (1, 2):
        running.send(50 * SECOND + n * SECOND // 10)
    running.wait_quiet(3)
    assert (running.count('clock_jumps'), pipeline.state.edges.frames) == (1, 7)
    assert running.call(Trigger, 'reset').success
    running.send(51 * SECOND)
    running.wait_quiet(4)
    assert pipeline.state.edges.frames == 0


@pytest.mark.parametrize('wrong', [0, 103 * SECOND, 10**9 * SECOND])
def test_one_wrong_stamp_costs_no_other_frame(running, wrong):
    stamps = [100 * SECOND + i * SECOND // 10 for i in range(4)]
    for number, stamp in enumerate([*stamps[:2], wrong, *stamps[2:]]):
        if stamp == wrong:
            running.deliver('image', running.robot.image_message(wrong))
        else:
            running.send(stamp)
        running.wait_quiet(number + 1)
    assert running.count('clock_jumps') == 0
    assert len(running.wait_received('depth/image_rect', 4)) == 4


def test_without_stamps_no_scan_is_paired_and_the_remedy_is_named(bench):
    running = bench(hear=('depth/image_rect',))
    for number in range(1, 13):  # one at a time, as the newest image wins
        running.send(0, scan=number < 3)
        frames = running.wait_quiet(number)
    assert frames['frames.served'] == 12
    level, text, values = running.status('scans')
    assert (level, values['scans.rejected.stamp']) == (WARN, '2')
    assert 'have the driver set header.stamp' in text
    assert not running.robot.received['depth/image_rect']


def test_limits_of_age_and_rate_hold_until_they_are_lifted(running):
    assert running.configure(max_input_age=30.0)
    running.send(SECOND)  # 1970
    assert running.wait_quiet(1)['frames.rejected.age'] == 1
    assert 'max_input_age' in running.status('frames')[1]
    running.send(time.time_ns() - running.robot.begin_ns)
    assert running.wait_quiet(2)['frames.served'] == 1
    assert running.call(Trigger, 'reset').success  # the next stamp is before that of the last
    assert running.configure(max_input_age=0.0)
    running.send(2 * SECOND)
    assert running.wait_quiet(3)['frames.served'] == 2
    assert running.configure(max_rate=0.001)
    for tenths in (30, 35):  # neither is due
        running.send(tenths * SECOND // 10)
    running.wait_for(lambda: running.count('frames.dropped_newer') == 1)
    assert running.configure(max_rate=0.0)
    running.send(4 * SECOND)
    running.wait_received('relative/image', 3)


def test_an_image_whose_settings_the_model_refuses_is_counted_as_of_the_configuration(
    running, monkeypatch
):
    def refuse(*_given, **_settings):
        raise ConfigurationError('planes take one step')

    monkeypatch.setattr(running.model, 'predict', refuse)
    running.send(SECOND)
    assert running.wait_quiet(1)['frames.rejected.configuration'] == 1


def test_after_an_internal_error_the_next_image_is_served(running, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(running.model, 'predict', lambda *_a, **_k: 1 / 0)
        running.send(SECOND)
        assert running.wait_quiet(1)['frames.rejected.internal'] == 1
    assert running.status('frames')[1] == 'frame rejected: ZeroDivisionError: division by zero'
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


def test_the_age_of_depth_counts_from_its_image_unless_the_clocks_differ(running):
    now = time.time_ns() - running.robot.begin_ns
    for number, stamp in enumerate((now - 65 * SECOND, now - 10 * SECOND, now + 20 * SECOND), 1):
        running.send(stamp)
        running.wait_quiet(number)
    timing = running.status('timing')[2]
    assert 10_000 <= float(timing['age.p50_ms']) < 60_000
    assert timing['age.p95_ms'] == timing['age.p50_ms']  # of the second alone


def test_the_stages_of_a_frame_add_up_to_its_total(running):
    running.send(SECOND)
    running.wait_quiet(1)
    timing = running.status('timing')[2]
    stages = ('decode', 'pair', 'predict', 'wait', 'finish', 'publish')
    total_ms = sum(float(timing[f'{stage}.p50_ms']) for stage in stages)
    assert float(timing['total.p50_ms']) == pytest.approx(total_ms, rel=1e-3)


def test_diagnostics_come_although_the_ros_clock_stands_still(bench):
    running = bench({'use_sim_time': True})
    for stamp in (SECOND, 2 * SECOND):
        running.send(stamp)
    running.wait_for(lambda: 'images come, but no /clock' in running.status('frames')[1])
    assert running.node.get_clock().now().nanoseconds == 0


def test_an_error_in_diagnostics_is_logged_and_costs_no_frame(bench, monkeypatch, capfd):
    running, calls = bench(hear=('relative/image',), autostart=False), []

    def fail():
        calls.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(running.node, 'publish_diagnostics', fail)
    running.start()
    running.wait_for(lambda: len(calls) == 2)
    running.wait_connected(1)
    running.send(SECOND)
    assert running.wait_quiet(1)['frames.served'] == 1
    assert 'ZeroDivisionError' in capfd.readouterr().err


def test_silence_counts_from_the_first_publisher_on(bench, monkeypatch):
    running = bench(connect=False, remap=('-r', 'image:=/late'))
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60.0)
    monkeypatch.setattr(health, 'time', later)
    running.robot.node.create_publisher(Image, '/late', 5)
    running.wait_for(lambda: running.node.count_publishers('/late') == 1)
    running.node.refresh_inputs()
    assert running.status('frames')[:2] == (OK, '/late')


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
    running.deliver('scan', running.robot.scan_of_plane(137 * SECOND + SECOND // 2))
    send_alone(running, 138 * SECOND, 128)
    assert '0.5 s behind the image, lidar.max_dt is 0.06 s' in running.status('scans')[1]


def test_a_lidar_that_fell_silent_is_no_matter_of_clocks_and_not_waited_for(bench, monkeypatch):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    running.send(100 * SECOND)
    running.wait_quiet(1)
    for k in range(10):
        send_alone(running, 137 * SECOND + k * SECOND // 10, 128)
    for module in (diagnostics, subscriptions):
        monkeypatch.setattr(module, 'PROBLEM_MEMORY', 0.0)  # however short the silence is
    running.configure(lidar__wait=2.0)
    send_alone(running, 138 * SECOND, 128)
    assert running.node.health.timings.last_s('pair') < 1.0
    level, text, _ = running.status('scans')
    assert (level, 'is published, but nothing arrives' in text) == (WARN, True), text
    assert running.status('infos')[0] == OK  # some drivers publish it once


def test_a_source_slower_than_the_camera_is_waited_for_only_as_its_next_scan_is_due(bench):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    for second in (1, 2):
        running.deliver('scan', running.robot.scan_of_plane(second * SECOND))
    for k in range(1, 11):
        send_alone(running, 2 * SECOND + SECOND // 10 + k * SECOND // 40, 128)
    text = running.status('scans')[1]
    assert text.endswith('lidar.max_dt is 0.06 s; scans come every 1 s: raise it to half of that')
    running.configure(lidar__wait=1.0)
    waits = []
    for part in (5, 10):
        send_alone(running, 2 * SECOND + part * SECOND // 10, 128)
        waits.append(running.node.health.timings.last_s('pair'))
    assert waits[0] < 0.5 < waits[1]


@pytest.mark.parametrize('scan_ns', [30 * SECOND, 0])
def test_a_lidar_of_another_clock_is_not_waited_for_by_each_image(bench, scan_ns):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    running.robot.begin_ns = 0  # for stamps of 0
    for k in range(10):
        running.deliver('scan', running.robot.scan_of_plane(scan_ns))
        send_alone(running, 40 * SECOND + k * SECOND // 10, 128)
    running.configure(lidar__wait=2.0)
    send_alone(running, 41 * SECOND, 128)
    assert running.node.health.timings.last_s('pair') < 1.0
    running.send(42 * SECOND)
    running.wait_quiet(12)
    assert running.count('pairs.whole') == 1


def test_a_lidar_that_nobody_publishes_is_not_waited_for(bench):
    running = bench({'lidar.wait': 2.0}, hear=('relative/image',))
    running.robot.node.destroy_publisher(running.robot.lidar)
    running.wait_for(lambda: not running.node.count_publishers('/velodyne_points'))
    running.node.refresh_inputs()
    send_alone(running, SECOND, 128)
    assert running.node.health.timings.last_s('pair') < 1.0
    level, text, _ = running.status('scans')
    assert (level, text) == (WARN, 'nobody publishes /velodyne_points')


def test_a_missing_camera_info_is_the_other_half(bench):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    running.send(SECOND, info=False)
    running.wait_quiet(1)
    assert running.count('pairs.without_info') == 1


def test_a_camera_info_that_never_comes_is_not_waited_for_by_each_image(bench, monkeypatch):
    running = bench(hear=('relative/image',))
    monkeypatch.setattr(subscriptions, 'PROBLEM_MEMORY', 0.0)
    monkeypatch.setattr(subscriptions, '_INFO_WAIT', 5.0)
    running.send(SECOND, info=False)
    running.wait_quiet(1)
    assert running.node.health.timings.last_s('decode') < 4.0


def test_two_scans_of_one_moment_are_no_fault(running):
    for _ in range(2):  # as of two halves of a turn
        running.deliver('scan', running.robot.scan_of_plane(SECOND))
    assert running.count('scans.rejected.stamp') == 0


def test_the_published_keys_are_those_of_the_list(bench):
    running = bench({'lidar.wait': 0.0}, hear=('relative/image',))
    running.model.answered_by = 'planted'
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
        assert {k for k in KEYS[part] if '*' not in k} - values.keys() <= {'gpu_mb'}
    assert running.status('model')[2]['answered_by'] == 'planted'
    statuses = running.robot.received['diagnostics'][-1].status
    assert [status.name.partition(': ')[2] for status in statuses] == PARTS
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
        ('frames', '/cam/jpeg', CompressedImage, {}, 'remap /cam/jpeg/compressed to it'),
        (
            'frames',
            '/cam/image_raw',
            Image,
            {'image_transport': 'compressed'},
            '/cam/image_raw/compressed is an Image: set image_transport: raw, and remap image to '
            '/cam/image_raw/compressed',
        ),
        ('scans', '/front/scan', LaserScan, {}, 'sparse_source: scan, and remap scan to it'),
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


@pytest.mark.parametrize('pair', [('image', 'lidar'), ('lidar', 'scan'), ('landmarks', 'radar')])
def test_one_topic_for_two_inputs_is_refused_in_a_sentence(bench, capfd, pair):
    sources = {'sparse_source': 'pointcloud,scan,landmarks,radar'}
    remap = [word for role in pair for word in ('-r', f'{role}:=/both')]
    running = bench(sources, autostart=False, remap=remap)
    with pytest.raises(MarigoldError, match='did not start'):
        running.start()
    assert f'{" and ".join(pair)} are both /both: remap one' in capfd.readouterr().err


def test_each_name_is_remapped_once(bench, other_process):
    settings = {'image_transport': 'compressed', 'sparse_source': 'scan,pointcloud'}
    rules = '-r image:=/jpeg -r /jpeg/compressed:=/jpeg -r scan:=/lidar -r lidar:=/points'
    running = bench(settings, connect=False, remap=rules.split())
    for topic, kind in (('/jpeg', CompressedImage), ('/lidar', LaserScan)):
        publisher = other_process.create_publisher(kind, topic, 5)
        running.wait_for(publisher.get_subscription_count)
        running.wait_for(lambda topic=topic: running.node.count_publishers(topic))
        running.node.refresh_inputs()
        assert '1 publishers' in running.status('qos')[2][topic]


@pytest.mark.parametrize(
    ('transport', 'words'),
    [
        ('compressed', ['is a CompressedImage: set image_transport: compressed']),
        ('ffmpeg', ['ffmpeg is not read', 'republish ffmpeg raw', 'image to /cam/raw/decoded']),
    ],
)
def test_a_camera_that_publishes_another_form_only_is_recognised(bench, transport, words):
    running, topic = bench(connect=False, remap=('-r', 'image:=/cam/raw')), f'/cam/raw/{transport}'
    # Of videos the message type is not installed; the name of the topic is what counts.
    running.robot.node.create_publisher(CompressedImage, topic, 5)
    running.wait_for(lambda: running.node.count_publishers(topic) == 1)
    running.node.refresh_inputs()
    level, text, _ = running.status('frames')
    assert (level, [word for word in (topic, *words) if word not in text]) == (WARN, []), text


def test_idling_is_no_fault_and_rates_are_reported(bench):
    running = bench()
    assert running.status('timing')[:2] == (OK, 'milliseconds a frame')
    assert running.status('alignment')[:2] == (OK, 'no image has been served yet')
    for k in range(1, 4):
        running.send(k * SECOND)
    running.wait_quiet(3)
    rates = running.status('frames')[2]
    assert float(rates['rate_hz']) > 0.0 == float(rates['output_rate_hz'])
    assert running.status('timing')[:2] == (OK, 'idle: nobody listens')
    assert float(running.status('model')[2]['resident_mb']) > 10.0
    running.robot.hear('relative/image')  # whether or not there are images
    running.wait_for(lambda: running.status('timing')[1] == 'milliseconds a frame')


def test_the_domain_gap_is_that_of_the_last_images_or_unknown(bench):
    running = bench()
    _, text, values = running.status('model')
    assert values['domain_gap'] == 'unknown'
    assert 'unknown whether the images are like' in text
    running.node.health.gaps.extend([0.5, 0.9])
    level, text, values = running.status('model')
    assert (level, float(values['domain_gap'])) == (OK, 0.7)
    assert 'unlike those it was trained on: consider adapting' in text


@pytest.mark.parametrize(
    ('alignment', 'level'),
    [
        (Alignment('fitted', None, 2.0, 0.5, 'depth', n_points=100, n_inliers=90, rms=0.1), OK),
        (Alignment('none', Reason('none_in_view')), WARN),
    ],
)
def test_a_recording_has_the_status_that_the_node_publishes(alignment, level):
    relative = np.zeros((4, 6), np.float32)
    rgb = np.zeros((4, 6, 3), np.uint8)
    result = FrameResult(
        relative, 'depth', alignment, None, None, None, None, rgb, None, SECOND, timings_ms={}
    )
    live = alignment_status('/marigold_depth', alignment, SECOND, 7, details_of(result))
    (*_, (_, _, fields)) = output_messages(result, 7, PointsConfig())
    (status,) = fields['status']
    assert status['level'] == live.level[0] == level
    assert (status['name'], status['message']) == (live.name, live.message)
    assert {pair['key']: pair['value'] for pair in status['values']} == values_of(live)


@pytest.mark.parametrize(
    ('source', 'sparse_source', 'not_moved', 'level', 'words'),
    [
        ('none (tf2_ros is not installed)', 'pointcloud', 0, WARN, 'set extrinsics.translation'),
        ('none (tf2_ros is not installed)', 'none', 0, OK, 'none (tf2_ros is not installed)'),
        ('none (tf2_ros is not installed)', 'depth_image,ground', 0, OK, 'none'),
        ('tf2', 'pointcloud', 0, OK, 'tf2'),
        ('tf2', 'pointcloud', 3, OK, 'motion was not known in time for 3 scans'),
    ],
)
def test_extrinsics_are_missed_where_a_sensor_needs_them(
    source, sparse_source, not_moved, level, words
):
    known = SimpleNamespace(source=source, latest_used=7, fixed_frame='', not_moved=not_moved)
    config = NodeConfig(sparse_source=sparse_source)
    status = diagnostics.transform_status('/node', Health(), known, config)
    assert (status.name, status.level[0]) == ('/node: transform', level)
    assert words in status.message
    values = values_of(status)
    assert (values['source'], values['latest_used']) == (source, '7')
    assert values['not_moved'] == str(not_moved)


def test_a_wrong_calibration_is_a_warning_in_words():
    said = alignment_status(
        'n', Alignment(state='fitted'), 0, 0, {'calibration': 'LiDAR is 0.08 s late'}
    )
    assert (said.level, said.message) == (b'\x01', 'fitted; LiDAR is 0.08 s late')
    sound = alignment_status('n', Alignment(state='fitted'), 0, 0, {'calibration': ''})
    assert (sound.level, sound.message) == (b'\x00', 'fitted')
