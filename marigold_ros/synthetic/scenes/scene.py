# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Rooms and streets drawn at random and seen through a camera: images with exact depth.

Drawing, geometry and light are separate, so that one geometry can be lit many ways; camera and
LiDAR rays meet the same solids.
"""

from contextlib import suppress

from marigold_ros.errors import ConfigurationError
from marigold_ros.synthetic.appearance.lighting import draw_lighting
from marigold_ros.synthetic.appearance.materials import draw_materials
from marigold_ros.synthetic.appearance.shading import shade
from marigold_ros.synthetic.raycast.description import Sample, Scene, ViewCamera
from marigold_ros.synthetic.raycast.surfaces import intersect, is_free, render_geometry
from marigold_ros.synthetic.scenes.rooms import draw_room
from marigold_ros.synthetic.scenes.streets import draw_street
import numpy as np

KINDS = ('room', 'street')
# Counted up whenever a seed gives another image than before: caches go by it.
GENERATION = 2
ROOM_SHARE = 0.6
ROOM_DEPTH, STREET_DEPTH = 50.0, 120.0  # m, beyond it is sky
CAMERA_TRIES, SCENE_TRIES = 40, 5
PROBES = 24  # rays that judge a view before it is taken


class NoFreePlaceError(ConfigurationError):
    """A scene so full that no camera position was found in it."""


def draw_scene(rng: np.random.Generator, kind: str | None = None) -> Scene:
    """
    Draw a room or a street; for ``kind`` None draw that too (60 % rooms).

    Raises `ConfigurationError` if ``kind`` is something else.
    """
    if kind is None:
        kind = 'room' if rng.random() < ROOM_SHARE else 'street'
    if kind not in KINDS:
        raise ConfigurationError(f'scene kind is {kind!r}; choose one of {KINDS} or None')
    focus, lane = None, None
    if kind == 'room':
        solids, extent, focus = draw_room(rng)
    else:
        solids, extent, lane = draw_street(rng)
    roles, layout = tuple(solids.roles), np.array(solids.layout, dtype=np.float64)
    return Scene(
        kind=kind,
        solids=solids.solids(),
        roles=roles,
        layout=layout,
        materials=draw_materials(rng, roles, layout),
        lighting=draw_lighting(rng, kind, extent),
        extent=extent,
        max_depth=ROOM_DEPTH if kind == 'room' else STREET_DEPTH,
        focus=focus,
        lane=lane,
    )


def look_from(
    centre: np.ndarray, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0
) -> np.ndarray:
    """
    Return the pose (4, 4) T_world_cam of a camera at ``centre`` (3,) m; angles in radians.

    Positive yaw looks right, positive pitch up, positive roll turns the camera clockwise.
    """
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    T_world_cam = np.eye(4)
    T_world_cam[:3, :3] = turn @ tilt @ lean
    T_world_cam[:3, 3] = centre
    return T_world_cam


def draw_camera(
    rng: np.random.Generator, scene: Scene, width: int = 256, height: int = 192
) -> ViewCamera:
    """
    Draw a camera in free space with something to see, 45 to 100 degrees across.

    ``width`` and ``height`` are pixels. Raises `NoFreePlaceError` if no free place was found.
    """
    K = _draw_intrinsics(rng, width, height)
    free = None
    for _ in range(CAMERA_TRIES):
        T_world_cam = draw_pose(rng, scene)
        if not is_free(scene, T_world_cam[:3, 3])[0]:
            continue
        free = ViewCamera(K, T_world_cam, width, height)
        if _worth_seeing(rng, scene, free):
            return free
    if free is None:
        raise NoFreePlaceError(
            f'no free place for a camera in {CAMERA_TRIES} tries; draw another scene'
        )
    return free


def _draw_intrinsics(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    focal = width / 2 / np.tan(np.deg2rad(rng.uniform(45, 100)) / 2)
    centre = np.array([width - 1, height - 1]) / 2 + rng.normal(0, 0.01, 2) * width
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])


def draw_pose(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    low, high = scene.extent
    roll = np.deg2rad(rng.normal(0, 1.5 if rng.random() < 0.7 else 6.0))
    if scene.kind == 'street':
        centre = rng.uniform(low, high)
        pitch, yaw = np.deg2rad(rng.uniform(-8, 4)), np.deg2rad(rng.normal(0, 5))
        if rng.random() < 0.2:
            yaw = np.deg2rad(rng.uniform(-75, 75))
            centre[0] += rng.uniform(-8, 8)  # from the pavement, too
        return look_from(centre, yaw, pitch, roll)
    if scene.focus is not None:
        around, away = rng.uniform(-np.pi, np.pi), rng.uniform(0.4, 1.3)
        pitch = np.deg2rad(rng.uniform(-45, -8))
        back = np.array([-np.sin(around), -np.tan(-pitch), -np.cos(around)]) * away
        return look_from(scene.focus + back, around + rng.normal(0, 0.1), pitch, roll)
    centre = rng.uniform(low, high)
    pitch = np.deg2rad(np.clip(rng.normal(-8, 11), -40, 18))
    # Rather towards the far end than into the wall next to the camera.
    middle = rng.uniform(low, high) * 0.6
    yaw = np.arctan2(middle[0] - centre[0], middle[2] - centre[2]) + rng.normal(0, 0.35)
    return look_from(centre, yaw, pitch, roll)


def _worth_seeing(rng: np.random.Generator, scene: Scene, camera: ViewCamera) -> bool:
    """Return whether nothing is right before the lens and several materials are in view."""
    K = camera.K
    u, v = (rng.uniform(0, size, PROBES) for size in (camera.width, camera.height))
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    rays = np.stack([x, y, np.ones(PROBES)])
    hits = intersect(scene, camera.centre, (camera.T_world_cam[:3, :3] @ rays).T)
    seen = len(np.unique(hits.material))
    if scene.kind == 'street':
        closest, usual, enough = 1.5, 4.0, 6
    else:
        closest, usual, enough = (0.25, 0.4, 8) if scene.focus is not None else (0.35, 1.1, 8)
    return bool(hits.t.min() > closest and np.median(hits.t) > usual and seen >= enough)


def make_sample(seed: int, width: int = 256, height: int = 192, kind: str | None = None) -> Sample:
    """
    Make one training image with its depth; a seed always gives the same bytes.

    ``width`` and ``height`` are pixels, ``kind`` is as in `draw_scene`.
    """
    rng = np.random.default_rng(seed)
    for _ in range(SCENE_TRIES - 1):
        scene = draw_scene(rng, kind)
        with suppress(NoFreePlaceError):
            camera = draw_camera(rng, scene, width, height)
            break
    else:
        scene = draw_scene(rng, kind)
        camera = draw_camera(rng, scene, width, height)
    geometry = render_geometry(scene, camera)
    return Sample(shade(scene, geometry, rng), geometry.depth, scene.kind)
