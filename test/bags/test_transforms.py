# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Static transforms against SciPy's rotations, and the lookups that are refused."""

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.bags.transforms import pose_matrix, TransformTree
from marigold_ros.errors import CalibrationError
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

IDENTITY = (0.0, 0.0, 0.0, 1.0)


def random_pose(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(-3, 3, 3), Rotation.random(random_state=seed).as_quat()


@given(seed=st.integers(0, 999))
def test_pose_matrix_agrees_with_scipy(seed):
    translation, quaternion = random_pose(seed)
    T = pose_matrix(translation, quaternion)
    np.testing.assert_allclose(T[:3, :3], Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(T[:, 3], [*translation, 1])


@given(seed=st.integers(0, 999))
def test_lookup_goes_up_and_down_the_tree(seed):
    #   base <- mast <- camera, base <- lidar
    poses = {name: random_pose(seed + i) for i, name in enumerate(('mast', 'camera', 'lidar'))}
    transforms = TransformTree()
    transforms.add('mast', 'camera', *poses['camera'])
    transforms.add('base', 'lidar', *poses['lidar'])
    transforms.add('/base', 'mast', *poses['mast'])
    T = {name: pose_matrix(*pose) for name, pose in poses.items()}
    expected = np.linalg.inv(T['mast'] @ T['camera']) @ T['lidar']
    found = transforms.lookup('camera', 'lidar')
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(transforms.lookup('lidar', 'camera') @ found, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(transforms.lookup('base', 'lidar'), T['lidar'], atol=1e-12)


def test_a_frame_to_itself_is_the_identity():
    np.testing.assert_array_equal(TransformTree().lookup('a', '/a'), np.eye(4))


def test_the_last_pose_of_a_child_counts():
    transforms = TransformTree()
    transforms.add('a', 'b', (1, 0, 0), IDENTITY)
    transforms.add('a', 'b', (2, 0, 0), IDENTITY)
    assert transforms.lookup('a', 'b')[0, 3] == 2


@pytest.mark.parametrize('pair', [('a', 'nowhere'), ('nowhere', 'a'), ('a', 'd'), ('', 'a')])
def test_a_missing_transform_names_both_and_all_known_frames(pair):
    transforms = TransformTree()
    transforms.add('a', 'b', (0, 0, 0), IDENTITY)
    transforms.add('c', 'd', (0, 0, 0), IDENTITY)
    with pytest.raises(CalibrationError) as caught:
        transforms.lookup(*pair)
    assert f"'{pair[0]}' <- '{pair[1]}'" in str(caught.value)
    assert 'a, b, c, d' in str(caught.value)


def test_a_loop_is_refused():
    transforms = TransformTree()
    transforms.add('a', 'b', (0, 0, 0), IDENTITY)
    transforms.add('b', 'a', (0, 0, 0), IDENTITY)
    with pytest.raises(CalibrationError, match='loop'):
        transforms.lookup('a', 'c')


@pytest.mark.parametrize(
    ('translation', 'rotation'),
    [
        ((0, 0), IDENTITY),
        ((0, 0, 0), (0, 0, 0)),
        ((0, np.nan, 0), IDENTITY),
        ((0, 0, 0), (0, 0, 0, 0)),
        ((0, 0, 0), (0, 0, 0, 1.01)),
    ],
)
def test_what_is_no_pose_is_refused(translation, rotation):
    with pytest.raises(CalibrationError):
        pose_matrix(translation, rotation)


def test_a_quaternion_of_single_precision_is_normalised():
    q = np.array([0.1, 0.2, 0.3, 0.9273618], np.float32)
    R = pose_matrix((0, 0, 0), q)[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(('parent', 'child'), [('', 'a'), ('a', ''), ('a', '/a')])
def test_frames_need_two_names(parent, child):
    with pytest.raises(CalibrationError, match='two different'):
        TransformTree().add(parent, child, (0, 0, 0), IDENTITY)
