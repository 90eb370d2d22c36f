# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
How things look: colours and textures per role, lamps, sun, sky and fog, all drawn at random.

Colours come as (hue, saturation, value) ranges per role, muted as in life, with one cast over the
whole scene, so that they correlate as under one light and no colour tells a depth.
"""

from __future__ import annotations

from marigold_ros.synthetic.appearance.material_table import KEPT, LOOKS, SURPRISES
from marigold_ros.synthetic.raycast.description import Lighting, Materials, Scene
import numpy as np

SUN_DISTANCE = 1000.0  # m; near enough for float32, far enough for parallel light


def linear_from_hsv(hsv: np.ndarray) -> np.ndarray:
    """Turn display HSV in [0, 1] (N, 3) into linear RGB (N, 3)."""
    hue, saturation, value = hsv[:, :1], hsv[:, 1:2], hsv[:, 2:]
    wheel = np.abs((hue + np.array([0.0, 2 / 3, 1 / 3])) % 1.0 * 6 - 3) - 1
    display = value * (1 - saturation + saturation * np.clip(wheel, 0, 1))
    return display**2.2


def draw_materials(
    rng: np.random.Generator, roles: tuple[str, ...], layout: np.ndarray
) -> Materials:
    """Draw the look of every material from its role; ``layout`` (M, 4) travels along."""
    looks = [LOOKS[role] for role in roles]
    count = len(roles)

    def within(name: str) -> np.ndarray:
        ranges = np.array([getattr(look, name) for look in looks])
        return rng.uniform(ranges[:, 0], ranges[:, 1])

    # Skewed to greys: saturated things are the exception in real images.
    dull = rng.uniform(0.6, 1.8) * (0.25 + 0.75 * rng.random(count) ** 0.5)
    hsv = np.stack([within('hue'), within('saturation') * dull, within('value')], axis=1)
    hsv[:, 1] = np.minimum(hsv[:, 1], 0.98)
    difference = np.array([look.difference for look in looks])[:, None]
    change = rng.normal(0, 1, (count, 3)) * difference * np.array([0.15, 0.4, 0.6])
    other = hsv + change
    other[:, 1:] = np.clip(other[:, 1:], 0.0, 0.98)
    floor_value = np.maximum(0.35 * hsv[:, 2:], 0.04)
    other[:, 2:] = np.maximum(other[:, 2:], floor_value)
    same = _walls_alike(roles)
    usual = np.array([look.textures[rng.integers(len(look.textures))] for look in looks])
    texture, widening = _surprised(rng, roles, usual)
    materials = Materials(
        texture=texture,
        colour_a=linear_from_hsv(hsv),
        colour_b=linear_from_hsv(other),
        scale=within('scale') * widening,
        offset=rng.uniform(0, 100, (count, 2)),
        contrast=within('contrast') * rng.choice([0.3, 1.0, 1.8]),
        gloss=within('gloss') * (rng.random(count) < 0.6),
        glow=within('glow') * (rng.random(count) < 0.6),
        extra=np.asarray(layout, dtype=np.float64).reshape(count, 4),
    )
    return Materials(
        **{
            name: values if name in ('offset', 'extra') else values[same]
            for name, values in vars(materials).items()
        }
    )


def _surprised(
    rng: np.random.Generator, roles: tuple[str, ...], usual: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give some things a texture that their role does not suggest, and factors on its size."""
    share = rng.choice([0.0, 0.12, 0.35, 0.9], p=[0.45, 0.3, 0.18, 0.07])
    surprised = (rng.random(len(roles)) < share) & ~np.isin(roles, KEPT)
    other = np.array(SURPRISES)[rng.integers(0, len(SURPRISES), len(roles))]
    widening = np.exp(rng.normal(0.0, 0.6, len(roles)))
    return np.where(surprised, other, usual), np.where(surprised, widening, 1.0)


def _walls_alike(roles: tuple[str, ...]) -> np.ndarray:
    """Let the walls of one room share one look, and its windows and furniture mostly theirs."""
    first: dict[str, int] = {}
    source = np.arange(len(roles))
    for index, role in enumerate(roles):
        if role in ('wall', 'grass', 'pavement', 'kerb', 'window'):
            source[index] = first.setdefault(role, index)
    return source


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
    weather = rng.choice(['clear', 'hazy', 'overcast', 'dusk'], p=[0.4, 0.2, 0.27, 0.13])
    low, high = {'clear': (20, 70), 'hazy': (15, 60), 'overcast': (30, 80), 'dusk': (3, 14)}[
        str(weather)
    ]
    direction = _sun_direction(rng, (low, high))
    blue = rng.uniform(0.55, 0.65), rng.uniform(0.25, 0.75), rng.uniform(0.5, 0.95)
    grey = rng.uniform(0.5, 0.65), rng.uniform(0.0, 0.12), rng.uniform(0.6, 0.98)
    zenith = linear_from_hsv(np.array([blue if weather in ('clear', 'dusk') else grey]))[0]
    pale = rng.uniform(0.45, 0.62), rng.uniform(0.0, 0.22), rng.uniform(0.8, 1.0)
    sunset = rng.uniform(0.02, 0.12), rng.uniform(0.15, 0.55), rng.uniform(0.6, 0.95)
    horizon = linear_from_hsv(np.array([sunset if weather == 'dusk' else pale]))[0]
    sun = {'clear': (0.8, 2.6), 'hazy': (0.2, 0.7), 'overcast': (0.0, 0.12), 'dusk': (0.15, 0.8)}
    warmth = 0.35 if weather == 'dusk' else rng.uniform(0.0, 0.15)
    colour = np.array([1 + warmth, 1.0, 1 - warmth]) * rng.uniform(*sun[str(weather)])
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
    """Unit vector towards the sun (3,), between two elevations in degrees."""
    azimuth = rng.uniform(-np.pi, np.pi)
    up = np.deg2rad(rng.uniform(*elevations))
    return np.array([np.cos(up) * np.sin(azimuth), -np.sin(up), np.cos(up) * np.cos(azimuth)])


def redraw_appearance(scene: Scene, rng: np.random.Generator) -> Scene:
    """Give the same shapes new colours, textures and light; geometry is left alone."""
    return Scene(
        **{
            **vars(scene),
            'materials': draw_materials(rng, scene.roles, scene.layout),
            'lighting': draw_lighting(rng, scene.kind, scene.extent),
        }
    )
