# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The depth node and a Nav2 costmap: ``ros2 launch marigold_ros nav2.launch.py image:=TOPIC``.

Depth is published two sigma nearer than estimated. The costmap shows what the layer does; Nav2's
own costmaps take the part ``voxel_layer`` of its file. All arguments of depth.launch.py count.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

COSTMAP = 'costmap/costmap'  # its namespace and name


def generate_launch_description() -> LaunchDescription:
    """Start the depth node, a costmap, and the manager that activates the costmap."""
    share = Path(get_package_share_directory('marigold_ros'))
    use_sim_time = {'use_sim_time': LaunchConfiguration('use_sim_time')}
    declared = [
        DeclareLaunchArgument(
            'params_file',
            default_value=str(share / 'config' / 'nav2_depth.yaml'),
            description='parameter file of the depth node: margin, range and density of the cloud',
        ),
        DeclareLaunchArgument(
            'costmap_params',
            default_value=str(share / 'config' / 'nav2_costmap.yaml'),
            description='parameter file of the costmap',
        ),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', description='true where a bag gives the time'
        ),
    ]
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / 'launch' / 'depth.launch.py'))
    )
    namespace, name = COSTMAP.split('/')
    costmap = Node(
        package='nav2_costmap_2d',
        executable='nav2_costmap_2d',
        namespace=namespace,
        name=name,
        output='screen',
        parameters=[LaunchConfiguration('costmap_params'), use_sim_time],
    )
    manager = Node(
        package='nav2_lifecycle_manager',
        executable='lifecycle_manager',
        name='lifecycle_manager_costmap',
        output='screen',
        # A costmap by itself sends no heartbeat.
        parameters=[
            {'autostart': True, 'node_names': [COSTMAP], 'bond_timeout': 0.0},
            use_sim_time,
        ],
    )
    return LaunchDescription([*declared, depth, costmap, manager])
