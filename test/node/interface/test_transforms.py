# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Extrinsics: parameters first, tf2 at the scan's stamp, then the latest, never a guess."""

import sys
from types import SimpleNamespace

from marigold_ros.config import ExtrinsicsConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.node.health import Health
from marigold_ros.node.interface.transforms import Extrinsics
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

STAMP = 7_500_000_000


@pytest.fixture
def planted_tf2(install_tf2, moved):
    """
    A tf2_ros whose buffer knows what the test puts in.

    Either (target, source) -> (stamp or 0, x), or the five arguments of tf2_ros_py's
    ``lookup_transform_full`` -> x.
    """
    known = {}

    class Buffer:
        def lookup_transform_full(
            self, target_frame, target_time, source_frame, source_time, fixed_frame
        ):
            stamps = target_time.nanoseconds, source_time.nanoseconds
            return moved(known[target_frame, stamps[0], source_frame, stamps[1], fixed_frame])

        def lookup_transform(self, target, source, time):
            stamp, x = known[target, source]
            if time.nanoseconds and time.nanoseconds != stamp:
                raise LookupError(f'"{target}" or "{source}" at {time.nanoseconds}')
            return moved(x, stamp_ns=stamp)

        def clear(self):
            known.clear()

    install_tf2(Buffer)
    return known


def test_parameters_win_over_tf2(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 9.0)
    config = ExtrinsicsConfig(translation=(1.0, 2.0, 3.0), rotation_xyzw=(0.0, 0.0, 0.0, 1.0))
    found = Extrinsics('node', config).lookup('camera', 'lidar', STAMP)
    np.testing.assert_array_equal(found[:3, 3], (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ('late_s', 'latest_used', 'problem'),
    [(0.0, 0, ''), (0.5, 1, ''), (5.0, 1, 'camera <- lidar is 5.0 s'), (-5.0, 1, 'is 5.0 s off')],
)
def test_tf2_is_asked_for_the_time_of_the_scan_else_the_latest(
    planted_tf2, late_s, latest_used, problem
):
    planted_tf2['camera', 'lidar'] = (STAMP - round(late_s * 1e9), 0.5)
    node = SimpleNamespace(health=Health())
    extrinsics = Extrinsics(node, ExtrinsicsConfig())
    assert extrinsics.lookup('camera', 'lidar', STAMP)[0, 3] == 0.5
    assert (extrinsics.source, extrinsics.latest_used) == ('tf2', latest_used)
    reported = node.health.problem('transform')
    assert problem in reported if problem else not reported


def test_a_transform_is_read_with_all_its_numbers(install_tf2):
    turn, move = Rotation.from_euler('xyz', (0.3, -0.8, 1.9)), (1.0, -2.0, 3.0)
    parts = {'translation': ('xyz', move), 'rotation': ('xyzw', turn.as_quat())}
    fields = {n: SimpleNamespace(**dict(zip(*part, strict=True))) for n, part in parts.items()}
    stamped = SimpleNamespace(transform=SimpleNamespace(**fields))
    install_tf2(lambda: SimpleNamespace(lookup_transform=lambda *_frames_and_time: stamped))
    found = Extrinsics('node', ExtrinsicsConfig()).lookup('camera', 'lidar', STAMP)
    np.testing.assert_allclose(found[:3, :3], turn.as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(found[:, 3], (*move, 1.0))


def test_what_is_asked_hears_tf_until_it_is_closed(planted_tf2, monkeypatch):
    heard = []

    def listener(buffer, node, spin_thread):
        heard.append((buffer, node, spin_thread))
        return SimpleNamespace(unregister=heard.clear)

    monkeypatch.setattr(sys.modules['tf2_ros'], 'TransformListener', listener)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    assert heard == [(extrinsics.buffer, 'node', False)]
    extrinsics.close()
    assert heard == []


@pytest.mark.parametrize(
    ('stamp', 'fixed_frame', 'settled'),
    [(STAMP, '', True), (STAMP - 1, '', False), (STAMP, 'odom', False)],
)
def test_a_pose_is_settled_once_waiting_cannot_improve_it(
    planted_tf2, stamp, fixed_frame, settled
):
    planted_tf2['camera', 'lidar'] = (stamp, 0.5)
    extrinsics = Extrinsics('node', ExtrinsicsConfig(), fixed_frame)
    assert extrinsics.is_settled('camera', 'lidar', STAMP, is_first=True) == settled
    assert not extrinsics.is_settled('camera', 'unknown', STAMP, is_first=True)
    given = ExtrinsicsConfig(translation=(1.0, 2.0, 3.0), rotation_xyzw=(0.0, 0.0, 0.0, 1.0))
    fixed = Extrinsics('node', given, fixed_frame, more_frames=True)
    assert fixed.is_settled('camera', 'unknown', STAMP, is_first=True) == (not fixed_frame)
    assert not fixed.is_settled('camera', 'unknown', STAMP, is_first=False)
    assert extrinsics.latest_used == 0


def test_a_missing_transform_names_both_frames_and_remedy(planted_tf2):
    with pytest.raises(CalibrationError, match=r'camera <- lidar at 7.500 s; publish it or set'):
        Extrinsics('node', ExtrinsicsConfig()).lookup('camera', 'lidar', STAMP)


@pytest.mark.parametrize('fixed_frame', ['', 'odom'])
def test_points_in_the_cameras_own_frame_need_no_transform(planted_tf2, fixed_frame):
    extrinsics = Extrinsics('node', ExtrinsicsConfig(), fixed_frame)
    found = extrinsics.lookup('camera', 'camera', STAMP, IMAGE)
    np.testing.assert_array_equal(found, np.eye(4))
    with pytest.raises(CalibrationError, match='no transform'):  # nobody has named the frame
        extrinsics.lookup('', '', STAMP, IMAGE)


def test_a_scan_from_before_time_began_takes_the_latest_transform(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 0.5)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    before = -50_000_000  # by a time_offset, when a simulation starts
    assert extrinsics.is_settled('camera', 'lidar', before, is_first=True)
    assert extrinsics.lookup('camera', 'lidar', before)[0, 3] == 0.5


def test_without_tf2_and_parameters_there_is_no_identity(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    assert extrinsics.source.startswith('none')
    with pytest.raises(CalibrationError, match='set extrinsics.translation'):
        extrinsics.lookup('camera', 'lidar', STAMP)


IMAGE = STAMP + 40_000_000


def test_with_a_fixed_frame_the_scan_is_shifted_to_the_image(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 0.5)
    planted_tf2['camera', IMAGE, 'lidar', STAMP, 'odom'] = 0.7
    planted_tf2['odom', 'camera'] = (IMAGE, 12.0)
    extrinsics = Extrinsics('node', ExtrinsicsConfig(), 'odom')
    assert extrinsics.lookup('camera', 'lidar', STAMP, IMAGE)[0, 3] == 0.7
    assert extrinsics.camera_pose('camera', IMAGE)[0, 3] == 12.0
    assert (extrinsics.not_moved, extrinsics.latest_used) == (0, 0)
    without = Extrinsics('node', ExtrinsicsConfig())
    assert without.lookup('camera', 'lidar', STAMP, IMAGE)[0, 3] == 0.5
    assert without.camera_pose('camera', IMAGE) is None


def test_given_extrinsics_are_moved_by_the_cameras_own_motion(planted_tf2):
    planted_tf2['camera', IMAGE, 'camera', STAMP, 'odom'] = 0.2
    config = ExtrinsicsConfig(translation=(1.0, 2.0, 3.0), rotation_xyzw=(0.0, 0.0, 1.0, 0.0))
    found = Extrinsics('node', config, 'odom').lookup('camera', 'lidar', STAMP, IMAGE)
    np.testing.assert_allclose(found[:3, 3], (1.2, 2.0, 3.0))


def test_unknown_motion_is_left_out_and_counted(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 0.5)
    extrinsics = Extrinsics('node', ExtrinsicsConfig(), 'odom')
    assert extrinsics.lookup('camera', 'lidar', STAMP, IMAGE)[0, 3] == 0.5
    assert extrinsics.camera_pose('camera', IMAGE) is None
    assert extrinsics.not_moved == 1


def test_a_fixed_frame_without_tf2_is_counted_too(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    config = ExtrinsicsConfig(translation=(1.0, 2.0, 3.0), rotation_xyzw=(0.0, 0.0, 0.0, 1.0))
    extrinsics = Extrinsics('node', config, 'odom')
    np.testing.assert_array_equal(
        extrinsics.lookup('camera', 'lidar', STAMP, IMAGE)[:3, 3], (1.0, 2.0, 3.0)
    )
    assert extrinsics.camera_pose('camera', IMAGE) is None
    assert extrinsics.not_moved == 1
