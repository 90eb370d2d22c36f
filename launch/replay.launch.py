# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A bag played to the depth node: ``ros2 launch marigold_ros replay.launch.py bag:=DRIVE image:=…``.

The node follows the bag's clock. /tf_static is published transient local, as on a robot, even if
the recorder did not store that. At the end of the bag everything stops.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
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

ARGUMENTS = (
    ('bag', None, 'the bag to play: a folder or a file'),
    ('rate', '1.0', 'speed of the replay'),
    ('loop', 'false', 'true plays the bag again and again'),
    ('record', '', 'folder of a bag to record the outputs into; empty: none'),
    ('delay', '5.0', 'seconds before the bag starts, so that the model is loaded by then'),
)
PASSED_ON = (
    ('image', '', 'topic of the images'),
    ('camera_info', '', 'topic of camera_info; empty: the sibling of the images'),
    ('lidar', '', 'topic of the point clouds'),
    ('model', '', 'checkpoint; empty: the parameter file decides'),
    ('profile', '', 'speed or quality; empty: the parameter file decides'),
    ('params_file', '', 'parameter file; empty: the one that comes with the package'),
    ('namespace', '', 'namespace of the node'),
    ('cameras', '', 'names of several cameras, as for depth.launch.py; empty: one'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
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
    """Return the actions for the arguments' values."""
    given = {
        name: LaunchConfiguration(name).perform(context).strip()
        for name, _, _ in (*ARGUMENTS, *PASSED_ON)
    }
    share = Path(get_package_share_directory('marigold_ros'))
    # The bag comes before --clock, which would otherwise take it for a frequency.
    command = ['ros2', 'bag', 'play', given['bag'], '--clock', '100', '--rate', given['rate']]
    command += ['--qos-profile-overrides-path', str(share / 'config' / 'replay_qos.yaml')]
    command += ['--disable-keyboard-controls']
    if given['loop'].lower() in ('true', '1', 'yes', 'on'):
        command.append('--loop')
    player = ExecuteProcess(cmd=command, output='screen')
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / 'launch' / 'depth.launch.py')),
        launch_arguments={
            **{name: given[name] for name, _, _ in PASSED_ON},
            'use_sim_time': 'true',
        }.items(),
    )
    recorders = [_recorder(given['record'], given['namespace'])] if given['record'] else []
    return [
        node,
        *recorders,
        TimerAction(period=float(given['delay']), actions=[player]),
        RegisterEventHandler(
            OnProcessExit(
                target_action=player, on_exit=[EmitEvent(event=Shutdown(reason='bag is over'))]
            )
        ),
    ]


def _recorder(folder: str, namespace: str) -> ExecuteProcess:
    """Record the node's outputs; the bag's own topics are in the bag already."""
    prefix = f'/{namespace.strip("/")}' if namespace.strip('/') else ''
    # By pattern: whether topics are positional differs between distributions.
    topics = f'^({prefix}/marigold_depth/.*|/diagnostics|/tf|/tf_static)$'
    command = ['ros2', 'bag', 'record', '--output', folder, '--regex', topics]
    return ExecuteProcess(cmd=[*command, '--use-sim-time'], output='screen')
