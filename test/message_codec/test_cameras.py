# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""CameraInfo to Camera: region, binning, ROS 1 names, and the calibrations that are refused."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import CalibrationError
from marigold_ros.frame import Camera
from marigold_ros.message_codec import camera_info_fields, to_camera
import numpy as np
import pytest

K = [500.0, 0.5, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
P = [490.0, 0.0, 321.0, -40.0, 0.0, 495.0, 241.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def region(x=0, y=0, width=0, height=0, do_rectify=False):
    return SimpleNamespace(
        x_offset=x, y_offset=y, width=width, height=height, do_rectify=do_rectify
    )


def info(**changes):
    values = {
        'width': 640,
        'height': 480,
        'distortion_model': 'plumb_bob',
        'd': [0.1, -0.2, 0.0, 0.0, 0.05],
        'k': K,
        'r': np.eye(3).reshape(-1),
        'p': P,
        'binning_x': 0,
        'binning_y': 0,
        'roi': region(),
    }
    return SimpleNamespace(**{**values, **changes})


def test_a_plain_camera_info_is_taken_as_it_is():
    camera = to_camera(info(distortion_model='equidistant', d=[0.1, -0.2, 0.0, 0.05]))
    np.testing.assert_array_equal(camera.K, np.reshape(K, (3, 3)))
    np.testing.assert_array_equal(camera.P, np.reshape(P, (3, 4))[:, :3])
    assert (camera.width, camera.height) == (640, 480)
    assert camera.distortion == (0.1, -0.2, 0.0, 0.05)
    assert camera.distortion_model == 'equidistant'


def test_ros1_names_give_the_same_camera():
    old = info(D=info().d, K=K, R=info().r, P=P)
    for name in 'dkrp':
        delattr(old, name)
    np.testing.assert_array_equal(to_camera(old).K, to_camera(info()).K)
    np.testing.assert_array_equal(to_camera(old).P, to_camera(info()).P)


@given(
    x=st.integers(0, 100),
    y=st.integers(0, 100),
    binning_x=st.integers(1, 4),
    binning_y=st.integers(1, 4),
    do_rectify=st.booleans(),
)
def test_a_point_falls_on_the_same_spot_of_the_sensor(x, y, binning_x, binning_y, do_rectify):
    full = to_camera(info())
    roi = region(x, y, 400, 300, do_rectify)
    part = to_camera(info(roi=roi, binning_x=binning_x, binning_y=binning_y))
    assert (part.width, part.height) == (400 // binning_x, 300 // binning_y)
    point = np.array([0.3, -0.2, 2.0])
    for name in ('K', 'P'):
        u, v, _ = getattr(full, name) @ point / point[2]
        u_part, v_part, _ = getattr(part, name) @ point / point[2]
        assert u_part * binning_x + x == pytest.approx(u)
        assert v_part * binning_y + y == pytest.approx(v)


def test_a_rectified_image_is_described_by_p_without_distortion():
    camera = to_camera(info(), rectified=True)
    np.testing.assert_array_equal(camera.K, np.reshape(P, (3, 4))[:, :3])
    assert camera.distortion == ()
    assert camera.R is None


def test_a_rectified_image_needs_no_k():
    camera = to_camera(info(k=[0.0] * 9), rectified=True)
    np.testing.assert_array_equal(camera.K, np.reshape(P, (3, 4))[:, :3])


def test_matrices_of_zeros_are_unset():
    camera = to_camera(info(p=[0.0] * 12, r=[0.0] * 9, d=[], distortion_model=''))
    assert camera.P is None
    assert camera.R is None
    assert camera.distortion_model == 'plumb_bob'


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'k': [0.0] * 9}, 'uncalibrated'),
        ({'k': [np.nan] * 9}, 'finite numbers'),
        ({'k': [1.0] * 4}, '9 finite numbers'),
        ({'d': [np.inf]}, 'coefficients must be finite'),
        ({'width': 0}, 'both sides must be positive'),
        ({'height': 0}, 'both sides must be positive'),
        ({'roi': region(300, 0, 400, 100)}, 'must lie inside'),
        ({'roi': region(3, 3, 0, 0)}, 'must lie inside'),
        ({'k': [*K[:8], 0.0]}, 'last row of K'),
        ({'p': [*P[:10], 0.0, 0.0]}, 'last row of P'),
        ({'r': [1.0] + 8 * [0.0]}, 'a rotation'),
        ({'r': [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}, 'a rotation'),
    ],
)
def test_useless_calibrations_are_refused_with_their_reason(changes, words):
    with pytest.raises(CalibrationError, match=words):
        to_camera(info(**changes))


def test_written_camera_info_is_read_back():
    camera = Camera(np.reshape(K, (3, 3)), 640, 480, distortion=(0.1, 0.2, 0.0, 0.0, 0.0))
    fields = camera_info_fields(camera)
    read = to_camera(info(**fields))
    np.testing.assert_array_equal(read.K, camera.K)
    np.testing.assert_array_equal(read.P, camera.K)
    np.testing.assert_array_equal(read.R, np.eye(3))
    assert read.distortion == camera.distortion
    assert [len(fields[name]) for name in 'krp'] == [9, 9, 12]


@pytest.mark.parametrize('distortion', [(), (0.1, 0.2, 0.0, 0.0)])
def test_plumb_bob_is_written_with_five_coefficients(distortion):
    d = camera_info_fields(Camera(np.reshape(K, (3, 3)), 640, 480, distortion=distortion))['d']
    assert d == [*distortion, *[0.0] * (5 - len(distortion))]
