# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Extrinsics: parameters first, tf2 at the scan's stamp, then the latest, never a guess."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

from marigold_ros.config import ExtrinsicsConfig  # noqa: E402
from marigold_ros.errors import CalibrationError  # noqa: E402
from marigold_ros.node.transforms import Extrinsics  # noqa: E402

STAMP = 7_500_000_000


class TransformException(Exception):
    """Stands for tf2's."""


@pytest.fixture
def planted_tf2(monkeypatch):
    """A tf2_ros whose buffer knows what the test puts in: (target, source) -> (stamp or 0, x)."""
    known = {}

    class Buffer:
        def lookup_transform(self, target, source, time, timeout):
            assert timeout.nanoseconds == 0
            stamp, x = known.get((target, source), (None, 0.0))
            if stamp is None or (time.nanoseconds and time.nanoseconds != stamp):
                raise TransformException(f'"{target}" or "{source}" at {time.nanoseconds}')
            return SimpleNamespace(
                transform=SimpleNamespace(
                    translation=SimpleNamespace(x=x, y=0.0, z=0.0),
                    rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0),
                )
            )

        def clear(self):
            known.clear()

    module = ModuleType('tf2_ros')
    module.TransformException = TransformException
    module.Buffer = Buffer
    module.TransformListener = lambda buffer, node, spin_thread: SimpleNamespace(
        unregister=lambda: None
    )
    monkeypatch.setitem(sys.modules, 'tf2_ros', module)
    return known


def test_parameters_win_over_tf2(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 9.0)
    config = ExtrinsicsConfig(translation=(1.0, 2.0, 3.0), rotation_xyzw=(0.0, 0.0, 0.0, 1.0))
    found = Extrinsics('node', config).lookup('camera', 'lidar', STAMP)
    np.testing.assert_array_equal(found[:3, 3], (1.0, 2.0, 3.0))


def test_tf2_is_asked_for_the_time_of_the_scan(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 0.5)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    assert extrinsics.lookup('camera', 'lidar', STAMP)[0, 3] == 0.5
    assert (extrinsics.source, extrinsics.latest_used) == ('tf2', 0)


def test_the_latest_transform_serves_where_that_time_is_unknown_and_is_counted(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP - 1, 0.5)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    assert extrinsics.lookup('camera', 'lidar', STAMP)[0, 3] == 0.5
    assert extrinsics.latest_used == 1


def test_a_missing_transform_is_an_error_with_both_frames_and_the_remedy(planted_tf2):
    with pytest.raises(CalibrationError, match=r'camera <- lidar at 7.500 s; publish it or set'):
        Extrinsics('node', ExtrinsicsConfig()).lookup('camera', 'lidar', STAMP)


def test_a_clock_jump_empties_the_buffer(planted_tf2):
    planted_tf2['camera', 'lidar'] = (STAMP, 0.5)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    extrinsics.clear()
    with pytest.raises(CalibrationError):
        extrinsics.lookup('camera', 'lidar', STAMP)


def test_without_tf2_and_parameters_there_is_no_identity(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    extrinsics = Extrinsics('node', ExtrinsicsConfig())
    assert extrinsics.source.startswith('none')
    with pytest.raises(CalibrationError, match='set extrinsics.translation'):
        extrinsics.lookup('camera', 'lidar', STAMP)
