# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The second generator: marched surfaces against closed forms, and its samples."""

from __future__ import annotations

import ast
from pathlib import Path

from marigold_training.second_generator import generator, shapes
from marigold_training.second_generator.generator import make_second_sample, trace
from marigold_training.second_generator.scenes import (
    draw_layout,
    Ground,
    random_rotation,
    SceneLayout,
)
from marigold_training.second_generator.shapes import march, Thing
import numpy as np
import pytest

WIDTH, HEIGHT = 64, 48


def thing_of(solid: tuple, centre: tuple = (0, 0, 5), turn: np.ndarray | None = None) -> Thing:
    return Thing(*solid, np.eye(3) if turn is None else turn, np.array(centre, dtype=float), 0)


def distance_along(thing: Thing, origin: tuple, direction: tuple) -> float:
    ray = np.array([direction], dtype=float)
    ray /= np.linalg.norm(ray)
    return float(march(thing, np.array(origin, dtype=float), ray, np.array([100.0]))[0])


@pytest.mark.parametrize(
    ('solid', 'origin', 'direction', 'expected'),
    [
        (shapes.block(np.array([1.0, 2.0, 0.5])), (0.3, 0.3, 0), (0, 0, 1), 4.5),
        (shapes.block(np.array([1.0, 2.0, 0.5]), 0.1), (0.3, 0.3, 0), (0, 0, 1), 4.5),
        (shapes.ring(1.0, 0.25), (0, -3, 6), (0, 1, 0), 2.75),
        (shapes.ring(1.0, 0.25), (0, 0, 0), (0, 0, 1), 3.75),
        (shapes.ring(1.0, 0.25), (0, -3, 5), (0, 1, 0), np.inf),
        (shapes.rod(1.0, 0.5), (0, 0.7, 0), (0, 0, 1), 4.5),
        (shapes.rod(1.0, 0.5), (0, -9, 5), (0, 1, 0), 7.5),
        (shapes.cone(1.0, 1.0, 0.0), (0, 0, 0), (0, 0, 1), 4.5),
        (shapes.cone(1.0, 1.0, 0.0), (0, 9, 5), (0, -1, 0), 8.0),
        (shapes.crystal(shapes.OCTA, np.full(8, 3**-0.5), 1.0), (0, 0, 0), (0, 0, 1), 4.0),
        (shapes.bowl(1.0, 0.1), (0, -9, 5), (0, 1, 0), 9.9),
    ],
)
def test_marched_distances_follow_school_geometry(solid, origin, direction, expected):
    assert distance_along(thing_of(solid), origin, direction) == pytest.approx(expected, rel=1e-4)


def test_a_rotated_ball_is_hit_where_its_quadratic_says():
    rng = np.random.default_rng(4)
    centre = np.array([0.3, -0.2, 6.0])
    ball = thing_of(shapes.rod(0.0, 0.8), tuple(centre), random_rotation(rng))
    rays = rng.normal(0, 0.12, (500, 3)) + [0, 0, 1]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    along = rays @ centre
    root = 0.64 - (centre @ centre - along**2)
    expected = np.where(root > 0, along - np.sqrt(np.maximum(root, 0)), np.inf)
    clear = np.abs(root) > 1e-3
    marched = march(ball, np.zeros(3), rays, np.full(500, 50.0))
    np.testing.assert_allclose(marched[clear], expected[clear], rtol=1e-3)
    hit = np.isfinite(marched)
    points = marched[hit, None] * rays[hit]
    outward = (points - centre) / 0.8
    np.testing.assert_allclose(ball.normals(points), outward, atol=2e-2)


def test_traced_points_lie_on_the_first_surface():
    rng = np.random.default_rng(6)
    kinds = set()
    for _ in range(6):
        layout = draw_layout(rng)
        kinds.add(layout.kind)
        centre = layout.focus + np.array([0.0, -1.5, -1.0])
        rays = rng.normal(0, 0.4, (300, 3)) + [0, 0.3, 1]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        if min(thing.distance_bound(centre[None])[0] for thing in layout.things) < 0.1:
            continue
        t, owner = trace(layout, centre, rays)
        for index, thing in enumerate(layout.things):
            at = owner == index
            assert (
                np.abs(thing.distance_bound(centre + t[at, None] * rays[at])) < 5e-4 * t[at] + 1e-4
            ).all()
            # Halfway no ray is inside of anything.
            seen = np.isfinite(t)
            assert (thing.distance_bound(centre + 0.5 * t[seen, None] * rays[seen]) > -1e-3).all()
    assert len(kinds) > 1


def test_flat_and_rolling_land_are_met_at_their_height():
    rng = np.random.default_rng(7)
    rays = rng.normal(0, 0.3, (400, 3)) + [0, 0.4, 1]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    for rise in (0.0, 1.0):
        ground = Ground(rise, 6.0, rng.random((64, 64)))
        layout = SceneLayout(ground, np.zeros((0, 3)), np.zeros(0))
        centre = np.array([0.0, -3.0, 0.0])
        t, owner = trace(layout, centre, rays)
        met = owner == -2
        points = centre + t[met, None] * rays[met]
        np.testing.assert_allclose(
            points[:, 1], -ground.height(points[:, 0], points[:, 2]), atol=5e-3
        )
        assert met.mean() > 0.5


def test_samples_are_repeatable_and_of_their_own_kind():
    skies = 0
    for seed in range(5):
        sample = make_second_sample(seed, WIDTH, HEIGHT)
        assert sample.kind == 'second'
        assert sample.rgb.shape == (HEIGHT, WIDTH, 3)
        assert sample.rgb.dtype == np.uint8
        assert sample.depth.dtype == np.float32
        assert (sample.depth > 0.1).all()
        assert sample.rgb.std() > 4
        skies += np.isinf(sample.depth).any()
    again = make_second_sample(4, WIDTH, HEIGHT)
    assert again.rgb.tobytes() == sample.rgb.tobytes()
    assert again.depth.tobytes() == sample.depth.tobytes()
    assert not np.array_equal(make_second_sample(9, WIDTH, HEIGHT).rgb, again.rgb)
    assert skies > 0


def test_no_scene_code_is_shared_with_the_first_generator():
    allowed = {'marigold_ros.errors', 'marigold_ros.synthetic.raycast.description'}
    for path in Path(generator.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('marigold_ros'):
                if node.module == 'marigold_ros.synthetic':
                    assert all(alias.name.startswith('second') for alias in node.names)
                    continue
                own = node.module.startswith('second_generator.generator')
                assert own or node.module in allowed, f'{path.name}: {node.module}'
