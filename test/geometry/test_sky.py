# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The sky: found over a street, never in a room, and only where all signs agree."""

from dataclasses import replace
import json

import cv2
from marigold_ros.config import AlignmentConfig
from marigold_ros.frame import Camera, Prediction, SparseDepth
from marigold_ros.geometry import project_lidar
from marigold_ros.geometry.sky import sky_mask
import numpy as np
import pytest

HEIGHT, WIDTH = 240, 320
ROOMS = ('nyu_a', 'nyu_b', 'kinect_a', 'kinect_b', 'room')


def street():
    """Smooth bright sky over rough dark houses and a road: image, prediction, depth, sky."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(20, 120, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    sky = np.zeros((HEIGHT, WIDTH), dtype=bool)
    sky[:80] = sky[80:110, 100:220] = True
    rgb[sky] = (170, 190, 230)
    nearness = np.broadcast_to(np.linspace(0.1, 1, HEIGHT)[:, None], sky.shape).copy()
    nearness[:110] = 0.3
    nearness[sky] = 0
    metric = np.where(sky, 60, 5 / (nearness + 0.05)).astype(np.float32)
    return rgb, Prediction(1 - nearness.astype(np.float32)), metric, sky


def enlarged(*images):
    """Repeat each pixel four times in both directions."""
    return [image.repeat(4, axis=0).repeat(4, axis=1) for image in images]


def test_the_sky_is_found_up_to_its_edge():
    rgb, prediction, metric, sky = street()
    mask = sky_mask(rgb, prediction, metric)
    assert not (mask & ~sky).any()
    assert mask[sky].mean() > 0.95


def test_it_is_found_in_disparity():
    rgb, prediction, metric, _ = street()
    inverse = Prediction(1 - prediction.relative, None, 'disparity')
    np.testing.assert_array_equal(
        sky_mask(rgb, inverse, metric), sky_mask(rgb, prediction, metric)
    )


def test_its_edge_is_that_of_the_whole_image():
    rgb, prediction, metric, _ = street()
    size = (4 * WIDTH, 4 * HEIGHT)
    rgb, relative, metric = (cv2.resize(a, size) for a in (rgb, prediction.relative, metric))
    roofs = np.array([[0, 300], [200, 130], [420, 340], [640, 90], [900, 350], [1280, 200]])
    houses = np.zeros(metric.shape, np.uint8)
    cv2.fillPoly(houses, [np.vstack([roofs, [[1280, 960], [0, 960]]])], 1)
    rgb[houses == 0] = (170, 190, 230)
    rgb[:440][houses[:440] > 0] = 40
    # Networks know the edge to some pixels only.
    relative[:440] = 1 - cv2.blur(houses.astype(np.float32), (25, 25))[:440] * 0.3
    mask = sky_mask(rgb, Prediction(relative), metric)
    known = houses == 0
    known[cv2.blur(houses.astype(np.float32), (25, 25)) > 0.15] = False
    assert not (mask & (houses > 0)).any()
    assert mask[known].mean() > 0.99


@pytest.mark.parametrize('width', [2, 6])
def test_a_thin_white_pole_in_a_large_image_stays_too(width):
    rgb, prediction, metric, _ = street()
    rgb, relative, metric = enlarged(rgb, prediction.relative, metric)
    rgb[:, 640 : 640 + width] = 255
    mask = sky_mask(rgb, Prediction(relative), metric)
    assert not mask[:320, 640 : 640 + width].any()
    assert mask[:320, :632].mean() > 0.99


def test_noise_of_pixels_and_depth_unknown_at_some_hide_none_of_a_large_image():
    rgb, prediction, *others = street()
    rgb, relative, metric, sky = enlarged(rgb, prediction.relative, *others)
    noise = np.random.default_rng(1).normal(0, 25, rgb.shape)
    rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    metric[1::4, 1::4] = np.nan
    mask = sky_mask(rgb, Prediction(relative), metric)
    assert mask[sky].mean() > 0.9
    assert not mask[480:].any()


def test_where_no_depth_is_known_there_is_none():
    rgb, prediction, metric, sky = street()
    assert not sky_mask(rgb, prediction, np.where(sky, np.float32('nan'), metric)).any()


def test_a_white_cloud_belongs_to_it_and_a_dark_drone_does_not():
    rgb, prediction, metric, sky = street()
    rgb[20:40, 60:100] = 255
    rgb[50:54, 200:208] = 40
    mask = sky_mask(rgb, prediction, metric)
    assert mask[20:40, 60:100].all()
    assert not mask[50:54, 200:208].any()
    assert mask[sky].mean() > 0.95


def test_a_wire_in_it_stays_though_the_map_does_not_see_it():
    rgb, prediction, metric, _ = street()
    rgb[30:32, 40:250] = 20
    mask = sky_mask(rgb, prediction, metric)
    assert not mask[30:32, 40:250].any()
    assert mask[:26].all()
    assert mask[36:80].mean() > 0.9


def test_poles_that_divide_it_hide_no_part():
    # The other parts are most of what is around one.
    rgb, prediction, metric, sky = street()
    poles = np.zeros(sky.shape, dtype=bool)
    poles[:, [40, 80, 120, 160, 200, 240, 280]] = True
    rgb[cv2.dilate(poles.astype(np.uint8), np.ones((1, 4))) > 0] = 20
    mask = sky_mask(rgb, prediction, metric)
    assert not mask[poles].any()
    beside = cv2.dilate(poles.astype(np.uint8), np.ones((1, 11))) > 0
    assert mask[sky & ~beside].mean() > 0.95


def test_houses_that_are_nearly_as_far_end_it_where_they_are_darker():
    rgb, prediction, metric, sky = street()
    mask = sky_mask(*over_far_houses(rgb, prediction, metric))
    assert not (mask & ~sky).any()
    assert mask[sky].mean() > 0.95


def dark(rgb, prediction, metric):
    return rgb // 4, prediction, metric


def darker_than_the_ground(rgb, prediction, metric):
    return np.where(rgb > 120, rgb // 2, rgb + np.uint8(120)), prediction, metric


def rough(rgb, prediction, metric):
    noise = np.random.default_rng(1).integers(-60, 61, (60, 80, 1)).repeat(4, 0).repeat(4, 1)
    return (rgb.astype(int) + noise).clip(0, 255).astype(np.uint8), prediction, metric


def fitted_near(rgb, prediction, metric):
    return rgb, prediction, metric / 10


def below_a_roof(rgb, prediction, metric):
    rgb, relative = rgb.copy(), prediction.relative.copy()
    rgb[:12], relative[:12] = 20, 0.5
    return rgb, replace(prediction, relative=relative), metric


def seen_through_a_gap(rgb, prediction, metric):
    rgb, relative = rgb.copy(), prediction.relative.copy()
    walls = np.s_[:, np.r_[0:140, 180:320]]
    rgb[walls], relative[walls] = 20, 0.5
    return rgb, replace(prediction, relative=relative), metric


def over_far_houses(rgb, prediction, metric):
    relative = np.maximum(prediction.relative, np.float32(0.93))
    return rgb, replace(prediction, relative=relative), metric


def over_far_bright_houses(rgb, prediction, metric):
    rgb = np.where(rgb > 120, rgb, rgb + np.uint8(120))
    return over_far_houses(rgb, prediction, metric)


def in_haze(rgb, prediction, metric):
    """Depth and brightness grow upwards without an edge."""
    row = np.linspace(0, 1, HEIGHT)[:, None]
    image = np.broadcast_to((250 - 230 * row)[..., None], rgb.shape).astype(np.uint8)
    nearness = np.broadcast_to(row**2, metric.shape).astype(np.float32)
    return image, Prediction(1 - nearness), 5 / (nearness + np.float32(0.05))


def without_a_step(rgb, prediction, metric):
    relative = np.maximum(prediction.relative, np.float32(0.98))
    return rgb, replace(prediction, relative=relative), metric


def not_saturated(rgb, prediction, metric):
    return rgb, replace(prediction, relative=prediction.relative * np.float32(0.94)), metric


def metric_space(rgb, prediction, metric):
    return rgb, replace(prediction, space='metric'), metric


@pytest.mark.parametrize(
    'change',
    [
        dark,
        darker_than_the_ground,
        rough,
        fitted_near,
        below_a_roof,
        seen_through_a_gap,
        over_far_bright_houses,
        in_haze,
        without_a_step,
        not_saturated,
        metric_space,
    ],
)
def test_when_a_sign_is_missing_there_is_none(change):
    rgb, prediction, metric, _ = street()
    assert not sky_mask(*change(rgb, prediction, metric)).any()


def test_where_light_returns_there_is_no_sky():
    rgb, prediction, metric, sky = street()
    v, u = (axis.ravel() for axis in np.mgrid[60:110:5, 100:220:5])
    sparse = SparseDepth(u, v, np.full(len(u), 40, dtype=np.float32))
    mask = sky_mask(rgb, prediction, metric, sparse)
    assert not mask[56:, 96:219].any()
    assert mask[:50][sky[:50]].mean() > 0.9


def test_a_white_sign_that_returns_light_is_no_cloud():
    rgb, prediction, metric, sky = street()
    sign = np.s_[20:40, 60:100]
    rgb[sign] = 255
    v, u = (axis.ravel() for axis in np.mgrid[20:40:4, 60:100:4])
    sparse = SparseDepth(u, v, np.full(len(u), 40, dtype=np.float32))
    mask = sky_mask(rgb, prediction, metric, sparse)
    assert not mask[sign].any()
    assert mask[sky].mean() > 0.8


def test_dark_trees_that_return_light_end_it_nearer_than_walls_of_its_brightness():
    seen = []
    for brightness in (40, 230):
        rgb, prediction, metric, _ = street()
        rgb[82, 230:] = brightness
        u = np.arange(230, WIDTH, 4)
        sparse = SparseDepth(u, np.full_like(u, 82), np.full(len(u), 40, dtype=np.float32))
        seen.append(sky_mask(rgb, prediction, metric, sparse)[:80, 235:].sum())
    assert seen[0] > seen[1] > 0


def test_a_white_tower_that_is_higher_than_the_beams_is_none_and_the_sky_beside_it_is():
    rgb, prediction, metric, _ = street()
    tower, sky = np.zeros((2, *metric.shape), dtype=bool)
    tower[:180, 110:210] = sky[:80, :90] = True
    rgb[:110], rgb[tower | sky] = 40, 200
    relative = np.where(tower | sky, np.float32(1), np.minimum(prediction.relative, 0.7))
    v, u = (axis.ravel() for axis in np.mgrid[90:HEIGHT:3, 0:WIDTH:3])
    sparse = SparseDepth(u, v, np.full(len(u), 30, dtype=np.float32))
    mask = sky_mask(rgb, replace(prediction, relative=relative), metric, sparse)
    assert not mask[tower].any()
    assert mask[sky].mean() > 0.9


def test_a_return_at_every_pixel_leaves_none():
    rgb, prediction, metric, _ = street()
    v, u = (axis.ravel() for axis in np.mgrid[0:HEIGHT:5, 0:WIDTH:5])
    sparse = SparseDepth(u, v, np.full(len(u), 40, dtype=np.float32))
    assert not sky_mask(rgb, prediction, metric, sparse).any()


@pytest.mark.parametrize('name', ROOMS)
@pytest.mark.parametrize('space', ['depth', 'log', 'disparity'])
def test_a_room_has_no_sky_however_much_of_it_is_at_the_far_end(shared_data, name, space):
    rgb = cv2.imread(str(shared_data / name / 'image.png'))[..., ::-1].copy()
    depth = cv2.imread(str(shared_data / name / 'depth_mm.png'), cv2.IMREAD_UNCHANGED) / 1000.0
    known = depth > 0
    depth = np.where(known, depth, np.percentile(depth[known], 99.9)).astype(np.float32)
    value = {'depth': depth, 'log': np.log(depth), 'disparity': -1 / depth}[space]
    for far in (70, 90, 98):
        low, high = np.percentile(value, [2, far])
        relative = np.clip((value - low) / (high - low), 0, 1)
        prediction = Prediction(1 - relative if space == 'disparity' else relative, None, space)
        # Fitted correctly, or so wrongly that depth is no cue.
        assert not sky_mask(rgb, prediction, depth).any()
        assert not sky_mask(rgb, prediction, np.full_like(depth, 50)).any()


@pytest.fixture(scope='module')
def tiny():
    from marigold_ros.models import load_model

    return load_model('tiny', device='cpu', dtype='float32')


@pytest.mark.parametrize(('name', 'least', 'most'), [('nuscenes', 0.1, 0.3), ('kitti', 0, 0)])
def test_real_streets_have_the_sky_that_is_there(shared_data, tiny, name, least, most):
    rgb = cv2.imread(str(shared_data / name / 'image.jpg'))[..., ::-1].copy()
    facts = json.loads((shared_data / name / 'camera.json').read_text())
    camera = Camera(np.array(facts['K']), rgb.shape[1], rgb.shape[0])
    points = np.load(shared_data / name / 'points_lidar.npy')
    sparse = project_lidar(points, np.array(facts['T_cam_lidar']), camera, AlignmentConfig())
    prediction = tiny.predict(rgb)
    mask = sky_mask(rgb, prediction, np.full(rgb.shape[:2], 50.0), sparse)
    assert least <= mask.mean() <= most
    assert not mask[sparse.v, sparse.u].any()
    without_lidar = sky_mask(rgb, prediction, np.full(rgb.shape[:2], 50.0))
    assert without_lidar[sparse.v, sparse.u].mean() < 0.001
