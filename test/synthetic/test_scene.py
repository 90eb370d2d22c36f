# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Synthetic scenes: closed forms, identities between camera and LiDAR rays, and determinism."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from marigold_ros.errors import ConfigurationError
from marigold_ros.synthetic.appearance.materials import draw_materials
from marigold_ros.synthetic.appearance.shading import shade, share_of_lamp, with_fog
from marigold_ros.synthetic.raycast.description import (
    BALL,
    BOX,
    CABIN,
    CYLINDER,
    PLANE,
    ROLLER,
    ROOF,
    Scene,
    SHELL,
    SolidList,
    ViewCamera,
)
from marigold_ros.synthetic.raycast.primitives import nearest_hit
from marigold_ros.synthetic.raycast.surfaces import intersect, is_free, render_geometry
from marigold_ros.synthetic.scenes.scene import (
    draw_camera,
    draw_pose,
    draw_scene,
    look_from,
    make_sample,
    NoFreePlaceError,
)
import numpy as np
import pytest

WIDTH, HEIGHT = 96, 72
K = np.array([[80.0, 0, 47.5], [0, 80.0, 35.5], [0, 0, 1]])


def scene_of(*solids: tuple) -> Scene:
    """Scene of planted solids, each (kind, centre, half, yaw); appearance is of no matter."""
    planted = SolidList()
    for kind, centre, half, yaw in solids:
        material = planted.material('plastic')
        for _ in range(5 if kind == SHELL else 0):
            planted.material('plastic')
        planted.add(kind, centre, half, material, yaw)
    drawn = draw_scene(np.random.default_rng(0), 'street')
    roles, layout = tuple(planted.roles), np.array(planted.layout)
    materials = draw_materials(np.random.default_rng(0), roles, layout)
    solids = planted.solids()
    return replace(drawn, roles=roles, layout=layout, materials=materials, solids=solids)


def camera_at(centre: tuple, yaw: float = 0.0, pitch: float = 0.0) -> ViewCamera:
    return ViewCamera(K, look_from(np.array(centre), yaw, pitch), WIDTH, HEIGHT)


def pixel_rays() -> tuple[np.ndarray, np.ndarray]:
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]


def test_ground_depth_is_camera_height_over_slope_of_the_ray():
    geometry = render_geometry(scene_of((PLANE, (0, 0, 0), (1, 1, 1), 0)), camera_at((3, -1.5, 7)))
    _, y = pixel_rays()
    expected = np.where(y > 0, 1.5 / np.where(y > 0, y, 1), np.inf)
    expected[expected > 120] = np.inf
    np.testing.assert_allclose(geometry.depth, expected, rtol=1e-5)
    assert np.array_equal(geometry.material < 0, np.isinf(expected))


def test_ball_depth_follows_the_quadratic():
    centre, radius = np.array([0.4, -0.2, 4.0]), 0.8
    depth = render_geometry(
        scene_of((BALL, tuple(centre), (radius,) * 3, 0.3)), camera_at((0, 0, 0))
    ).depth
    x, y = pixel_rays()
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - radius**2
    root = b**2 - a * c
    expected = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    clear = np.abs(root) > 1e-4  # the rim itself may fall to either side in float32
    np.testing.assert_allclose(depth[clear], expected[clear], rtol=1e-4)


def test_turned_box_equals_straight_box_seen_by_turned_camera():
    turn = 0.6
    centre = np.array([0.0, 0.0, 5.0])
    turned = scene_of((BOX, tuple(centre), (1.0, 0.5, 0.7), turn))
    straight = scene_of((BOX, tuple(centre), (1.0, 0.5, 0.7), 0.0))
    rotation = look_from(np.zeros(3), turn)[:3, :3]
    other = ViewCamera(K, look_from(centre + rotation.T @ -centre, -turn), WIDTH, HEIGHT)
    first = render_geometry(turned, camera_at((0, 0, 0))).depth
    second = render_geometry(straight, other).depth
    differing = ~np.isclose(first, second, rtol=1e-4)
    assert differing.mean() < 0.002  # rim pixels
    assert np.isfinite(first).mean() > 0.05


def test_coordinates_on_a_box_are_metres_along_its_faces():
    camera = camera_at((0, -2.0, 0), pitch=-0.35)
    seen = render_geometry(scene_of((BOX, (0, 0, 5), (1.0, 0.5, 0.7), 0.6)), camera)
    points = camera.centre + np.moveaxis(camera.directions(), 0, -1) * seen.depth[..., None]
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        same = np.abs(seen.normal[one] - seen.normal[other]).max(axis=-1) < 1e-6
        same &= np.isfinite(seen.depth[one]) & np.isfinite(seen.depth[other])
        assert len(np.unique(seen.normal[one][same].round(3), axis=0)) == 3
        apart = (np.linalg.norm(x[one][same] - x[other][same], axis=1) for x in (seen.uv, points))
        np.testing.assert_allclose(*apart, atol=1e-4)


def test_solids_that_are_left_out_hide_nothing():
    solids = scene_of((BOX, (0, 0, 3), (1, 1, 1), 0), (BOX, (0, 0, 7), (1, 1, 1), 0)).solids
    ahead = np.array([[0.0], [0.0], [1.0]], np.float32)
    for left_out, (distance, row) in (((False, False), (2, 0)), ((True, False), (6, 1))):
        t, found = nearest_hit(solids, np.zeros(3), ahead, np.array(left_out))
        assert (t[0], found[0]) == (pytest.approx(distance), row)


def test_what_hangs_over_the_ground_darkens_what_is_below_it():
    ground, plate = (PLANE, (0, 0, 0), (1, 1, 1), 0), (BOX, (0, -1.0, 6), (1.0, 0.05, 1.0), 0)
    scene, camera = scene_of(ground, plate), camera_at((0, -3.0, 0), pitch=-0.5)
    seen = render_geometry(scene, camera)
    points = camera.centre + np.moveaxis(camera.directions(), 0, -1) * seen.depth[..., None]
    sun = np.array([0.0, -1000.0, 6.0])
    lit = share_of_lamp(scene, sun, points.astype(np.float32), seen.normal[..., 1] < -0.5)
    beside = np.maximum(np.abs(points[..., 0]), np.abs(points[..., 2] - 6.0))
    on_ground = seen.material == 0
    assert (
        lit[on_ground & (beside < 0.7)].max() < 0.05 < 0.95 < lit[on_ground & (beside > 1.5)].min()
    )


def test_the_sky_goes_from_its_colour_at_the_horizon_to_that_at_the_zenith():
    scene = scene_of((BALL, (0, 0, -50), (1, 1, 1), 0))
    red, blue = np.array([1.0, 0.1, 0.1]), np.array([0.1, 0.1, 1.0])
    plain = replace(scene.lighting, horizon=red, zenith=blue, clouds=0.0, fog=0.0)
    scene = replace(scene, lighting=replace(plain, colour=np.zeros((1, 3))))
    seen = render_geometry(scene, camera_at((0, 0, 0), pitch=0.5))
    rgb = shade(scene, seen, np.random.default_rng(0)).astype(int)
    rows = (rgb[..., 0] - rgb[..., 2]).mean(axis=1)
    assert rows[-1] > rows[HEIGHT // 2] > rows[0]


@pytest.mark.parametrize('fog', [0.0, 0.01])
def test_fog_hides_with_the_exponential_of_distance(fog):
    street = draw_scene(np.random.default_rng(0), 'street')
    lighting = replace(street.lighting, fog=fog, horizon=np.full(3, 0.8))
    depth = np.array([[0.0, 100.0]], np.float32)
    found = with_fog(np.full((1, 2, 3), 0.2, np.float32), depth, lighting)
    clear = np.exp(-fog * depth)[..., None] * np.ones(3)
    np.testing.assert_allclose(found, 0.2 * clear + 0.8 * (1 - clear), rtol=1e-5)


@pytest.mark.parametrize(('height', 'free'), [(0.2, True), (0.1, False), (-0.1, False)])
def test_free_space_ends_a_margin_above_the_ground(height, free):
    ground = scene_of((PLANE, (0, 0, 0), (1, 1, 1), 0))
    assert is_free(ground, np.array([3.0, -height, 2.0]), 0.15)[0] == free


def test_cylinder_is_round_from_the_side_and_flat_from_above():
    pole = scene_of((CYLINDER, (0, -1, 5), (0.5, 1.0, 0.5), 0))
    side = intersect(pole, np.array([0.25, -1.0, 0.0]), np.array([[0, 0, 1.0]]))
    assert side.t[0] == pytest.approx(5 - np.sqrt(0.25 - 0.0625), rel=1e-5)
    above = intersect(pole, np.array([0.2, -5.0, 5.1]), np.array([[0, 2.0, 0]]))
    assert above.t[0] == pytest.approx(1.5, rel=1e-5)  # in lengths of the direction
    np.testing.assert_allclose(above.normal[0], [0, -1, 0], atol=1e-6)


def test_roller_lies_along_x():
    log = scene_of((ROLLER, (0, -1, 5), (2.0, 0.5, 0.5), 0))
    rays = np.array([[0.0, 0.0, 1.0]] * 3)
    t = [
        intersect(log, np.array([x, y, 0.0]), rays[:1]).t[0]
        for x, y in ((1.9, -1.0), (2.1, -1.0), (0.0, -0.7))
    ]
    np.testing.assert_allclose(t, [4.5, np.inf, 5 - 0.4], rtol=1e-5)
    end = intersect(log, np.array([5.0, -1.2, 5.0]), np.array([[-1.0, 0, 0]]))
    assert end.t[0] == pytest.approx(3.0, rel=1e-5)
    np.testing.assert_allclose(end.normal[0], [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(('kind', 'top'), [(ROOF, 0.0), (CABIN, 0.55)])
def test_sides_of_roofs_and_cabins_lean_in_towards_the_top(kind: int, top: float):
    prism = scene_of((kind, (0, -1, 0), (2.0, 1.0, 3.0), 0))
    heights = np.array([0.1, 0.5, 1.3, 1.9])  # above the ground, of two metres
    for height in heights:
        reach = 2.0 * (1 - (1 - top) * height / 2)
        hits = intersect(prism, np.array([-9.0, -height, 0.5]), np.array([[1.0, 0, 0]]))
        assert hits.t[0] == pytest.approx(9 - reach, rel=1e-5)
        normal = np.array([-2.0, -2.0 * (1 - top), 0])  # across a slope of 2 up per that much in
        np.testing.assert_allclose(hits.normal[0], normal / np.linalg.norm(normal), atol=1e-5)
    end = intersect(prism, np.array([0.1, -0.5, -8.0]), np.array([[0, 0, 1.0]]))
    assert end.t[0] == pytest.approx(5.0, rel=1e-5)


def test_room_shell_is_seen_from_inside_one_material_per_face():
    room = scene_of((SHELL, (0, -1.5, 0), (2, 1.5, 3), 0))
    axes = np.concatenate([np.eye(3)[[0, 0, 1, 1, 2, 2]] * np.array([[-1], [1]] * 3)])
    hits = intersect(room, np.array([0.5, -1.0, 1.0]), axes)
    np.testing.assert_allclose(hits.t, [2.5, 1.5, 2.0, 1.0, 4.0, 2.0], rtol=1e-5)
    assert hits.material.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(hits.normal, -axes, atol=1e-6)


def test_poses_turn_and_tilt_as_documented():
    forward = look_from(np.zeros(3), yaw=0.3)[:3, 2]
    assert forward[0] > 0
    assert look_from(np.zeros(3), pitch=-0.3)[1, 2] > 0  # looks down: y grows downwards
    rotation = look_from(np.ones(3), 0.4, -0.2, 0.1)[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize('kind', ['room', 'street'])
@pytest.mark.parametrize('seed', [1, 2, 3])
def test_rays_to_unprojected_pixels_end_at_the_same_surface(kind: str, seed: int):
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, kind)
    camera = draw_camera(rng, scene, WIDTH, HEIGHT)
    geometry = render_geometry(scene, camera)
    v, u = np.nonzero(np.isfinite(geometry.depth))
    pick = rng.permutation(len(u))[:800]
    u, v = u[pick], v[pick]
    rays = np.linalg.inv(camera.K) @ np.stack([u, v, np.ones(len(u))])
    points_cam = rays * geometry.depth[v, u]
    distance = np.linalg.norm(points_cam, axis=0)
    directions = (camera.T_world_cam[:3, :3] @ points_cam / distance).T
    hits = intersect(scene, camera.centre, directions)
    same = np.isclose(hits.t, distance, rtol=1e-3, atol=1e-3)
    assert same.mean() > 0.99  # silhouettes may fall to either side in float32
    facing = np.isclose(hits.normal, geometry.normal[v, u], atol=1e-2).all(axis=1)
    assert (same & facing & (hits.material == geometry.material[v, u])).mean() > 0.98
    assert np.array_equal(hits.material[same] >= 0, np.ones(same.sum(), dtype=bool))


@pytest.mark.parametrize('kind', ['room', 'street'])
def test_bounding_rectangles_lose_no_pixel(kind: str):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, kind)
        camera = draw_camera(rng, scene, WIDTH, HEIGHT)
        every = camera.directions().reshape(3, -1).T
        t = intersect(scene, camera.centre, every).t.reshape(HEIGHT, WIDTH)
        t[t > scene.max_depth] = np.inf
        depth = render_geometry(scene, camera).depth
        assert np.isclose(depth, t, rtol=1e-4).mean() > 0.9995


@settings(max_examples=min(25, settings().max_examples))
@given(st.integers(0, 2**32 - 1))
def test_cameras_stand_in_free_space_inside_the_extent(seed: int):
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    camera = draw_camera(rng, scene, WIDTH, HEIGHT)
    assert is_free(scene, camera.centre)[0]
    field = 2 * np.rad2deg(np.arctan(WIDTH / 2 / camera.K[0, 0]))
    assert 45 - 1e-6 <= field <= 100 + 1e-6
    hits = intersect(scene, camera.centre, np.random.default_rng(0).normal(size=(64, 3)))
    assert (hits.t > 0).all()


def test_both_kinds_are_drawn_and_a_thing_on_a_table_is_looked_at():
    scenes = [draw_scene(np.random.default_rng(seed)) for seed in range(16)]
    assert {scene.kind for scene in scenes} == {'room', 'street'}
    near = [scene for scene in scenes if scene.focus is not None]
    assert near
    for scene in near:
        T = np.linalg.inv(draw_pose(np.random.default_rng(0), scene))
        x, y, z = T[:3, :3] @ scene.focus + T[:3, 3]
        assert 0.4 < z < 2.0
        assert np.hypot(x, y) < 0.4 * z


def test_streets_leave_their_lane_free():
    for seed in range(10):
        scene = draw_scene(np.random.default_rng(seed), 'street')
        x, first, last = scene.lane
        z = np.linspace(first, last, 60)
        path = np.stack([np.full(60, x), np.full(60, -1.6), z], axis=1)
        assert is_free(scene, path, margin=0.5).all()


@pytest.mark.parametrize('kind', ['room', 'street'])
def test_same_seed_gives_same_bytes_and_another_seed_does_not(kind: str):
    first = make_sample(11, WIDTH, HEIGHT, kind)
    second = make_sample(11, WIDTH, HEIGHT, kind)
    assert first.rgb.tobytes() == second.rgb.tobytes()
    assert first.depth.tobytes() == second.depth.tobytes()
    assert not np.array_equal(first.rgb, make_sample(12, WIDTH, HEIGHT, kind).rgb)


def test_samples_are_finite_or_sky_with_real_contrast():
    kinds = set()
    for seed in range(16):
        sample = make_sample(seed, WIDTH, HEIGHT)
        kinds.add(sample.kind)
        assert sample.rgb.shape == (HEIGHT, WIDTH, 3)
        assert sample.rgb.dtype == np.uint8
        assert sample.depth.dtype == np.float32
        assert not np.isnan(sample.depth).any()
        assert (sample.depth > 0.05).all()
        assert sample.rgb.std() > 4
        if sample.kind == 'room':
            assert np.isfinite(sample.depth).all()
    assert kinds == {'room', 'street'}


def test_sky_is_infinite_and_above_the_horizon():
    seen = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, 'street')
        camera = draw_camera(rng, scene, WIDTH, HEIGHT)
        geometry = render_geometry(scene, camera)
        sky = np.isinf(geometry.depth)
        assert np.array_equal(sky, geometry.material < 0)
        assert (geometry.depth[~sky] <= scene.max_depth).all()
        # Ground 120 m away is less than a degree below the horizon.
        assert (camera.directions()[1][sky] < 0.05).all()
        seen += int(sky.sum())
    assert seen > 0


def test_normals_are_unit_and_face_the_camera():
    rng = np.random.default_rng(5)
    scene = draw_scene(rng, 'room')
    geometry = render_geometry(scene, draw_camera(rng, scene, WIDTH, HEIGHT))
    np.testing.assert_allclose(np.linalg.norm(geometry.normal, axis=-1), 1, atol=1e-4)
    assert (geometry.facing > -0.02).all()


def test_unknown_kind_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="'forest'"):
        draw_scene(np.random.default_rng(0), 'forest')


def test_scene_without_a_free_place_is_refused_with_the_remedy():
    rng = np.random.default_rng(0)
    full = replace(
        draw_scene(rng, 'room'), extent=np.array([[-1, 1.0, -1], [1, 2.0, 1]]), focus=None
    )
    with pytest.raises(NoFreePlaceError, match='draw another scene'):
        draw_camera(rng, full, WIDTH, HEIGHT)


@pytest.mark.parametrize('pattern', ['panes', 'dapple'])
def test_light_through_windows_or_leaves_is_fixed_on_the_ground(pattern: str):
    ground = scene_of((PLANE, (0, 0, 0), (1, 1, 1), 0))
    sun = replace(
        ground.lighting,
        position=np.array([[300.0, -800.0, 100.0]]),
        colour=np.full((1, 3), 2.0),
        fog=0.0,
    )
    plain = replace(ground, lighting=replace(sun, panes=0.0, dapple=0.0))
    dappled = replace(ground, lighting=replace(sun, **{'panes': 0.0, 'dapple': 0.0, pattern: 1.5}))
    geometry = render_geometry(ground, camera_at((0, -1.5, 0), pitch=-0.7))
    first, again, bare = (
        shade(scene, geometry, np.random.default_rng(0)) for scene in (dappled, dappled, plain)
    )
    assert np.array_equal(first, again)
    lower = slice(HEIGHT // 3, None)
    assert first[lower].std() > 1.3 * bare[lower].std()
