# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The node as its own process: it serves, ends cleanly, and says why it cannot start."""

import os
import re
import signal
import subprocess
import sys
import time

from loopback_node import wait_for
from marigold_ros.live_run.process import own_context, own_node, spinning
from marigold_ros.message_codec import header_ns, to_depth
from marigold_ros.node.diagnostic_keys import values_of
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # nodes as processes; test_outputs.py has one in `make test`
COMMAND = [sys.executable, '-m', 'marigold_ros', 'node', '--ros-args']
REMAP = ['-r', 'image:=/camera/image_raw', '-r', 'lidar:=/velodyne_points']


@pytest.fixture
def start(tmp_path):
    """Start nodes as processes; whatever still runs after the test is killed."""
    started = []

    def run(*arguments, log='node.log', remap=REMAP):
        # From Python and not from a shell, where SIGINT may be ignored.
        with (tmp_path / log).open('w') as output:
            process = subprocess.Popen(
                [*COMMAND, *remap, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE', 'OMP_NUM_THREADS': '1'},
            )
        process.log = tmp_path / log
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for_line(process, words, seconds=120):
    """Wait until the log holds the words."""
    deadline = time.monotonic() + seconds
    while words not in process.log.read_text():
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.02)


def end(process, number=signal.SIGINT):
    """End a node by a signal, which takes less than four seconds and is no error."""
    asked = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == 0, process.log.read_text()
    assert time.monotonic() - asked < 4.0
    assert 'Traceback' not in process.log.read_text()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_active_node(start, small_checkpoint, number):
    process = start('-p', f'model:={small_checkpoint}')
    with own_context() as context, own_node('viewer', context) as viewer:
        wait_for_line(process, 'active: ')
        wait_for(lambda: 'marigold_depth' in viewer.get_node_names(), what='the node')
        end(process, number)
        # Else its services would be offered for 20 s, until DDS misses the process.
        wait_for(lambda: 'marigold_depth' not in viewer.get_node_names(), 5.0, 'its end')


def test_a_signal_amid_a_frame_ends_it_too(start, small_checkpoint, new_robot):
    # Twenty members of fifty steps take far longer than the four seconds.
    slow = ('denoising_steps:=50', 'ensemble_size:=20', 'compute_without_listeners:=true')
    settings = [word for item in slow for word in ('-p', item)]
    process = start('-p', f'model:={small_checkpoint}', *settings)
    wait_for_line(process, 'active: ')
    with own_context() as context, own_node('robot', context) as node:
        robot = new_robot(node)

        def in_flight():
            statuses = [s for m in robot.received['diagnostics'] for s in m.status]
            return any(values_of(s).get('frames.in_flight', '0') != '0' for s in statuses)

        with spinning(node):
            deadline = time.monotonic() + 120
            while not in_flight():
                assert time.monotonic() < deadline
                robot.image.publish(robot.image_message(1_000_000_000))
                time.sleep(0.1)
            end(process)


def test_a_signal_amid_loading_ends_it_too(start, small_checkpoint):
    process = start('-p', f'model:={small_checkpoint}', '--log-level', 'debug')
    wait_for_line(process, 'marigold_depth')
    end(process)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['-p', 'model:=/no/such/folder'], '/no/such/folder'),
        (['-p', 'alignment.fusion:=/no/such/folder'], "no fusion network '/no/such/folder'"),
        (['-p', 'denoising_steps:=99'], 'denoising_steps is 99; choose 0 to 50'),
        (['-p', 'use_sim_time:=5'], "expecting type 'BOOL'"),
        (['--', '-p', 'seed:=1'], "unknown arguments ['-p', 'seed:=1']; give --ros-args"),
        (['--params-file', '/no/such/file.yaml'], '/no/such/file.yaml'),
        (['-p', 'extrinsics.translation:=[1.0, 2.0, 3.0]'], 'give 3 and 4'),
        (['-p', 'cameras:=[front,left]'], 'both take their images from /camera/image_raw'),
    ],
)
def test_a_start_that_cannot_succeed_is_one_line_and_exit_code_1(start, arguments, words):
    process = start(*arguments)
    assert process.wait(120) == 1
    lines = process.log.read_text().strip().splitlines()
    assert words in lines[-1]
    # rcl and Cyclone DDS, whose lines begin with a time and the domain, add lines of their own.
    upstream = re.compile(r'.*\[rcl\]|\d+\.\d+ \[\d+\]')
    assert len([line for line in lines if not upstream.match(line)]) == 1, lines


@pytest.mark.parametrize('command', ['node', 'demo --frames 4 --size 64x48'])
def test_a_log_that_cannot_be_written_is_one_line_with_the_remedy(command, tmp_path):
    (tmp_path / 'file').touch()
    done = subprocess.run(
        [sys.executable, '-m', 'marigold_ros', *command.split()],
        cwd=tmp_path,
        env={**os.environ, 'ROS_LOG_DIR': str(tmp_path / 'file' / 'log')},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert 'set ROS_LOG_DIR to a folder you may write' in done.stderr.splitlines()[-1]


def test_a_parameter_file_of_another_node_alone_is_warned_of(start, tmp_path):
    file = tmp_path / 'other.yaml'
    file.write_text('depth_node:\n  ros__parameters:\n    autostart: false\n')
    process = start('--params-file', str(file))
    wait_for_line(process, 'name the section /** or /marigold_depth')


def test_several_cameras_start_and_end_as_one_process(start, small_checkpoint):
    process = start(
        *('-p', f'model:={small_checkpoint}', '-p', 'cameras:=[front,left]'),
        # The first rule that fits counts.
        remap=['-r', '/left/image:=/left/camera/image_raw', '-r', 'image:=image_raw'],
    )
    wait_for_line(process, 'active: image /left/camera/image_raw')
    assert 'active: image /front/image_raw' in process.log.read_text()
    assert process.log.read_text().count('model ') == 2, 'each node says which model it has'
    end(process)


def test_a_node_in_another_process_serves_metres(start, small_checkpoint, new_robot):
    fixed = ('method:=fixed', 'scale:=5.0', 'shift:=2.0')
    settings = [word for item in fixed for word in ('-p', f'alignment.{item}')]
    process = start('-p', f'model:={small_checkpoint}', *settings)
    wait_for_line(process, 'active: ')
    with own_context() as context, own_node('robot', context) as node, spinning(node):
        robot = new_robot(node)
        robot.hear('depth/image_rect')
        stamp, deadline = 1_000_000_000, time.monotonic() + 20
        while not robot.received['depth/image_rect']:
            assert time.monotonic() < deadline
            stamp += 100_000_000
            robot.info.publish(robot.camera_info(stamp))
            robot.image.publish(robot.image_message(stamp))
            time.sleep(0.1)
    message = robot.received['depth/image_rect'][0]
    assert 1_000_000_000 < header_ns(message) <= stamp
    assert np.isfinite(to_depth(message)).all()
    end(process)
