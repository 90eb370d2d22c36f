# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Lighting drawn at random: lamps of rooms, sun, sky, clouds and fog of streets."""

from marigold_ros.synthetic.appearance.materials import linear_from_hsv
from marigold_ros.synthetic.raycast.description import Lighting
import numpy as np

SUN_DISTANCE = 1000.0  # m; near enough for float32, far enough for parallel light


def draw_lighting(rng: np.random.Generator, kind: str, extent: np.ndarray) -> Lighting:
    """Draw lamps for a room or sun and sky for a street."""
    return _room_lighting(rng, extent) if kind == 'room' else _street_lighting(rng)


def _room_lighting(rng: np.random.Generator, extent: np.ndarray) -> Lighting:
    count = int(rng.integers(1, 4))
    middle, half = extent.mean(axis=0), (extent[1] - extent[0]) / 2
    position = middle + rng.uniform(-0.8, 0.8, (count, 3)) * half
    position[:, 1] = -rng.uniform(1.5, 2.25, count)
    warmth = rng.uniform(-0.35, 0.5, count)
    colour = np.stack([1 + 0.5 * warmth, np.ones(count), 1 - 0.6 * warmth], axis=1)
    strength = rng.uniform(0.3, 1.6, count) / count * rng.uniform(0.3, 1.5)
    ambient = rng.uniform(0.15, 0.7) * (1 + rng.normal(0, 0.08, 3))
    if rng.random() < 0.3:
        ambient = ambient * rng.uniform(0.15, 0.5)  # dark corners
    colour, reach, panes = colour * strength[:, None], rng.uniform(1.5, 6.0, count), 0.0
    if rng.random() < 0.25:
        # Sunlight falls in through windows that need not be in sight.
        position[0] = _sun_direction(rng, (15, 50)) * SUN_DISTANCE
        colour[0] = np.array([1.1, 1.0, 0.85]) * rng.uniform(0.8, 3.5)
        reach[0], panes = np.inf, rng.uniform(0.6, 1.8)
    return Lighting(
        position=position,
        colour=colour,
        reach=reach,
        panes=panes,
        ambient_up=ambient,
        ambient_down=ambient * rng.uniform(0.45, 1.0),
        zenith=np.ones(3),
        horizon=np.ones(3),
    )


def _street_lighting(rng: np.random.Generator) -> Lighting:
    weather = str(rng.choice(['clear', 'hazy', 'overcast', 'dusk'], p=[0.4, 0.2, 0.27, 0.13]))
    elevations = {'clear': (20, 70), 'hazy': (15, 60), 'overcast': (30, 80), 'dusk': (3, 14)}
    direction = _sun_direction(rng, elevations[weather])
    blue = rng.uniform(0.55, 0.65), rng.uniform(0.25, 0.75), rng.uniform(0.5, 0.95)
    grey = rng.uniform(0.5, 0.65), rng.uniform(0.0, 0.12), rng.uniform(0.6, 0.98)
    zenith = linear_from_hsv(np.array([blue if weather in ('clear', 'dusk') else grey]))[0]
    pale = rng.uniform(0.45, 0.62), rng.uniform(0.0, 0.22), rng.uniform(0.8, 1.0)
    sunset = rng.uniform(0.02, 0.12), rng.uniform(0.15, 0.55), rng.uniform(0.6, 0.95)
    horizon = linear_from_hsv(np.array([sunset if weather == 'dusk' else pale]))[0]
    sun = {'clear': (0.8, 2.6), 'hazy': (0.2, 0.7), 'overcast': (0.0, 0.12), 'dusk': (0.15, 0.8)}
    warmth = 0.35 if weather == 'dusk' else rng.uniform(0.0, 0.15)
    colour = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(*sun[weather])
    pallor = 0.5 * zenith + 0.5 * zenith.mean()  # sky light is paler than the sky looks
    ambient = 0.5 * pallor / max(zenith.mean(), 1e-3) ** 0.5 + 0.25 * horizon
    fog = rng.uniform(0.0, 0.004) if rng.random() < 0.87 else rng.uniform(0.004, 0.03)
    return Lighting(
        position=(direction * SUN_DISTANCE)[None],
        colour=colour[None],
        reach=np.array([np.inf]),
        ambient_up=ambient * rng.uniform(0.5, 1.0),
        ambient_down=ambient * rng.uniform(0.2, 0.4),
        zenith=zenith,
        horizon=horizon,
        clouds=float(rng.choice([0.0, rng.uniform(0.1, 0.6), rng.uniform(0.5, 1.0)])),
        fog=float(fog),
        dapple=rng.uniform(1.0, 5.0) if rng.random() < 0.2 else 0.0,
    )


def _sun_direction(rng: np.random.Generator, elevations: tuple[float, float]) -> np.ndarray:
    """Draw a unit vector (3,) towards the sun, between two elevations in degrees."""
    azimuth, up = rng.uniform(-np.pi, np.pi), np.deg2rad(rng.uniform(*elevations))
    return np.array([np.cos(up) * np.sin(azimuth), -np.sin(up), np.cos(up) * np.cos(azimuth)])
