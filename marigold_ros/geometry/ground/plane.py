# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The plane of the ground in the camera's frame, from settings or a pose, and its depth."""

from collections.abc import Callable

from marigold_ros.config import GroundConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import GroundPlane
import numpy as np

# Cosine against a ray below which the plane is at the horizon or above it.
_LEVEL = 1e-6


def ground_plane(config: GroundConfig, pose: Callable[[str], np.ndarray]) -> GroundPlane:
    """
    Return the plane of the settings, or of a frame whose pose in the camera's ``pose`` looks up.

    Raises CalibrationError if neither is known, or the camera is not above the ground.
    """
    if config.height > 0.0:
        pitch = np.deg2rad(config.pitch)
        normal = np.array([0.0, np.cos(pitch), np.sin(pitch)])
        return GroundPlane(normal, config.height, float(np.deg2rad(config.pitch_error)))
    if not config.frame:
        raise CalibrationError(
            'the height of the camera is unknown: ground.height is 0 and ground.frame empty; set '
            'one of them'
        )
    return plane_of_pose(pose(config.frame), config)


def plane_of_pose(T_cam_ground: np.ndarray, config: GroundConfig) -> GroundPlane:
    """
    Return the plane through the origin of a frame on the ground, across its z axis.

    ``T_cam_ground`` (4, 4) is the pose of that frame, whose z axis points up (REP 105), in the
    camera's optical frame. Raises CalibrationError if the camera is not above the ground.
    """
    normal = -T_cam_ground[:3, 2]
    height = float(normal @ T_cam_ground[:3, 3])
    if not height > 0.0:
        raise CalibrationError(
            f'the camera is {height:.2f} m above {config.frame}, it must be above the ground: '
            'check the transform, or set ground.height'
        )
    return GroundPlane(normal, height, float(np.deg2rad(config.pitch_error)))


def plane_depth(plane: GroundPlane, K: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """
    Return the depth of the plane at pixels, metres; NaN at the horizon and above it.

    ``K`` (3, 3) is that of the rectified image; ``u`` and ``v`` are of one shape, the result's.
    """
    y = (v - K[1, 2]) / K[1, 1]
    x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
    down = plane.normal[0] * x + plane.normal[1] * y + plane.normal[2]
    return np.where(down > _LEVEL, plane.height / np.maximum(down, _LEVEL), np.nan)
