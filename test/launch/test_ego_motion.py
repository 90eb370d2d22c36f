# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The buffer of tf2 against the bags' own transforms: the same motion from the same messages."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')
pytest.importorskip('tf2_ros', reason='needs tf2_ros, part of a full ROS installation')

from geometry_msgs.msg import TransformStamped  # noqa: E402
from marigold_ros.bags.transforms import EgoMotion, TransformTree  # noqa: E402
from marigold_ros.config import ExtrinsicsConfig  # noqa: E402
from marigold_ros.node.interface.transforms import Extrinsics  # noqa: E402
from marigold_ros.node.ros_helpers import to_stamp  # noqa: E402
import rclpy  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

MS = 1_000_000
START = 100_000 * MS


def stamped(parent, child, stamp_ns, seed):
    rng = np.random.default_rng(seed)
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp = parent, to_stamp(stamp_ns)
    move, turn = rng.normal(size=3), rng.normal(size=4)
    turn /= np.linalg.norm(turn)
    for axis, value in zip('xyz', move, strict=True):
        setattr(message.transform.translation, axis, float(value))
    for axis, value in zip('xyzw', turn, strict=True):
        setattr(message.transform.rotation, axis, float(value))
    return message


@pytest.fixture
def both():
    """Extrinsics over tf2, and the bags' transforms, told the same."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('test_ego_motion', context=context)
    extrinsics = Extrinsics(node, ExtrinsicsConfig(), 'odom')
    tree = TransformTree()
    for seed, child in enumerate(('camera', 'lidar')):
        message = stamped('base', child, START, seed)
        extrinsics.buffer.set_transform_static(message, 'test')
        tree.add_message(TFMessage(transforms=[message]))
    for index in range(3):
        message = stamped('odom', 'base', START + index * 50 * MS, 10 + index)
        extrinsics.buffer.set_transform(message, 'test')
        tree.add_message(TFMessage(transforms=[message]), moving=True)
    yield extrinsics, tree
    extrinsics.close()
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize(('image_ms', 'scan_ms'), [(0, 100), (37, 81), (50, 50), (99, 3)])
def test_live_and_offline_shift_a_scan_alike(both, image_ms, scan_ms):
    extrinsics, tree = both
    image, scan = START + image_ms * MS, START + scan_ms * MS
    np.testing.assert_allclose(
        extrinsics.lookup('camera', 'lidar', scan, image),
        EgoMotion({}, 'odom', tree).scan_pose(('camera', image), ('lidar', scan), None, []),
        atol=1e-9,
    )
    np.testing.assert_allclose(
        extrinsics.camera_pose('camera', image), tree.lookup('odom', 'camera', image), atol=1e-9
    )
    assert extrinsics.not_moved == 0


def test_motion_from_the_future_is_left_out_and_counted(both):
    extrinsics, _ = both
    late = START + 101 * MS
    static = extrinsics.lookup('camera', 'lidar', START)
    np.testing.assert_allclose(extrinsics.lookup('camera', 'lidar', late, START), static)
    assert extrinsics.camera_pose('camera', late) is None
    assert extrinsics.not_moved == 1
