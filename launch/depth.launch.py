# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The depth node, and RViz if wanted: ``ros2 launch marigold_ros depth.launch.py image:=TOPIC``.

Arguments override the parameter file only where they are given.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = (
    ('image', '', 'topic of the images; with image_transport compressed, without /compressed'),
    ('camera_info', '', 'topic of camera_info; empty: the sibling of the images'),
    ('lidar', '', 'topic of the point clouds'),
    ('model', '', 'checkpoint: name, folder or hub id; empty: the parameter file decides'),
    (
        'profile',
        '',
        'checkpoint, fast, balanced, quality or paper; empty: the parameter file decides',
    ),
    (
        'params_file',
        '',
        'parameter file; empty: the config/depth.yaml that comes with the package',
    ),
    ('use_sim_time', '', 'true where a bag or a simulator gives the time'),
    ('namespace', '', 'namespace of the node'),
    (
        'cameras',
        '',
        'names, with commas between, of several cameras that share one model; each has a node in '
        'the namespace of its name; give image then as a relative name, as in image:=image_raw',
    ),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
    ('respawn', 'false', 'true starts the node again, after two seconds, if it ends'),
    ('rviz', 'false', 'true starts RViz with config/marigold.rviz'),
    ('fixed_frame', '', "frame that RViz draws in; empty: the configuration's camera_optical"),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; ``start`` creates the actions from their values."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context) -> list:
    """Return the actions for the arguments' values."""
    given = {name: LaunchConfiguration(name).perform(context).strip() for name, _, _ in ARGUMENTS}
    share = Path(get_package_share_directory('marigold_ros'))
    sim_time = given['use_sim_time']
    parameters = [given['params_file'] or str(share / 'config' / 'depth.yaml')]
    for name in ('model', 'profile'):
        if given[name]:
            # Without a type, launch would read a folder named 2024 as a number.
            parameters.append({name: ParameterValue(given[name], value_type=str)})
    if given['cameras']:
        names = [name.strip() for name in given['cameras'].strip('[]').split(',')]
        parameters.append({'cameras': names})
    if sim_time:
        parameters.append({'use_sim_time': _is_true(sim_time)})
    actions = [
        Node(
            package='marigold_ros',
            executable='depth_node',
            name='marigold_depth',
            namespace=given['namespace'],
            output='screen',
            emulate_tty=True,
            parameters=parameters,
            remappings=[
                (name, given[name]) for name in ('image', 'camera_info', 'lidar') if given[name]
            ],
            arguments=['--ros-args', '--log-level', given['log_level']],
            respawn=_is_true(given['respawn']),
            respawn_delay=2.0,
        )
    ]
    if _is_true(given['rviz']):
        actions.append(_rviz(share, given, sim_time))
    return actions


def _is_true(text: str) -> bool:
    return text.lower() in ('true', '1', 'yes', 'on')


def _rviz(share: Path, given: dict[str, str], sim_time: str) -> Node:
    arguments = ['-d', str(share / 'config' / 'marigold.rviz')]
    if given['fixed_frame']:
        arguments += ['-f', given['fixed_frame']]
    # The configuration has absolute topics; these rules remap them to this node's.
    remappings = [('/camera/image_raw', given['image'])] if given['image'] else []
    if given['namespace'].strip('/'):
        outputs = (
            'points',
            'depth/color',
            'relative/image',
            'uncertainty/image',
            'alignment/points',
        )
        prefix = f'/{given["namespace"].strip("/")}'
        remappings += [
            (f'/marigold_depth/{name}', f'{prefix}/marigold_depth/{name}') for name in outputs
        ]
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=given['namespace'],
        arguments=arguments,
        remappings=remappings,
        parameters=[{'use_sim_time': _is_true(sim_time)}],
    )
