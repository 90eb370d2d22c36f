# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The simulated LiDAR against scenes whose ranges follow from school geometry."""

from __future__ import annotations

from dataclasses import replace

from marigold_ros.synthetic.appearance.lighting import draw_lighting
from marigold_ros.synthetic.appearance.materials import draw_materials
from marigold_ros.synthetic.drive.journey import vehicle_pose
from marigold_ros.synthetic.drive.lidar import LidarModel, scan
from marigold_ros.synthetic.raycast.description import BOX, PLANE, Scene, SolidList
import numpy as np
import pytest

EXACT = LidarModel(beams=16, azimuth_steps=90, noise=0.0, dropout=0.0)
HEIGHT = 2.0


def ground_scene(*boxes):
    """Flat ground, and boxes given as (centre, half)."""
    rng = np.random.default_rng(0)
    solids = SolidList()
    material = solids.material('road')
    solids.add(PLANE, (0, 0, 0), (1, 1, 1), material)
    for centre, half in boxes:
        solids.add(BOX, centre, half, material)
    roles, layout = tuple(solids.roles), np.array(solids.layout, float)
    extent = np.array([[-1.0, -2, -1], [1, -1, 1]])
    return Scene(
        kind='street',
        solids=solids.solids(),
        roles=roles,
        layout=layout,
        materials=draw_materials(rng, roles, layout),
        lighting=draw_lighting(rng, 'street', extent),
        extent=extent,
        max_depth=120.0,
    )


def lidar_pose(x=0.0, z=0.0, yaw=0.0):
    T_base_lidar = np.eye(4)
    T_base_lidar[2, 3] = HEIGHT
    return vehicle_pose(x, z, yaw) @ T_base_lidar


def measure(scene, model=EXACT, pose=None, seed=0):
    return scan(scene, lidar_pose() if pose is None else pose, model, np.random.default_rng(seed))


def xyz(points):
    return np.stack([points[axis] for axis in 'xyz'], axis=1)


def test_flat_ground_lies_at_sensor_height_in_every_ring():
    points = measure(ground_scene())
    np.testing.assert_allclose(points['z'], -HEIGHT, atol=1e-4)
    elevation = np.deg2rad(np.linspace(-28, 12, 16))
    distance = np.linalg.norm(xyz(points), axis=1)
    expected = HEIGHT / np.sin(-elevation[points['ring']])
    np.testing.assert_allclose(distance, expected, rtol=1e-4)
    seen = (elevation < 0) & (EXACT.farthest * np.sin(-elevation) > HEIGHT)
    assert set(points['ring']) == set(np.flatnonzero(seen))


@pytest.mark.parametrize(
    ('centre', 'axis', 'sign', 'face'),
    [
        ((0, -2, 10), 'x', 1, 9.0),  # ahead in the world is x of the LiDAR
        ((-10, -2, 0), 'y', 1, 9.0),  # left of the world is y
        ((10, -2, 0), 'y', -1, 9.0),
    ],
)
def test_axes_are_forward_left_up(centre, axis, sign, face):
    points = measure(ground_scene((centre, (1, 4, 1))))
    above = points[points['z'] > -1.0]
    above = above[sign * above[axis] > 5]
    assert len(above) > 0
    assert (sign * above[axis]).min() == pytest.approx(face, abs=1e-3)


def test_a_turned_vehicle_sees_the_same_ground_in_the_world():
    scene = ground_scene()
    pose = lidar_pose(3.0, -4.0, 0.7)
    world = xyz(measure(scene, pose=pose)) @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(world[:, 1], 0.0, atol=1e-3)


def test_noise_and_dropouts_have_the_stated_size():
    scene = ground_scene()
    exact = measure(scene, LidarModel(noise=0.0, dropout=0.0))
    noisy = measure(scene, LidarModel(noise=0.02, dropout=0.0))
    error = np.linalg.norm(xyz(noisy), axis=1) - np.linalg.norm(xyz(exact), axis=1)
    assert error.std() == pytest.approx(0.02, rel=0.05)
    assert abs(error.mean()) < 0.001
    thinned = measure(scene, LidarModel(noise=0.0, dropout=0.1))
    assert 1 - len(thinned) / len(exact) == pytest.approx(0.1, abs=0.01)


def test_ranges_beyond_the_sensor_are_missing():
    near_sighted = replace(EXACT, farthest=5.0, nearest=4.3)
    distance = np.linalg.norm(xyz(measure(ground_scene(), near_sighted)), axis=1)
    assert distance.size > 0
    assert distance.min() >= 4.3
    assert distance.max() <= 5.0


def test_intensity_is_a_share_that_falls_with_the_angle_to_the_ground():
    points = measure(ground_scene())
    intensity = points['intensity']
    cosine = HEIGHT / np.linalg.norm(xyz(points), axis=1)
    np.testing.assert_allclose(intensity / cosine, intensity[0] / cosine[0], rtol=1e-3)
    assert (intensity >= 0).all()
    assert (intensity <= 1).all()
    assert intensity.std() > 0
