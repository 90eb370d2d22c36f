# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The depth node and a Nav2 costmap: ``ros2 launch marigold_ros nav2.launch.py image:=TOPIC``.

Depth is published two sigma nearer than estimated. The costmap shows what the layer does; Nav2's
own costmaps take the part ``voxel_layer`` of its file. All arguments of depth.launch.py count, but
for several ``cameras``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import runpy

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import prefix_namespace
from marigold_ros.errors import ConfigurationError
from marigold_ros.node.interface.launch_arguments import (
    camera_names,
    namespaces,
    refuse_unknown,
)

COSTMAP = 'costmap/costmap'  # its namespace and name
CLOUD = '/marigold_depth/points'  # in the costmap's file


def cloud_topic(given: Mapping[str, str]) -> str:
    """Return the topic of the cloud for the values of the arguments."""
    above = given.get('ros_namespace')  # of PushRosNamespace
    namespace = prefix_namespace(above, given.get('namespace', '').strip())
    nodes = namespaces(namespace, camera_names(given.get('cameras', '')))
    if len(nodes) > 1:
        raise ConfigurationError(
            f'cameras is {", ".join(nodes)}, and this costmap has one cloud; start '
            'depth.launch.py, and give your own costmap the sources mark and clear for each camera'
        )
    return ''.join(nodes.values()) + CLOUD


def check_names(context, depth: str, own: Mapping[str, str]) -> None:
    """Refuse arguments that neither the file ``depth`` nor this one has; ``own`` are defaults."""
    names = [name for name, _, _ in runpy.run_path(depth)['ARGUMENTS']]
    defaults = {**dict.fromkeys(names, ''), **own}
    refuse_unknown('nav2.launch.py', context.argv, context.launch_configurations, defaults)


def start_costmap(context) -> list[Node]:
    """Return the costmap, which hears the cloud where the depth node publishes it."""
    namespace, name = COSTMAP.split('/')
    return [
        Node(
            package='nav2_costmap_2d',
            executable='nav2_costmap_2d',
            namespace=namespace,
            name=name,
            output='screen',
            parameters=[
                LaunchConfiguration('costmap_params'),
                {'use_sim_time': LaunchConfiguration('use_sim_time')},
            ],
            remappings=[(CLOUD, cloud_topic(context.launch_configurations))],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Start the depth node, a costmap, and the manager that activates the costmap."""
    share = Path(get_package_share_directory('marigold_ros'))
    arguments = (
        (
            'params_file',
            str(share / 'config' / 'nav2_depth.yaml'),
            'parameter file of the depth node: margin, range and density of the cloud',
        ),
        (
            'costmap_params',
            str(share / 'config' / 'nav2_costmap.yaml'),
            'parameter file of the costmap',
        ),
        ('use_sim_time', 'false', 'true where a bag gives the time'),
        # Costmaps subscribe with best effort, and lose clouds of 0.5 MB and more without it.
        ('fast_dds', 'auto', 'as for depth.launch.py'),
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in arguments
    ]
    file = str(share / 'launch' / 'depth.launch.py')
    own = {name: default for name, default, _ in arguments}
    check = OpaqueFunction(function=check_names, args=[file, own])
    depth = IncludeLaunchDescription(PythonLaunchDescriptionSource(file))
    manager = Node(
        package='nav2_lifecycle_manager',
        executable='lifecycle_manager',
        name='lifecycle_manager_costmap',
        output='screen',
        # A costmap by itself sends no heartbeat.
        parameters=[
            {'autostart': True, 'node_names': [COSTMAP], 'bond_timeout': 0.0},
            {'use_sim_time': LaunchConfiguration('use_sim_time')},
        ],
    )
    costmap = OpaqueFunction(function=start_costmap)
    return LaunchDescription([*declared, check, costmap, depth, manager])
