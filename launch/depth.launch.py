# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The depth node, and RViz if wanted: ``ros2 launch marigold_ros depth.launch.py image:=TOPIC``.

Arguments override the parameter file only where they are given. A node that fails ends the launch,
which then returns 1, unless ``respawn`` is set.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path
import tempfile

from ament_index_python.packages import (
    get_package_prefix,
    get_package_share_directory,
    PackageNotFoundError,
)
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import prefix_namespace
from marigold_ros.errors import ConfigurationError
from marigold_ros.node.interface.launch_arguments import (
    as_number,
    camera_names,
    dds_environment,
    existing_path,
    image_topic,
    namespaces,
    NUMBERS,
    parameter_file,
    PARAMETERS,
    pose_of_lidar,
    refuse_unknown,
    rviz_configuration,
    SPARSE_TOPICS,
    TOPICS,
    truth,
)
from marigold_ros.sparse_sources import SOURCE_NAMES

ARGUMENTS = (
    ('image', '', 'topic of the images; with image_transport compressed, without /compressed'),
    ('camera_info', '', 'topic of camera_info; empty: the sibling of the images'),
    *SPARSE_TOPICS,
    ('image_transport', '', 'raw or compressed; empty: the parameter file decides'),
    (
        'sparse_source',
        '',
        f'{", ".join(SOURCE_NAMES)}, or several with commas between; empty: the parameter file '
        'decides',
    ),
    (
        'extrinsics',
        '',
        'pose of the LiDAR in the optical frame: x y z in metres, quaternion x y z w, as in '
        "extrinsics:='0 -0.2 0.1 0.5 -0.5 0.5 -0.5'; empty: the parameter file or tf2",
    ),
    (
        'ground.height',
        '',
        'height of the camera above the ground, metres, for sparse_source ground',
    ),
    (
        'ground.pitch',
        '',
        'degrees by which the camera looks down; counts where ground.height does',
    ),
    ('model', '', 'checkpoint: name, folder or hub id; empty: the parameter file decides'),
    (
        'profile',
        '',
        'checkpoint, fast, balanced, quality or paper; empty: the parameter file decides',
    ),
    ('device', '', 'auto, cpu, cuda or cuda:1; empty: the parameter file decides'),
    ('max_rate', '', 'largest number of frames per second; empty: the parameter file decides'),
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
    (
        'fast_dds',
        'false',
        'auto gives the node config/fast_dds.xml, so that large messages arrive, unless another '
        'DDS or another profile is chosen; true always',
    ),
    ('respawn', 'false', 'true starts the node again, after two seconds, if it ends'),
    ('rviz', 'false', 'true starts RViz with config/marigold.rviz, made to fit the topics'),
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
    """Return the actions for the arguments' values; raises where one is wrong."""
    defaults = {name: default for name, default, _ in ARGUMENTS}
    refuse_unknown('depth.launch.py', context.argv, context.launch_configurations, defaults)
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in defaults}
    above = context.launch_configurations.get('ros_namespace')  # of PushRosNamespace
    given['namespace'] = prefix_namespace(above, given['namespace'])
    share = Path(get_package_share_directory('marigold_ros'))
    parameters = _parameters(given, share)
    respawn = truth('respawn', given['respawn'])
    profile = existing_path('fast_dds', str(share / 'config' / 'fast_dds.xml'))
    rviz = [_rviz(share, given)] if truth('rviz', given['rviz']) else []
    return [
        Node(
            package='marigold_ros',
            executable='depth_node',
            name='marigold_depth',
            namespace=given['namespace'],
            output='screen',
            emulate_tty=True,
            parameters=parameters,
            remappings=[(name, given[name]) for name in TOPICS if given[name]],
            arguments=['--ros-args', '--log-level', given['log_level']],
            additional_env=dds_environment(given['fast_dds'], profile, os.environ),
            respawn=respawn,
            respawn_delay=2.0,
            on_exit=None if respawn else end_if_failed,
        ),
        *rviz,
    ]


def end_if_failed(event, context) -> None:
    """End the launch, which then returns 1, when the node ended with an error."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(f'the depth node ended with exit code {event.returncode}')


def _parameters(given: dict[str, str], share: Path) -> list:
    """Return the parameter file and one of what the arguments set, which wins."""
    file = given['params_file'] or str(share / 'config' / 'depth.yaml')
    values: dict = {name: given[name] for name in PARAMETERS if given[name]}
    values.update({name: as_number(name, given[name]) for name in NUMBERS if given[name]})
    if given['extrinsics']:
        values.update(pose_of_lidar(given['extrinsics']))
    if given['use_sim_time']:
        values['use_sim_time'] = truth('use_sim_time', given['use_sim_time'])
    if cameras := camera_names(given['cameras']):
        values['cameras'] = cameras
    files = [existing_path('params_file', file, of_file=True)]
    return [*files, _written('.yaml', parameter_file(values))] if values else files


def _written(suffix: str, text: str) -> str:
    """Write a file that is there until the launch ends; return its path."""
    with tempfile.NamedTemporaryFile(prefix='marigold_', suffix=suffix, delete=False) as file:
        file.write(text.encode())
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name


def _rviz(share: Path, given: dict[str, str]) -> Node:
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        raise ConfigurationError(
            'rviz is true, but rviz2 is not installed: install it, or set rviz:=false'
        ) from None
    nodes = namespaces(given['namespace'], camera_names(given['cameras']))
    form = '/compressed' if given['image_transport'] == 'compressed' else ''
    images = {name: image_topic(nodes[name], given['image']) + form for name in nodes}
    template = (share / 'config' / 'marigold.rviz').read_text(encoding='utf-8')
    view = _written('.rviz', rviz_configuration(template, nodes, images))
    sim_time = given['use_sim_time'] or 'false'
    return Node(
        package='rviz2',
        executable='rviz2',
        namespace=given['namespace'],
        arguments=['-d', view] + (['-f', given['fixed_frame']] if given['fixed_frame'] else []),
        parameters=[{'use_sim_time': truth('use_sim_time', sim_time)}],
    )
