# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Records refuse invalid values, with the reason."""

from __future__ import annotations

import dataclasses

from marigold_ros.errors import CalibrationError, InputError
from marigold_ros.frame import Alignment, Camera, Frame, Prediction, SparseDepth, SparseInput
from marigold_ros.point_kinds import PointKind
from marigold_ros.reasons import as_reason, Reason, SENTENCES
import numpy as np
import pytest

K = np.array([[500.0, 0, 32], [0, 500, 24], [0, 0, 1]])


def image(height=48, width=64):
    return np.zeros((height, width, 3), np.uint8)


def test_a_camera_takes_lists_and_keeps_float64():
    camera = Camera(K.tolist(), 64, 48, distortion=[1, 2])
    assert camera.K.dtype == np.float64
    assert camera.distortion == (1.0, 2.0)


NO_MATRICES = np.eye(4), np.full((3, 3), np.nan), np.zeros(9)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        *(({k: v}, f'{k} has shape.*check camera_info') for k in 'KRP' for v in NO_MATRICES),
        ({'K': None}, 'K has shape'),
        ({'K': np.zeros((3, 3))}, 'uncalibrated'),
        ({'R': 1.1 * np.eye(3)}, 'R misses orthonormality by 0.21'),
        ({'P': K * [[-1], [1], [1]]}, 'focal lengths of P are -500 and 500'),
        *(({k: K.T}, rf'of {k}.* is \[32\.0, 24\.0, 1\.0\].*transpose') for k in 'KP'),
        ({'width': 0}, '0x48'),
        ({'height': 0}, '64x0'),
        ({'width': -1}, '-1x48'),
    ],
)
def test_what_is_no_camera_is_refused(given, words):
    with pytest.raises(CalibrationError, match=words):
        Camera(**{'K': K, 'width': 64, 'height': 48, **given})


def test_a_camera_keeps_its_intrinsics_when_those_given_are_scaled_for_another():
    matrix = K.copy()
    camera = Camera(matrix, 64, 48)
    matrix[:2] *= 0.5
    np.testing.assert_array_equal(camera.K, K)


@pytest.mark.parametrize(
    'rgb',
    [
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.float32),
        np.zeros((48, 64, 3), np.int8),
        np.zeros((0, 64, 3), np.uint8),
        np.zeros((3, 48, 64), np.uint8),
        np.zeros((2, 48, 64, 3), np.uint8),
        'image.png',
        [[1, 2], [3, 4]],
        None,
    ],
)
def test_a_image_that_is_not_rgb_bytes_is_refused(rgb):
    with pytest.raises(InputError, match='an image is') as caught:
        Frame(rgb)
    assert caught.value.cause == 'shape'


@pytest.mark.parametrize(('height', 'width'), [(48, 32), (24, 64)])
def test_a_camera_of_another_size_than_the_image_is_refused(height, width):
    with pytest.raises(CalibrationError, match=f'64x48.*{width}x{height}'):
        Frame(image(height, width), camera=Camera(K, 64, 48))


@pytest.mark.parametrize('pose', [np.eye(3), np.eye(4)[:3], np.full((4, 4), np.nan)])
def test_a_pose_of_the_camera_is_finite_and_4_by_4(pose):
    with pytest.raises(CalibrationError, match=r'T_world_camera has shape.*check the odometry'):
        Frame(image(), T_world_camera=pose)
    assert Frame(image(), T_world_camera=np.eye(4).tolist()).T_world_camera.shape == (4, 4)


def test_an_unknown_deviation_of_a_point_is_none_beyond_the_noise():
    points = SparseDepth([1, 2, 3], [1, 2, 3], [4, 5, 6], sigma=[np.nan, 0.5, np.inf])
    np.testing.assert_array_equal(points.sigma, [0.0, 0.5, np.inf])


def test_a_frame_needs_only_its_image():
    frame = Frame(image())
    assert (frame.camera, frame.points_lidar, frame.T_cam_lidar, frame.lidar) == (None,) * 4
    assert frame.inputs == ()
    inputs = [SparseInput('ground'), SparseInput('scan', stamp_ns=7)]
    assert Frame(image(), inputs=inputs).scan_ns == 7
    assert Frame(image(), camera=Camera(K, 64, 48)).stamp_ns == 0


def test_a_scan_is_short_for_an_input_of_it():
    frame = Frame(image(), points_lidar=np.ones((2, 3)), T_cam_lidar=np.eye(4))
    assert frame.lidar is frame.inputs[0]
    assert (frame.lidar.source, frame.lidar.kind) == ('pointcloud', PointKind.LIDAR)
    assert frame.points_lidar is frame.lidar.points_lidar
    assert frame.T_cam_lidar is frame.lidar.T_cam_lidar
    assert dataclasses.replace(frame, stamp_ns=5).inputs == frame.inputs
    with pytest.raises(InputError):
        Frame(image(), points_lidar=np.ones((2, 3)), inputs=frame.inputs)


def test_a_reason_is_data_and_its_text_names_the_values():
    values = {'age_s': 2.5, 'allowed_s': 1.0}
    alignment = Alignment(
        refusal=as_reason('no points'), hold_refusal=Reason('fit_too_old', values)
    )
    assert (alignment.hold_refusal.code, alignment.hold_refusal.values) == ('fit_too_old', values)
    assert alignment.reason.startswith('no points; the last fit is 2.50 s old')
    assert (Alignment().reason, Alignment().map_reason, as_reason('')) == ('', '', None)


def test_who_is_sent_to_the_transform_is_sent_to_the_camera_too():
    # Points land beside their pixels by a wrong K just as by a wrong transform.
    sentences = [text for text in SENTENCES.values() if 'T_cam_lidar' in text]
    assert len(sentences) > 4
    assert all('camera_info' in text for text in sentences)


@pytest.mark.parametrize(
    ('columns', 'more', 'words'),
    [
        (([1, 2, 3], [1, 2, 3], [1.0, 2.0]), {}, 'one length'),
        (([1, 2], [1, 2, 3], [1.0, 2.0, 3.0]), {}, 'one length'),
        (([1, 2, 3], [1, 2], [1.0, 2.0, 3.0]), {}, 'one length'),
        (([[1]], [[2]], [[3.0]]), {}, 'one-dimensional'),
        (([1.5], [2], [3.0]), {}, 'u of sparse depth is float64'),
        *(
            (([1, 2], [2, 2], [3.0, 4.0]), {name: np.zeros(3)}, rf'{name} \(3,\); .*one length')
            for name in ('index', 'sigma', 'part')
        ),
    ],
)
def test_columns_of_sparse_depth_have_one_length_and_pixels_are_whole(columns, more, words):
    with pytest.raises(InputError, match=words):
        SparseDepth(*columns, **more)


@pytest.mark.parametrize(
    ('z', 'dtype'), [([3, 4], 'f4'), (np.float16([3.5, 4]), 'f4'), ([3.5, 4.0], 'f8')]
)
def test_depth_is_of_one_type_and_pixels_have_a_sign(z, dtype):
    sparse = SparseDepth(np.uint16([1, 2]), [2, 2], z)
    assert (sparse.z.dtype, sparse.u.dtype) == (np.dtype(dtype), np.int64)


def test_sparse_depth_and_predictions_hold_arrays_whatever_they_are_given():
    given = SparseDepth([1, 2], [2, 2], [3.5, 4.0], [7, 9], {'kept': 2}, sigma=[0.1, 0.2])
    kept = given.kept(np.array([1]), occluded=1)
    assert (kept.index.tolist(), kept.counts) == ([9], {'kept': 1, 'occluded': 1})
    assert (kept.z.tolist(), kept.sigma.tolist()) == ([4.0], [0.2])
    assert (given.chosen(np.array([1])).index, given.chosen(np.array([1])).counts) == (None, {})
    parts = [
        dataclasses.replace(given, kind=kind) for kind in (PointKind.DEPTH_CAMERA, PointKind.LIDAR)
    ]
    assert SparseDepth.joined(parts).kind is PointKind.LIDAR
    assert len(SparseDepth([], [], []).z) == 0
    assert Prediction([[0.5, 0.25]]).relative.shape == (1, 2)


def test_an_unknown_space_and_other_dimensions_of_a_prediction_are_refused():
    with pytest.raises(InputError, match="'inverse'; choose one of depth, log, disparity, metric"):
        Prediction(np.zeros((4, 5), np.float32), space='inverse')
    with pytest.raises(InputError, match=r'\(1, 4, 5\)'):
        Prediction(np.zeros((1, 4, 5), np.float32))


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Frame(image()).stamp_ns = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        Camera(K, 64, 48).width = 3


@pytest.mark.parametrize(
    'made',
    [
        lambda: Camera(K, 64, 48),
        lambda: Frame(image()),
        lambda: SparseDepth([1, 2], [2, 2], [3.0, 4.0]),
        lambda: Prediction(np.zeros((4, 5), np.float32)),
        lambda: Alignment(metric=np.ones((4, 5), np.float32)),
    ],
)
def test_records_are_found_in_lists_and_sets(made):
    one, other = made(), made()
    assert [one, other].index(other) == 1
    assert other not in {one}
