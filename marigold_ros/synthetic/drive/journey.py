# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Journeys of a vehicle with camera and LiDAR: its mounting, and smooth free paths through scenes.

The vehicle's frame has its origin on the ground below the camera, x forward, y left, z up
(REP 103); poses are functions of time, because the LiDAR measures a little after the camera.
"""

from collections.abc import Callable
from dataclasses import dataclass

from marigold_ros.errors import ConfigurationError
from marigold_ros.synthetic.raycast.description import Scene
from marigold_ros.synthetic.raycast.surfaces import intersect, is_free
from marigold_ros.synthetic.scenes.scene import draw_scene, look_from
import numpy as np

# Columns: the vehicle's axes x, y, z in the axes of an optical frame (right, down, forward).
VEHICLE_IN_OPTICAL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
SCENE_TRIES = 40
START_TRIES = 40
STREET_SPEED, ROOM_SPEED = 8.0, 0.6  # m/s at the most
CLEARANCE = 0.2  # m around camera and LiDAR

PoseAt = Callable[[float], np.ndarray]


@dataclass(frozen=True)
class Mounting:
    """
    Fixed poses on the vehicle.

    ``T_base_cam`` and ``T_base_lidar`` (4, 4): the camera's optical frame and the LiDAR, which
    sits 0.5 m above the camera and 0.2 m behind it, so that it sees past obstacles that hide
    things from the camera.
    """

    T_base_cam: np.ndarray
    T_base_lidar: np.ndarray

    @property
    def T_cam_lidar(self) -> np.ndarray:
        """Return (4, 4) with ``p_cam = T_cam_lidar @ p_lidar``."""
        return np.linalg.inv(self.T_base_cam) @ self.T_base_lidar


def draw_mounting(rng: np.random.Generator, kind: str) -> Mounting:
    """Draw the camera's height and tilt, and small errors of alignment as in any real mounting."""
    heights, pitches = ((1.5, 1.7), (-6, -2)) if kind == 'street' else ((1.1, 1.35), (-10, -5))
    height, pitch = rng.uniform(*heights), np.deg2rad(rng.uniform(*pitches))
    T_base_cam = np.eye(4)
    T_base_cam[:3, :3] = VEHICLE_IN_OPTICAL.T @ look_from(np.zeros(3), 0.0, pitch)[:3, :3]
    T_base_cam[2, 3] = height
    yaw = np.deg2rad(rng.normal(0, 0.5))
    T_base_lidar = np.eye(4)
    T_base_lidar[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T_base_lidar[:3, 3] = -0.2, rng.normal(0, 0.02), height + 0.5
    return Mounting(T_base_cam, T_base_lidar)


def vehicle_pose(x: float, z: float, yaw: float, pitch: float = 0.0) -> np.ndarray:
    """Return T_world_base (4, 4) of a vehicle on the ground at x, z; positive yaw turns right."""
    T_world_base = look_from(np.array([x, 0.0, z]), yaw, pitch)
    T_world_base[:3, :3] = T_world_base[:3, :3] @ VEHICLE_IN_OPTICAL
    return T_world_base


def draw_journey(
    rng: np.random.Generator, kind: str, duration: float
) -> tuple[Scene, Mounting, PoseAt]:
    """
    Draw a 'street' or 'room', a mounting, and a free way through the scene.

    The pose maps times in [0, duration] s to T_world_base (4, 4). Raises `ConfigurationError` if
    ``kind`` is unknown, or no scene out of 40 has a free way.
    """
    draw_way, starts = (_street_way, 1) if kind == 'street' else (_room_way, START_TRIES)
    for _ in range(SCENE_TRIES):
        scene, mounting = draw_scene(rng, kind), draw_mounting(rng, kind)
        for _ in range(starts):
            pose = draw_way(rng, scene, mounting, duration)
            if pose is not None and _is_open(scene, mounting, pose, duration):
                return scene, mounting, pose
    raise ConfigurationError(
        f'no free way of {duration:g} s in {SCENE_TRIES} scenes of kind {kind}; '
        'choose another seed or fewer frames'
    )


def _street_way(
    rng: np.random.Generator, scene: Scene, mounting: Mounting, duration: float
) -> PoseAt | None:
    """Return a way along the free lane, swaying by centimetres as a driver does, if it is long."""
    if scene.lane is None or scene.lane[2] - scene.lane[1] < 20:
        return None
    x, first, last = scene.lane
    first += rng.uniform(0.5, 2)
    speed = min(rng.uniform(0.7, 1) * STREET_SPEED, (last - 6 - first) / max(duration, 1e-3))
    sway, period = rng.uniform(0.05, 0.2), rng.uniform(4, 7)
    phase, bounce = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(0.1, 0.3))

    def pose(seconds: float) -> np.ndarray:
        angle = 2 * np.pi * seconds / period + phase
        slope = sway * 2 * np.pi / period * np.cos(angle) / max(speed, 1.0)
        pitch = bounce * np.sin(2 * np.pi * 1.3 * seconds)
        place = x + sway * np.sin(angle), first + speed * seconds
        return vehicle_pose(*place, np.arctan(slope), pitch)

    return pose


def _room_way(
    rng: np.random.Generator, scene: Scene, mounting: Mounting, duration: float
) -> PoseAt | None:
    """Return a gentle arc from a drawn place, if that is free, into the widest free direction."""
    start = rng.uniform(*scene.extent)[[0, 2]]
    eye = np.array([start[0], -mounting.T_base_cam[2, 3], start[1]])
    if not is_free(scene, eye, CLEARANCE)[0]:
        return None
    headings = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    rays = np.stack([np.sin(headings), np.zeros(24), np.cos(headings)], axis=1)
    reach = intersect(scene, eye, rays).t
    heading = headings[int(np.argmax(reach))]
    speed = min(ROOM_SPEED, 0.35 * float(reach.max()) / max(duration, 1e-3))
    turn = rng.uniform(-0.25, 0.25) / max(duration, 1.0)  # rad/s

    def pose(seconds: float) -> np.ndarray:
        # The chord of the arc; np.sinc keeps it exact where the arc is straight.
        chord = speed * seconds * np.sinc(turn * seconds / 2 / np.pi)
        middle = heading + turn * seconds / 2
        x, z = start + chord * np.array([np.sin(middle), np.cos(middle)])
        return vehicle_pose(x, z, heading + turn * seconds)

    return pose


def _is_open(scene: Scene, mounting: Mounting, pose: PoseAt, duration: float) -> bool:
    """Return whether both sensors stay clear, and the camera never faces a thing close by."""
    poses = [pose(seconds) for seconds in np.linspace(0, duration, 41)]
    cameras = np.array([T @ mounting.T_base_cam for T in poses])
    lidars = np.array([(T @ mounting.T_base_lidar)[:3, 3] for T in poses])
    if not is_free(scene, np.concatenate([cameras[:, :3, 3], lidars]), CLEARANCE).all():
        return False
    nearest = 4.0 if scene.kind == 'street' else 0.8
    fan = np.array([[x, y, 1.0] for x in (-0.4, -0.2, 0, 0.2, 0.4) for y in (-0.2, 0.0, 0.15)])
    return all(
        np.median(intersect(scene, T[:3, 3], fan @ T[:3, :3].T).t) > nearest for T in cameras[::10]
    )
