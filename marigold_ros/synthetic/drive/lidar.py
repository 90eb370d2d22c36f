# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A spinning multi-beam LiDAR in a synthetic scene: rays from its own origin, noise, dropouts.

Its axes are a vehicle's (x forward, y left, z up, REP 103). All rays of one scan leave at one
instant: drivers that compensate the sensor's motion deliver just that, and the image has no
rolling shutter either.
"""

from dataclasses import dataclass

from marigold_ros.synthetic.raycast.description import Scene
from marigold_ros.synthetic.raycast.surfaces import intersect
import numpy as np

POINT = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('intensity', '<f4'), ('ring', '<u2')])


@dataclass(frozen=True)
class LidarModel:
    """
    Model of a sensor; the defaults resemble a common 32-beam one.

    ``beams`` lie evenly between ``lowest_deg`` and ``highest_deg`` (ring 0 is the lowest),
    ``azimuth_steps`` around the full circle. ``noise`` is one standard deviation of range, m,
    ``dropout`` the share of lost returns, ``nearest`` and ``farthest`` the limits of range, m.
    """

    beams: int = 32
    azimuth_steps: int = 900
    lowest_deg: float = -28.0
    highest_deg: float = 12.0
    noise: float = 0.015
    dropout: float = 0.03
    nearest: float = 0.4
    farthest: float = 100.0


def beam_directions(model: LidarModel) -> tuple[np.ndarray, np.ndarray]:
    """
    Return unit directions (N, 3) in the sensor's frame and the ring (N,) uint16 of each ray.

    Rays are ordered column by column, as a real sensor turns.
    """
    azimuth = np.pi - 2 * np.pi * np.arange(model.azimuth_steps) / model.azimuth_steps
    elevation = np.deg2rad(np.linspace(model.lowest_deg, model.highest_deg, model.beams))
    turn, tilt = np.meshgrid(azimuth, elevation, indexing='ij')
    directions = np.stack(
        [np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)], axis=-1
    )
    ring = np.broadcast_to(np.arange(model.beams, dtype=np.uint16), turn.shape)
    return directions.reshape(-1, 3), ring.reshape(-1)


def scan(
    scene: Scene, T_world_lidar: np.ndarray, model: LidarModel, rng: np.random.Generator
) -> np.ndarray:
    """
    Scan a scene once around; ``rng`` draws noise and dropouts.

    With ``p_world = T_world_lidar @ p_lidar``. Returns (N,) of dtype `POINT`, rays with a return
    only: metres in the LiDAR's frame, intensity in [0, 1].
    """
    directions, ring = beam_directions(model)
    rays = directions @ T_world_lidar[:3, :3].T
    hits = intersect(scene, T_world_lidar[:3, 3], rays)
    # Drawn for every ray, hit or not, so that the noise of a ray does not depend on the others.
    measured = hits.t + rng.normal(0.0, model.noise, len(rays))
    lost = rng.random(len(rays)) < model.dropout
    kept = (hits.t >= model.nearest) & (hits.t <= model.farthest) & ~lost
    points = np.empty(int(kept.sum()), POINT)
    points['x'], points['y'], points['z'] = (directions[kept] * measured[kept, None]).T
    brightness = scene.materials.colour_a[hits.material[kept]].mean(axis=1)
    cosine = np.abs((hits.normal[kept] * rays[kept]).sum(axis=1))
    points['intensity'] = np.clip(brightness * cosine, 0.0, 1.0)
    points['ring'] = ring[kept]
    return points
