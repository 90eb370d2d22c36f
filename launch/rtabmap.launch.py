# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The depth node and RTAB-Map: ``ros2 launch marigold_ros rtabmap.launch.py image:=… frame_id:=…``.

RTAB-Map takes the rectified image, depth and camera_info of one stamp. All arguments of
depth.launch.py but ``namespace`` and ``cameras`` count, and all of rtabmap.launch.py but the
topics.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

# Exact stamps, so that no depth is taken for that of another image. Reliable (1), for its default
# is that of DDS, best effort, by which images of 0.5 MB and more are lost.
INPUTS = {
    'rgb_topic': '/marigold_depth/rgb/image_rect',
    'camera_info_topic': '/marigold_depth/rgb/camera_info',
    'depth_topic': '/marigold_depth/depth/image_rect',
    'approx_sync': 'false',
    'qos_image': '1',
    'qos_camera_info': '1',
}


def generate_launch_description() -> LaunchDescription:
    """Start both, each with its own namespace and no RViz."""
    use_sim_time = DeclareLaunchArgument(
        'use_sim_time', default_value='false', description='true where a bag gives the time'
    )
    parts = (
        ('marigold_ros', 'depth.launch.py', {'namespace': ''}),
        ('rtabmap_launch', 'rtabmap.launch.py', {'namespace': 'rtabmap', **INPUTS}),
    )
    # In groups: a setting of one is not one of the other.
    groups = [
        GroupAction(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(
                        str(Path(get_package_share_directory(package)) / 'launch' / file)
                    ),
                    launch_arguments={**given, 'rviz': 'false'}.items(),
                )
            ]
        )
        for package, file, given in parts
    ]
    return LaunchDescription([use_sim_time, *groups])
