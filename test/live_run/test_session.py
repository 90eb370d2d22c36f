# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The demo's node process: how it ends, and errors in its log."""

from contextlib import nullcontext
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

from builtin_interfaces.msg import Time  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from marigold_ros.config import NodeConfig  # noqa: E402
from marigold_ros.errors import MarigoldError, WriteError  # noqa: E402
from marigold_ros.live_run import exchange, process, session  # noqa: E402
from marigold_ros.live_run.exchange import LOST_AFTER, Played, Player, Recorder  # noqa: E402
from marigold_ros.live_run.played_bag import DemoJob, SerialMessage  # noqa: E402
from marigold_ros.live_run.process import NodeProcess  # noqa: E402
from marigold_ros.live_run.session import scan_counters  # noqa: E402
from marigold_ros.settings import build  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

BAD = '[ERROR] [1.0] [marigold_depth]: the sky is falling'
# Waits for a signal that may have come before the wait, which pause() would not see.
OBEDIENT = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print('[INFO] [1.0] [marigold_depth]: ready', flush=True)
signal.sigwait([signal.SIGINT])
sys.exit(0)
"""


RUNS_NODE = """
import pathlib, sys, time
from marigold_ros.live_run.process import running_node
with running_node([], pathlib.Path(sys.argv[1])) as node:
    print(node.pid, flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
def start(tmp_path):
    """Start a program as if it were the node, and wait for its first line."""
    children = []

    def run(program):
        log = tmp_path / 'node.log'
        with log.open('wb') as file:
            child = subprocess.Popen([sys.executable, '-u', '-c', program], stdout=file)
        children.append(child)
        while not log.stat().st_size:  # not poll(), which takes the exit code of the child
            time.sleep(0.01)
        return NodeProcess(child, log)

    yield run
    for child in children:
        child.kill()
        child.wait()


@pytest.mark.parametrize('end', [signal.SIGTERM, signal.SIGHUP])
def test_the_node_ends_with_a_process_that_is_ended(tmp_path, hears_hangup, end):
    command = [sys.executable, '-c', RUNS_NODE, str(tmp_path / 'node.log')]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as runs:
        node = int(runs.stdout.readline())
        runs.send_signal(end)
    with pytest.raises(ProcessLookupError):
        os.kill(node, signal.SIGKILL)
    assert runs.returncode == 128 + end


@pytest.mark.parametrize(
    ('what', 'instead', 'faults'),
    [
        ('', '', []),
        ("print('[INFO]", f"print({BAD!r})\nprint('[INFO]", [BAD]),
        ('exit(0)', 'exit(3)', ['the node ended with exit code 3 after SIGINT']),
    ],
)
def test_error_lines_and_another_exit_code_are_faults(start, what, instead, faults):
    assert start(OBEDIENT.replace(what, instead, 1)).stop() == faults


def test_a_node_that_ignores_sigint_is_killed_and_reported(start, monkeypatch):
    monkeypatch.setattr(process, '_STOP_PATIENCE', 0.2)
    deaf = OBEDIENT.replace('sys.exit(0)', 'signal.pause()')
    deaf_one = start(deaf)
    assert deaf_one.stop() == ['the node did not end within 0.2 s of SIGINT']
    with pytest.raises(MarigoldError, match='exit code -9'):
        deaf_one.check()


def test_a_node_that_ended_is_an_error_with_its_last_line(start):
    process = start("print('out of memory'); raise SystemExit(7)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(MarigoldError, match='exit code 7: out of memory'):
        process.check()


def test_a_recording_that_cannot_be_written_ends_the_wait_for_messages():
    takes = []
    node = SimpleNamespace(create_subscription=lambda *given, raw: takes.append(given[2]))

    def write_raw(*message):
        raise WriteError('the disk is full')

    recorder = Recorder(node, SimpleNamespace(write_raw=write_raw))
    assert not recorder.wait(lambda: False, 0.01)
    with pytest.raises(WriteError):
        takes[0](b'')
    for _ in range(2):
        with pytest.raises(WriteError, match='the disk is full'):
            recorder.wait(lambda: False, 60)


def test_a_frame_is_complete_with_its_last_output_and_a_node_reports_for_itself(monkeypatch):
    takes, clock = {}, Clock()
    monkeypatch.setattr(exchange, 'time', clock)
    node = SimpleNamespace(
        create_subscription=lambda _kind, topic, take, _qos, raw: takes.update({topic: take})
    )
    recorder = Recorder(node)

    def hear(topic, message):
        clock.sleep(1.0)
        takes[topic](serialize_message(message))

    def status(name, **values):
        pairs = [KeyValue(key=key.replace('__', '.'), value=v) for key, v in values.items()]
        return DiagnosticArray(header=header, status=[DiagnosticStatus(name=name, values=pairs)])

    for second, state in ((7, 'fitted'), (8, 'none')):
        header = Header(stamp=Time(sec=second))
        hear('/marigold_depth/alignment', status('', state=state))
        hear('/marigold_depth/relative/image', Image(header=header))
        assert recorder.complete == second - 7 + (state == 'none')
        if state == 'fitted':
            hear('/marigold_depth/depth/image_rect', Image(header=header))
            assert recorder.complete == 1
    assert [recorder.arrival(second * 10**9) for second in (6, 7, 8)] == [None, 103.0, 105.0]
    hear('/diagnostics', status('/other: frames', frames__served='9'))
    assert recorder.reports == 0
    ends = {'rejected__age': '1', 'dropped_newer': '2', 'skipped_idle': '3', 'served': '4'}
    counters = {f'frames__{end}': count for end, count in ends.items()}
    hear('/diagnostics', status('/marigold_depth: frames', **counters))
    assert (recorder.reports, recorder.unserved, recorder.count('frames.served')) == (1, 6, 4)


class Silent:
    """A recorder of a node that works, but never answers the image that was sent."""

    complete = unserved = reports = 0

    def __init__(self, clock, in_flight):
        self.clock, self.in_flight = clock, in_flight

    def wait(self, condition, seconds):
        self.clock.sleep(seconds)
        self.reports += 1
        return condition()

    def count(self, name):
        return self.in_flight if name == 'frames.in_flight' else 0


@pytest.mark.parametrize(
    ('in_flight', 'reports'), [(0, LOST_AFTER + 1), (1, exchange.PATIENCE / 0.5 + 2)]
)
def test_an_image_lost_by_dds_is_given_up_after_reports(monkeypatch, in_flight, reports):
    clock, published = Clock(), []
    monkeypatch.setattr(exchange, 'time', clock)
    recorder = Silent(clock, in_flight)
    node = SimpleNamespace(create_publisher=lambda *_: SimpleNamespace(publish=published.append))
    inputs = {'image': ('/image', 'sensor_msgs/msg/Image')}
    player = Player(node, inputs, recorder, lambda: None)
    image = SerialMessage('image', 'sensor_msgs/msg/Image', b'bytes', 0, 0)
    played = player.play([image], None, 0.1, lambda _sent: None, lambda *_pace: None)
    assert published == [b'bytes']
    assert (played.sent, played.unanswered) == (1, 1)
    assert recorder.reports == reports


class Clock:
    """Time that passes while somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Busy:
    """A recorder of a node that needs some seconds for each image."""

    reports = complete = unserved = 0

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def wait(self, condition, _seconds):
        self.clock.sleep(self.seconds)
        self.complete += 1
        return condition()


@pytest.mark.parametrize(
    ('asked', 'seconds', 'sent_at', 'rate'),
    [
        (2.0, 0.0, [0, 0.05, 0.1, 0.15, 0.2, 0.25], 2.0),  # whatever the node makes of it
        (None, 0.02, [0, 0.02, 0.04, 0.06, 0.16, 0.26], 1.0),  # measured, then in real time
        (None, 0.4, [0, 0.4, 0.8, 1.2, 1.6, 2.0], 0.25),
        (None, 0.02, [0, 0.02], 1.0),  # too few to be measured first
    ],
)
def test_images_are_sent_at_the_rate_that_is_asked_for_or_measured(
    monkeypatch, asked, seconds, sent_at, rate
):
    clock, published, announced = Clock(), [], []
    monkeypatch.setattr(exchange, 'time', clock)
    publisher = SimpleNamespace(publish=lambda _data: published.append(clock.now - 100.0))
    node = SimpleNamespace(create_publisher=lambda *_: publisher)
    inputs = {'image': ('/image', 'sensor_msgs/msg/Image')}
    player = Player(node, inputs, Busy(clock, seconds), lambda: None)
    images = [
        SerialMessage('image', 'sensor_msgs/msg/Image', b'', 10**9 + i, 10**9 + i * 10**8)
        for i in range(len(sent_at))
    ]
    progress = []
    played = player.play(images, asked, 0.1, progress.append, lambda *pace: announced.append(pace))
    assert published == pytest.approx(sent_at)
    assert [played.sent_at[image.stamp_ns] - 100.0 for image in images] == pytest.approx(sent_at)
    assert (played.sent, played.unanswered) == (len(images), 0)
    assert progress == list(range(1, len(images) + 1))
    assert played.rate == pytest.approx(rate)
    assert played.seconds == pytest.approx(sent_at[-1] + seconds)
    assert announced == ([] if asked else [pytest.approx((rate, seconds))])


def test_a_camera_info_of_depth_images_is_no_sensor_that_images_wait_for(monkeypatch):
    clock, published = Clock(), []
    monkeypatch.setattr(exchange, 'time', clock)
    node = SimpleNamespace(
        create_publisher=lambda _kind, topic, _qos: SimpleNamespace(publish=published.append)
    )
    kinds = {'image': 'Image', 'lidar': 'Image', 'depth_info': 'CameraInfo'}
    inputs = {role: (f'/{role}', f'sensor_msgs/msg/{kind}') for role, kind in kinds.items()}
    sent = [('depth_info', 0), *((role, i) for i in range(3) for role in ('image', 'lidar'))]
    messages = [SerialMessage(role, '', (role, i), i * 10**8, i * 10**8) for role, i in sent]
    player = Player(node, inputs, Busy(clock, 0.01), lambda: None)
    player.play(messages, None, 0.1, lambda _sent: None, lambda *_pace: None)
    assert published == sent


def test_an_error_in_a_callback_is_raised_where_its_node_spins():
    called = threading.Event()

    def fail():
        called.set()
        raise ZeroDivisionError

    with process.own_context() as context, process.own_node('failing', context) as node:
        node.create_timer(0.01, fail)
        with pytest.raises(ZeroDivisionError), process.spinning(node):
            assert called.wait(10)


@pytest.mark.parametrize(
    ('sources', 'parts'),
    [
        (['pointcloud'], {'scans': {'scans.received': '7', 'pairs.whole': '6'}}),
        (
            ['pointcloud', 'ground'],
            {
                'scans.pointcloud': {'scans.pointcloud.received': '7', 'points': '90'},
                'scans.ground': {'scans.ground.used': '5', 'points': '80'},
            },
        ),
    ],
)
def test_the_counters_of_all_sources_are_in_the_results(sources, parts):
    recorder = SimpleNamespace(report=lambda part: parts.get(part, {}))
    expected = {key: n for part in parts.values() for key, n in part.items() if '.' in key}
    assert scan_counters(recorder, sources) == expected


def test_the_cloud_of_a_live_run_keeps_to_the_settings_of_the_node(tmp_path, monkeypatch):
    shown = SimpleNamespace(metric=np.full((6, 8), 8.0, np.float32), K=np.eye(3), truth=None)
    shown.rgb, shown.abs_rel = np.zeros((6, 8, 3), np.uint8), 0.1
    recorder = SimpleNamespace(report=lambda part: {})
    answers = {
        '_run_node': (recorder, Played(sent=1), []),
        'score_recording': (SimpleNamespace(report_frames=[('best', shown)]), {}),
        '_results': {'provenance': {'checkpoint': {}}, 'rate': 1.0, 'frames': {'processed': 1}},
        'animate_recording': True,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(session, name, lambda *_, answer=answer: answer)
    notes = []
    monkeypatch.setattr(session, 'write_all', lambda *given: notes.append(given[-1]))
    bag = SimpleNamespace(images=1, path=tmp_path, thinned=False, sees_lidar=True, inputs={})
    bag.is_compressed, bag.topics = False, SimpleNamespace(image='/image')
    bag.sources, bag.size, bag.T_cam_sensor = (), None, None
    for farthest, count in ((10.0, 48), (5.0, 0)):
        job = DemoJob(bag, build(NodeConfig, {'points.max_depth': farthest}), tmp_path)
        session.run_demo(job, print, lambda *_: nullcontext(print))
        header = (tmp_path / 'cloud.ply').read_bytes().split(b'end_header')[0]
        assert f'element vertex {count}\n'.encode() in header
        assert notes[-1].endswith('it saw whole scans.')
