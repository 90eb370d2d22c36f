# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Rescaling and rectifying, against OpenCV's point projection as an independent oracle."""

from dataclasses import replace

import cv2
from marigold_ros.errors import AlignmentError, CalibrationError
from marigold_ros.frame import Camera, Prediction, SparseDepth
from marigold_ros.geometry.camera.rectification import (
    at_focal_length,
    focal_share,
    is_rectified,
    rectified,
    rectified_valid,
    rectify_depth,
    rectify_image,
    rectify_sparse,
    reduced,
    rescale,
)
from marigold_ros.geometry.camera.resizing import resize_points
from marigold_ros.point_kinds import PointKind
import numpy as np
import pytest

K = np.array([[210.0, 0, 158.0], [0, 205.0, 121.0], [0, 0, 1]])
P = np.array([[190.0, 0, 160.0], [0, 190.0, 120.0], [0, 0, 1]])
DISTORTIONS = {
    'plumb_bob': (-0.28, 0.07, 0.001, -0.0005, 0.0),
    'rational_polynomial': (0.1, -0.05, 0.0005, -0.0005, 0.01, 0.3, -0.02, 0.01),
    'equidistant': (-0.02, 0.004, -0.001, 0.0002),
}


def camera(model='plumb_bob', distortion=None, **more):
    distortion = DISTORTIONS[model] if distortion is None else distortion
    return Camera(K, 320, 240, distortion, model, **more)


def project_raw(points, raw):
    """Oracle: OpenCV's forward projection into the distorted image."""
    points, zero = points.reshape(-1, 1, 3), np.zeros(3)
    module = cv2.fisheye if raw.distortion_model == 'equidistant' else cv2
    return module.projectPoints(points, zero, zero, raw.K, np.array(raw.distortion))[0][:, 0]


def test_rescaling_changes_focal_lengths_and_centre_only():
    half = rescale(camera(P=P), 160, 60)
    np.testing.assert_allclose(half.K, np.diag([0.5, 0.25, 1]) @ K)
    np.testing.assert_allclose(half.P, np.diag([0.5, 0.25, 1]) @ P)
    assert (half.width, half.height) == (160, 60)
    assert half.distortion == DISTORTIONS['plumb_bob']


def test_twice_the_focal_length_is_twice_the_distance_and_binning_changes_nothing():
    known = camera(distortion=())
    plain = Prediction(np.full((240, 320), 5.0, np.float32), np.full((240, 320), 0.5), 'metric')
    prediction = replace(plain, focal_share=focal_share(known))
    longer = replace(known, K=np.diag([4.0, 1.0, 1.0]) @ K)  # twice in the mean
    found = at_focal_length(prediction, longer)
    assert found.relative == pytest.approx(10.0)
    assert found.spread == pytest.approx(1.0)
    assert at_focal_length(found, longer).relative == pytest.approx(10.0)
    assert at_focal_length(prediction, rescale(known, 160, 120)).relative == pytest.approx(5.0)
    assert at_focal_length(plain, longer) is plain
    assert at_focal_length(prediction, None) is prediction


@pytest.mark.parametrize(
    ('size', 'small'),
    [((640, 480), (320, 240)), ((48, 640), (24, 320)), ((1, 700), (1, 320)), ((9, 7), (9, 7))],
)
def test_the_longest_side_of_a_reduced_image_is_limited_wherever_it_is(size, small):
    assert reduced(np.zeros((*size, 3), np.uint8)).shape[:2] == small
    assert reduced(np.zeros((*small, 3), np.uint8)).shape[:2] == small


@pytest.mark.parametrize(
    ('more', 'expected'),
    [
        ({'distortion': ()}, True),
        ({'distortion': (0.0,) * 5}, True),
        ({'distortion': (), 'R': np.eye(3), 'P': K}, True),
        ({}, False),
        ({'distortion': (), 'P': P}, False),
        ({'distortion': (), 'R': cv2.Rodrigues(np.array([0, 0.01, 0]))[0]}, False),
    ],
)
def test_distortion_rotation_or_new_K_need_rectifying(more, expected):
    assert is_rectified(camera(**more)) is expected


@pytest.mark.parametrize('model', DISTORTIONS)
def test_rectified_pixels_show_the_raw_image_along_their_ray(model):
    raw = camera(model, P=P)
    assert is_rectified(rectified(raw))
    np.testing.assert_array_equal(rectified(raw).K, P)
    v, u = np.mgrid[0:240, 0:320].astype(np.float32)
    # The image holds its own coordinates, so resampling returns where each pixel came from.
    source = rectify_image(np.dstack([u, v]), raw)
    valid = rectified_valid(raw)
    v, u = (index.ravel() for index in np.mgrid[10:230:20, 10:310:20])
    rays = np.stack([(u - P[0, 2]) / P[0, 0], (v - P[1, 2]) / P[1, 1], np.ones(len(u))], axis=1)
    expected = project_raw(rays, raw)
    inside = (expected > 1).all(axis=1) & (expected < (318, 238)).all(axis=1)
    assert inside.sum() > 50
    assert valid[v[inside], u[inside]].all()
    # OpenCV resamples at 1/32 pixel.
    np.testing.assert_allclose(source[v, u][inside], expected[inside], atol=0.05)


@pytest.mark.parametrize('new_K', [None, P])
@pytest.mark.parametrize('skew', [-20.0, -3.0, 20.0])
@pytest.mark.parametrize('model', DISTORTIONS)
def test_dots_and_points_of_a_skewed_raw_image_are_where_the_rectified_K_says(model, skew, new_K):
    x, y = (part.ravel() for part in np.mgrid[-0.5:0.6:0.25, -0.4:0.5:0.2])
    angle = np.hypot(x, y) + 1e-12
    stretch = 1 - 0.2 * angle**2
    if model == 'equidistant':
        bent = np.arctan(angle)
        stretch = bent * (1 - 0.2 * bent**2) / angle
    skewed = K + [[0, skew, 0], [0, 0, 0], [0, 0, 0]]
    coefficients = np.zeros(4 if model == 'equidistant' else 5)
    coefficients[0] = -0.2
    raw = Camera(skewed, 320, 240, coefficients, model, P=new_K)
    ones = np.ones_like(x)
    u, v, _ = np.rint(skewed @ [x * stretch, y * stretch, ones]).astype(int)
    expected = ((skewed if new_K is None else new_K) @ [x, y, ones])[:2]
    moved = rectify_sparse(SparseDepth(u, v, 5 * ones, np.arange(len(x))), raw)
    assert len(moved) == len(x)
    np.testing.assert_allclose([moved.u, moved.v], expected[:, moved.index], atol=1.0)
    for column, row, place in zip(u, v, expected.T, strict=True):
        image = np.zeros((240, 320), np.uint8)
        image[row, column] = 255
        seen = rectify_image(image, raw)
        rows, columns = np.nonzero(seen)
        found = np.average([columns, rows], axis=1, weights=seen[rows, columns])
        np.testing.assert_allclose(found, place, atol=1.0)


@pytest.mark.parametrize('turn', [0.0, 0.15])
@pytest.mark.parametrize('model', DISTORTIONS)
def test_registered_depth_moves_with_the_image(model, turn):
    R = cv2.Rodrigues(np.array([0.0, turn, 0.0]))[0]
    raw = camera(model, P=P, R=R)
    rng = np.random.default_rng(1)
    z = rng.uniform(2, 20, 60)
    points = np.stack([rng.uniform(-0.4, 0.4, 60) * z, rng.uniform(-0.3, 0.3, 60) * z, z], axis=1)
    pixels = np.floor(project_raw(points, raw) + 0.5).astype(int)
    moved = rectify_sparse(SparseDepth(pixels[:, 0], pixels[:, 1], z, np.arange(60)), raw)
    turned = points @ R.T
    ideal = (turned / turned[:, 2:]) @ P.T
    assert len(moved) > 45
    np.testing.assert_allclose(moved.u, ideal[moved.index, 0], atol=1.6)
    np.testing.assert_allclose(moved.v, ideal[moved.index, 1], atol=1.6)
    np.testing.assert_allclose(moved.z, turned[moved.index, 2], rtol=1e-3)


@pytest.mark.parametrize('distortion', [(), DISTORTIONS['plumb_bob']])
def test_depth_of_a_raw_image_becomes_depth_along_the_axis_of_the_rectified_one(distortion):
    R = cv2.Rodrigues(np.array([0.05, 0.15, 0.0]))[0]
    raw = camera(distortion=distortion, R=R, P=P)
    normal, pixels = np.array([0.2, -0.3, 1.0]), np.mgrid[0:240, 0:320][::-1].reshape(2, 1, -1)
    rays = cv2.undistortPoints(pixels.T.astype(float), K, np.array(distortion or [0.0] * 4))[:, 0]
    depth = 5.0 / (rays @ normal[:2] + normal[2])
    moved = rectify_depth(depth.reshape(240, 320), raw)
    ideal = 5.0 / (R @ normal @ np.linalg.inv(P) @ np.insert(pixels[:, 0], 2, 1.0, axis=0))
    seen = rectified_valid(raw) & (moved > 0)
    assert seen.mean() > 0.5
    # The nearest pixel is up to one away from the place.
    np.testing.assert_allclose(moved[seen], ideal.reshape(240, 320)[seen], rtol=0.006)


@pytest.mark.parametrize(
    ('model', 'distortion'),
    [
        ('plumb_bob', (-0.45, 0.25, 0, 0, -0.08)),
        ('rational_polynomial', (5.3, 3.3, -4e-5, 2e-5, 0.17, 5.64, 4.9, 0.97)),
        ('equidistant', (-0.02, 0.004, -0.001, 0.0002)),
    ],
)
def test_points_of_wide_images_move_to_where_their_pixel_is_shown(model, distortion):
    wide = np.array([[158.0, 0, 161.0], [0, 158.0, 118.0], [0, 0, 1]])
    raw = camera(model, distortion, P=wide)
    v, u = (index.ravel() for index in np.mgrid[0:240, 0:320])
    moved = rectify_sparse(SparseDepth(u, v, np.ones(len(u)), np.arange(len(u))), raw)
    assert moved.counts['outside'] > 1000
    assert len(moved) > 40000
    rays = np.stack([moved.u, moved.v, np.ones(len(moved))], axis=1) @ np.linalg.inv(wide).T
    off = project_raw(rays, raw) - np.stack([u, v], axis=1)[moved.index]
    assert np.abs(off).max() < 1.5


@pytest.mark.parametrize('model', DISTORTIONS)
def test_points_that_move_beyond_the_border_are_outside(model):
    v, u = (index.ravel() for index in np.mgrid[0:240, 0:320])
    moved = rectify_sparse(SparseDepth(u, v, np.ones(len(u))), camera(model))
    moved.require_inside((240, 320))
    assert min(moved.u.min(), moved.v.min()) == 0
    assert (moved.u.max(), moved.v.max()) == (319, 239)


@pytest.mark.parametrize('first', [2.0, 8.0])
def test_of_points_that_move_into_one_pixel_the_nearest_stays(first):
    raw = camera('plumb_bob', (0.5, 0.5, 0, 0, 0), P=np.diag([0.5, 0.5, 1.0]) @ K)
    v, u = (index.ravel() for index in np.mgrid[0:240, 0:320])
    z = np.where(u % 2, first, 10.0 - first).astype(np.float32)  # a comb before a wall
    moved = rectify_sparse(SparseDepth(u, v, z, np.arange(len(u))), raw)
    pixel = moved.v * 320 + moved.u
    assert len(np.unique(pixel)) == len(pixel) == moved.counts['kept']
    assert moved.counts['farther_in_pixel'] > len(pixel)
    assert (moved.z == 2.0).mean() > 0.9
    np.testing.assert_array_equal(moved.z, z[moved.index])


def test_moved_points_keep_what_is_known_of_them():
    u, z, sigma = np.array([150, 170]), np.array([2.0, 4.0]), np.array([0.1, 0.2])
    points = SparseDepth(u, u - 50, z, None, {}, sigma, PointKind.RADAR, np.array([0, 1]))
    for moved in (rectify_sparse(points, camera()), resize_points(points, (240, 320), (120, 160))):
        np.testing.assert_array_equal(moved.sigma, sigma)
        np.testing.assert_array_equal(moved.part, points.part)
        assert moved.kind is PointKind.RADAR


@pytest.mark.parametrize('z', [-1.0, 0.0, np.nan, np.inf])
@pytest.mark.parametrize('place', [0, 120])  # beside the rectified image, and in its middle
def test_points_without_depth_do_not_move_into_the_image(place, z):
    points = SparseDepth(np.array([place]), np.array([place]), np.float32([z]))
    assert len(rectify_sparse(points, camera(P=np.diag([2.0, 2.0, 1.0]) @ K))) == 0


def test_points_outside_of_the_raw_image_are_refused():
    with pytest.raises(AlignmentError, match='320x240'):
        rectify_sparse(SparseDepth(np.array([320]), np.array([0]), np.ones(1)), camera())


def test_pixels_without_a_source_are_zero_and_not_valid():
    wide = np.array([[60.0, 0, 160], [0, 60.0, 120], [0, 0, 1]])
    raw = camera(P=wide)
    image = rectify_image(np.full((240, 320, 3), 200, np.uint8), raw)
    valid = rectified_valid(raw)
    assert 0 < valid.sum() < valid.size
    assert not valid.flags.writeable  # all frames share it
    assert not image[~cv2.dilate(valid.astype(np.uint8), np.ones((3, 3))).astype(bool)].any()
    assert (image[cv2.erode(valid.astype(np.uint8), np.ones((3, 3))).astype(bool)] == 200).all()


@pytest.mark.parametrize(
    ('model', 'distortion', 'angle'),
    # A camera's rays farther than this from its axis meet its image once more.
    [
        ('plumb_bob', (-0.25, 0, 0, 0, 0), np.arctan(np.sqrt(1 / 0.75))),
        ('equidistant', (-0.3, 0, 0, 0), np.sqrt(1 / 0.9)),
    ],
)
def test_pixels_beyond_where_the_distortion_folds_back_show_nothing(model, distortion, angle):
    wide = np.array([[80.0, 0, 160], [0, 80.0, 120], [0, 0, 1]])
    raw = camera(model, distortion, P=wide)
    v, u = np.mgrid[0:240, 0:320]
    beyond = np.hypot(u - 160, v - 120) - 80 * np.tan(angle)
    valid = rectified_valid(raw)
    assert not valid[beyond > 2].any()
    image = rectify_image(np.full((240, 320), 200, np.uint8), raw)
    assert not image[beyond > 2].any()
    # Nearer ones show the raw image along their ray.
    rays = np.stack([(u - 160) / 80, (v - 120) / 80, np.ones(u.shape)], axis=-1)
    x, y = project_raw(rays, raw).T.reshape(2, 240, 320)
    inside = (x > 0) & (x < 319) & (y > 0) & (y < 239)
    assert valid[inside & (beyond < -2)].all()


def test_a_rectified_image_is_returned_as_it_is():
    image = np.zeros((240, 320, 3), np.uint8)
    assert rectify_image(image, camera(distortion=())) is image
    assert rectified_valid(camera(distortion=())).all()


@pytest.mark.parametrize(
    ('raw', 'rows', 'words'),
    [
        (camera('kannala', (0.1,) * 5), 240, "'kannala'.*equidistant, plumb_bob, rational_poly"),
        (camera('plumb_bob', (0.1,) * 3), 240, 'plumb_bob takes 4'),
        (camera('equidistant', (0.1,) * 5), 240, 'equidistant takes 4'),
        (camera('equidistant', (np.nan,) * 4), 240, '4 finite coefficients'),
        (camera(), 100, 'must agree'),
    ],
)
def test_what_cannot_be_rectified_is_refused(raw, rows, words):
    with pytest.raises(CalibrationError, match=words):
        rectify_image(np.zeros((rows, 320, 3), np.uint8), raw)


@pytest.mark.parametrize(
    ('model', 'zeros', 'plain'),
    [
        ('plumb_bob', 3, 'plumb_bob'),
        ('plumb_bob', 9, 'plumb_bob'),
        ('rational_polynomial', 0, 'plumb_bob'),
        ('equidistant', 4, 'equidistant'),
    ],
)
def test_further_coefficients_of_zero_change_nothing(model, zeros, plain):
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    more = camera(model, DISTORTIONS[plain] + zeros * (0.0,))
    expected = rectify_image(image, camera(plain, DISTORTIONS[plain]))
    np.testing.assert_array_equal(rectify_image(image, more), expected)
