# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A bag played to the depth node: ``ros2 launch marigold_ros replay.launch.py bag:=DRIVE image:=…``.

The bag waits until the node is active and has found its images, and the node follows its clock.
/tf_static is published transient local, as on a robot, even if the recorder did not store that. At
the end of the bag everything stops.
"""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.ros_adapters import get_ros_node
from launch_ros.utilities import prefix_namespace
from marigold_ros.node.diagnostic_keys import NO_PUBLISHER
from marigold_ros.node.interface.launch_arguments import (
    as_number,
    camera_names,
    dds_environment,
    existing_path,
    image_topic,
    namespaces,
    new_path,
    refuse_unknown,
    SPARSE_TOPICS,
    topics_of_bag,
    transport_in_bag,
    truth,
)
from rosbag2_interfaces.srv import Resume

ARGUMENTS = (
    ('bag', None, 'the bag to play: a folder or a file'),
    ('rate', '1.0', 'speed at which the bag is played'),
    ('loop', 'false', 'true plays the bag again and again'),
    ('record', '', 'new folder of a bag to record the outputs into; empty: none'),
)
PASSED_ON = (
    ('image', '', 'topic of the images'),
    ('camera_info', '', 'topic of camera_info; empty: the sibling of the images'),
    *SPARSE_TOPICS,
    ('image_transport', '', 'raw or compressed; empty: as the bag has the images'),
    ('sparse_source', '', 'as for depth.launch.py; empty: the parameter file decides'),
    ('extrinsics', '', 'as for depth.launch.py; empty: the parameter file or tf2'),
    ('ground.height', '', 'as for depth.launch.py; empty: the parameter file decides'),
    ('ground.pitch', '', 'as for depth.launch.py; empty: the parameter file decides'),
    ('model', '', 'checkpoint; empty: the parameter file decides'),
    ('profile', '', 'as for depth.launch.py; empty: the parameter file decides'),
    ('device', '', 'auto, cpu, cuda or cuda:1; empty: the parameter file decides'),
    ('max_rate', '', 'largest number of frames per second; empty: the parameter file decides'),
    ('params_file', '', 'parameter file; empty: the one that comes with the package'),
    ('namespace', '', 'namespace of the node'),
    ('cameras', '', 'names of several cameras, as for depth.launch.py; empty: one'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
    ('fast_dds', 'auto', 'as for depth.launch.py, for the player and the recorder, too'),
    ('respawn', 'false', 'true starts the node again if it ends'),
    ('rviz', 'true', 'false starts no RViz'),
    ('fixed_frame', '', "frame that RViz draws in; empty: the configuration's"),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; ``start`` creates the actions from their values."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in (*ARGUMENTS, *PASSED_ON)
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context) -> list:
    """Return the actions for the arguments' values; raises where one is wrong."""
    defaults = {name: default for name, default, _ in (*ARGUMENTS, *PASSED_ON)}
    refuse_unknown('replay.launch.py', context.argv, context.launch_configurations, defaults)
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in defaults}
    above = context.launch_configurations.get('ros_namespace')  # of PushRosNamespace
    given['namespace'] = prefix_namespace(above, given['namespace'])
    given['bag'] = existing_path('bag', given['bag'])
    share = Path(get_package_share_directory('marigold_ros'))
    nodes = namespaces(given['namespace'], camera_names(given['cameras']))
    topics = topics_of_bag(given['bag'])
    if topics and not given['image_transport']:
        images = [image_topic(namespace, given['image']) for namespace in nodes.values()]
        given['image_transport'] = transport_in_bag(topics, images)
    # One process that publishes images and scans loses camera_info with the default of Fast DDS.
    profile = str(share / 'config' / 'fast_dds.xml')
    dds = dds_environment(given['fast_dds'], profile, os.environ)
    player = _player(given, share, dds)
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / 'launch' / 'depth.launch.py')),
        launch_arguments={
            **{name: given[name] for name, _, _ in PASSED_ON},
            'use_sim_time': 'true',
        }.items(),
    )
    recorders = []
    if given['record']:
        recorders = [_recorder(new_path('record', given['record']), nodes.values(), dds)]
    return [
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=end_with_bag)),
        OpaqueFunction(function=watch, args=[nodes.values()]),
        node,  # checks its arguments before another process starts
        *recorders,
        player,
    ]


def watch(context, prefixes) -> None:
    """
    Resume the bag once the depth node of each namespace is active and has found its images.

    An active node publishes diagnostics once a second; after five without a publisher of its
    images the bag starts all the same.
    """
    watcher = get_ros_node(context)
    waiting = {f'{prefix}/marigold_depth: frames': 5 for prefix in prefixes}
    player = watcher.create_client(Resume, '/rosbag2_player/resume')

    def on_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name in waiting:
                waiting[status.name] -= 1
                if not (waiting[status.name] and status.message.startswith(NO_PUBLISHER)):
                    del waiting[status.name]
        if not waiting and player.service_is_ready():
            player.call_async(Resume.Request()).add_done_callback(on_resumed)

    def on_resumed(_) -> None:
        watcher.destroy_subscription(reports)
        watcher.get_logger().info('the node is active: the bag starts')

    reports = watcher.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)


def end_with_bag(event, context) -> list:
    """End the launch with the bag; it returns 1 if the bag could not be played."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(
            f'`ros2 bag play` ended with exit code {event.returncode}; its output above says why: '
            'check the bag with `ros2 bag info`, or mend it with `ros2 bag reindex`'
        )
    end = EmitEvent(event=Shutdown(reason='bag is over'))
    # The last image is still on its way through the node, and into the recording.
    return [] if context.is_shutdown else [TimerAction(period=0.5, actions=[end])]


def _player(given: dict[str, str], share: Path, dds: dict[str, str]) -> ExecuteProcess:
    rate = as_number('rate', given['rate'])
    # The bag comes before --clock, which would otherwise take it for a frequency.
    command = ['ros2', 'bag', 'play', given['bag'], '--clock', '100', '--rate', str(rate)]
    command += ['--qos-profile-overrides-path', str(share / 'config' / 'replay_qos.yaml')]
    command += ['--disable-keyboard-controls', '--start-paused']
    if truth('loop', given['loop']):
        command.append('--loop')
    return ExecuteProcess(cmd=command, additional_env=dds, output='screen')


def _recorder(folder: str, prefixes, dds: dict[str, str]) -> ExecuteProcess:
    """Record the outputs of all depth nodes; the bag's own topics are in the bag already."""
    nodes = '|'.join(f'{prefix}/marigold_depth/.*' for prefix in prefixes)
    # By pattern: whether topics are positional differs between distributions.
    topics = f'^({nodes}|/diagnostics|/tf|/tf_static)$'
    command = ['ros2', 'bag', 'record', '--output', folder, '--regex', topics, '--use-sim-time']
    return ExecuteProcess(cmd=command, additional_env=dds, output='screen')
