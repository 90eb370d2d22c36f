# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What `ros2 launch` answers to wrong arguments and failing processes; needs launch_ros."""

from __future__ import annotations

import os
from pathlib import Path
import runpy
import shutil
import signal
import subprocess
import sys

import pytest

for needed in ('launch', 'launch_ros'):
    pytest.importorskip(needed, reason='needs launch_ros, part of a full ROS installation')

from ament_index_python.packages import (  # noqa: E402
    get_package_prefix,
    PackageNotFoundError,
)
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from launch import LaunchContext, LaunchDescription, LaunchService  # noqa: E402
from launch.actions import EmitEvent, OpaqueFunction, TimerAction  # noqa: E402
from launch.events import Shutdown  # noqa: E402
from marigold_ros.bags.reader import BagReader  # noqa: E402
from marigold_ros.live_run.process import own_context, spinning  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
# As `ros2 launch` does it, without its search for the file.
RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
file, *given = sys.argv[1:]
arguments = [tuple(word.split(':=', 1)) for word in given]
include = IncludeLaunchDescription(AnyLaunchDescriptionSource(file), launch_arguments=arguments)
service = LaunchService(argv=given, noninteractive=True)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""
INCLUDING = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

def generate_launch_description():
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource({file!r}),
        launch_arguments={{'image': '/camera/image_raw', 'model': '/no/such/model'}}.items(),
    )
    return LaunchDescription([DeclareLaunchArgument('robot'), depth])
"""

BELOW = """
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

def generate_launch_description():
    included = IncludeLaunchDescription(
        PythonLaunchDescriptionSource({file!r}), launch_arguments={arguments!r}.items()
    )
    return LaunchDescription([PushRosNamespace('robot1'), included])
"""


@pytest.fixture(scope='module', autouse=True)
def installed():
    if not has('marigold_ros'):
        pytest.skip('marigold_ros is not installed in a ROS workspace that is sourced')


def has(package):
    try:
        return bool(get_package_prefix(package))
    except (PackageNotFoundError, OSError):  # the latter where no workspace is sourced
        return False


def launch(file, *arguments, env=None):
    """Launch a file; returns the exit code and the output."""
    command = [sys.executable, '-c', RUN, str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    return done.returncode, done.stdout + done.stderr


def stamps(bag, topic):
    return [message.header.stamp for _, message, _ in bag.messages([topic])]


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('imgae:=/camera/image_raw', "has no argument 'imgae'; did you mean 'image'?"),
        ('params_file:=/no/such.yaml', 'params_file is /no/such.yaml, which does not exist'),
        ('params_file:=/tmp', 'params_file is /tmp, which is no file'),
        ('respawn:=maybe', "respawn is 'maybe'; give true or false"),
        ('max_rate:=fast', "max_rate is 'fast'; give a number"),
        ('extrinsics:=1 2 3', 'give seven numbers'),
    ],
)
def test_a_wrong_argument_stops_the_launch_before_a_process_starts(argument, words):
    code, output = launch(LAUNCH / 'depth.launch.py', argument)
    assert code == 1
    assert words in output
    assert 'process started' not in output


@pytest.mark.skipif(has('rviz2'), reason='rviz2 is installed')
def test_without_rviz2_nothing_is_started():
    code, output = launch(LAUNCH / 'depth.launch.py', 'rviz:=true')
    assert (code, 'rviz2 is not installed' in output) == (1, True)
    assert 'process started' not in output


def test_a_failed_node_ends_the_launch_with_its_code():
    code, output = launch(LAUNCH / 'depth.launch.py', 'model:=/no/such/model')
    assert code == 1
    assert 'the depth node ended with exit code 1' in output


def test_arguments_win_over_a_parameter_file_that_names_cameras(tmp_path):
    file = tmp_path / 'my robot.yaml'
    file.write_text('/**:\n  ros__parameters: {cameras: [front, left], model: unet}\n')
    given = (f'params_file:={file}', 'image:=image_raw', 'model:=/no/such/model')
    code, output = launch(LAUNCH / 'depth.launch.py', *given)
    assert (code, '/no/such/model' in output) == (1, True)


def test_a_file_that_includes_the_launch_file_keeps_its_own_arguments(tmp_path):
    file = tmp_path / 'robot.launch.py'
    file.write_text(INCLUDING.format(file=str(LAUNCH / 'depth.launch.py')))
    code, output = launch(file, 'robot:=r2')
    assert "no argument 'robot'" not in output
    assert 'the depth node ended with exit code 1' in output
    assert code == 1


@pytest.mark.parametrize(
    ('bag', 'more', 'words'),
    [
        ('/no/such/bag', [], 'bag is /no/such/bag, which does not exist'),
        (None, ['image:=/nothing'], 'the bag has no images on /nothing; set image to one of'),
        (None, ['image:=/camera/image_raw', 'record:=/tmp'], 'record is /tmp, which exists'),
        (None, ['image:=/camera/image_raw', 'record:=/no/a', 'respawn:=maybe'], "is 'maybe'"),
        (None, ['delay:=5'], "has no argument 'delay'"),
    ],
)
def test_a_replay_that_cannot_work_does_not_start(short_drive, bag, more, words):
    code, output = launch(LAUNCH / 'replay.launch.py', f'bag:={bag or short_drive}', *more)
    assert code == 1
    assert words in output
    assert 'process started' not in output


@pytest.mark.skipif(shutil.which('ros2') is None, reason='needs ros2 bag')
@pytest.mark.parametrize('broken', [False, True])
def test_a_bag_starts_when_the_node_is_active_and_ends_the_launch(short_drive, tmp_path, broken):
    bag = short_drive
    if broken:
        bag = tmp_path / 'empty'
        bag.mkdir()
    given = (f'bag:={bag}', 'image:=/camera/image_raw', 'rviz:=false')
    code, output = launch(LAUNCH / 'replay.launch.py', *given, f'record:={tmp_path / "record"}')
    assert broken or -1 < output.index(']: active: ') < output.index('the bag starts')
    assert code == int(broken)
    assert ('`ros2 bag play` ended with exit code' in output) == broken
    if not broken:
        with BagReader(bag) as played, BagReader(tmp_path / 'record') as recorded:
            first, *_, last = stamps(played, '/camera/image_raw')
            served = stamps(recorded, '/marigold_depth/relative/image')
            assert (served[0], served[-1]) == (first, last)


@pytest.mark.skipif(shutil.which('ros2') is None, reason='needs ros2 bag')
def test_a_replay_that_is_interrupted_ends_without_an_error(short_drive):
    file, given = str(LAUNCH / 'replay.launch.py'), (f'bag:={short_drive}', 'rviz:=false')
    command = [sys.executable, '-c', RUN, file, *given, 'image:=/camera/image_raw', 'loop:=true']
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as run:
        output = []
        for line in run.stdout:
            output.append(line)
            if 'the bag starts' in line:
                run.send_signal(signal.SIGINT)
    assert '[ERROR]' not in ''.join(output)
    assert run.returncode == 0


@pytest.mark.skipif(shutil.which('ros2') is None, reason='needs ros2 bag')
def test_a_bag_starts_in_the_namespace_that_an_including_file_pushes(short_drive, tmp_path):
    arguments = {'bag': str(short_drive), 'image': '/camera/image_raw', 'rviz': 'false'}
    file = tmp_path / 'robot.launch.py'
    file.write_text(BELOW.format(file=str(LAUNCH / 'replay.launch.py'), arguments=arguments))
    code, output = launch(file)
    assert '[robot1.marigold_depth]: active: ' in output
    assert 'the bag starts' in output
    assert code == 0


def test_player_and_recorder_of_a_replay_have_the_profile_of_fast_dds(tmp_path):
    replay, context = runpy.run_path(str(LAUNCH / 'replay.launch.py')), LaunchContext()
    given = {name: default for name, default, _ in (*replay['ARGUMENTS'], *replay['PASSED_ON'])}
    given |= {'bag': str(tmp_path), 'record': str(tmp_path / 'new'), 'fast_dds': 'true'}
    context.launch_configurations.update(given)
    for process in replay['start'](context)[-2:]:
        (profile, *_) = (value[0].text for _, value in process.additional_env)
        assert profile.endswith('/config/fast_dds.xml')


def test_a_bag_starts_when_the_node_has_found_its_images_or_reported_five_times():
    rosbag2 = pytest.importorskip('rosbag2_interfaces.srv', reason='needs rosbag2, part of ROS')
    watch = runpy.run_path(str(LAUNCH / 'replay.launch.py'))['watch']
    service, sent, resumed_after = LaunchService(noninteractive=True), [], []
    end = TimerAction(period=20.0, actions=[EmitEvent(event=Shutdown())])
    watches = [OpaqueFunction(function=watch, args=[[name]]) for name in ('/finds', '')]
    service.include_launch_description(LaunchDescription([*watches, end]))
    with own_context() as context:
        node = Node('rosbag2_player', context=context)
        reports = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

        def report():
            if reports.get_subscription_count() == len(watches) or resumed_after:
                found = 'nobody publishes ' if len(sent) < 2 else ''
                texts = {'/finds': f'{found}/image', '': 'nobody publishes /image'}
                status = [
                    DiagnosticStatus(name=f'{name}/marigold_depth: frames', message=text)
                    for name, text in texts.items()
                ]
                sent.append(DiagnosticArray(status=status))
                reports.publish(sent[-1])

        def resume(_, answer):
            resumed_after.append(len(sent))
            if len(resumed_after) == len(watches):
                service.shutdown()
            return answer

        node.create_service(rosbag2.Resume, '~/resume', resume)
        node.create_timer(1.0, report)
        with spinning(node, SingleThreadedExecutor(context=context)):
            service.run()
        node.destroy_node()
    assert resumed_after == [3, 5]


@pytest.fixture
def pretended_nav2(tmp_path):
    """Return an environment with packages of Nav2 whose executables print their arguments."""
    for package, executable in (
        ('nav2_costmap_2d', 'nav2_costmap_2d'),
        ('nav2_lifecycle_manager', 'lifecycle_manager'),
    ):
        marker = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages' / package
        file = tmp_path / 'lib' / package / executable
        for path, text in ((marker, ''), (file, '#!/bin/sh\necho "$@"\n')):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        file.chmod(0o755)
    return os.environ | {'AMENT_PREFIX_PATH': f'{tmp_path}:{os.environ["AMENT_PREFIX_PATH"]}'}


@pytest.mark.parametrize(
    ('namespace', 'cloud'),
    [
        ('', '/marigold_depth/points'),
        ('robot1', '/robot1/marigold_depth/points'),
        ('/robot1/', '/robot1/marigold_depth/points'),
    ],
)
def test_the_costmap_hears_the_cloud_of_the_node_in_its_namespace(
    pretended_nav2, namespace, cloud
):
    given = (f'namespace:={namespace}', 'model:=/no/such/model')
    _, output = launch(LAUNCH / 'nav2.launch.py', *given, env=pretended_nav2)
    assert f'-r /marigold_depth/points:={cloud}\n' in output
    assert 'the depth node ended with exit code 1' in output
