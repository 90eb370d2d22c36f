# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Fixed and moving transforms against SciPy, and scans that are shifted to their images."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.bags.frames import bag_frames, STAMPS
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.bags.transforms import EgoMotion, pose_matrix, TransformTree
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import AlignmentConfig, LidarConfig
from marigold_ros.errors import CalibrationError
from marigold_ros.geometry import project_lidar
from marigold_ros.message_codec import encode_cloud, encode_image
from marigold_ros.synthetic.drive.drive import (
    FIXED_FRAME,
    IMAGE,
    LIDAR,
    simulate_drive,
    write_drive,
)
import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

IDENTITY = (0.0, 0.0, 0.0, 1.0)
MS = 1_000_000
S = 1000 * MS
START = 100 * S


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
        ((0, 0, 0), (0, 0, 1)),
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


def message(parent, child, stamp_ns, translation, rotation=IDENTITY):
    """Make the fields of a TFMessage that moving transforms read."""
    seconds, rest = divmod(stamp_ns, S)
    x, y, z = translation
    qx, qy, qz, qw = rotation
    item = SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=seconds, nanosec=rest)),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=y, z=z),
            rotation=SimpleNamespace(x=qx, y=qy, z=qz, w=qw),
        ),
    )
    return SimpleNamespace(transforms=[item])


@given(seed=st.integers(0, 999), share=st.integers(0, 100), flip=st.booleans())
def test_poses_between_two_messages_are_those_of_scipys_slerp(seed, share, flip):
    rng = np.random.default_rng(seed)
    turns, moves = Rotation.random(2, random_state=rng), rng.normal(size=(2, 3))
    quaternions = turns.as_quat() * np.array([[1.0], [-1.0 if flip else 1.0]])
    tree = TransformTree()
    for index in (1, 0):  # messages may overtake each other
        stamp = START + index * 100 * MS
        tree.add_message(
            message('odom', 'base', stamp, moves[index], quaternions[index]), moving=True
        )
    found = tree.lookup('odom', 'base', START + share * MS)
    expected = Slerp([0, 100], turns)(share).as_matrix()
    np.testing.assert_allclose(found[:3, :3], expected, atol=1e-7)
    np.testing.assert_allclose(found[:3, 3], moves[0] + share / 100 * (moves[1] - moves[0]))


def test_nothing_is_extrapolated_and_the_known_time_is_named():
    tree = TransformTree()
    for index in range(3):
        tree.add_message(
            message('odom', 'base', START + index * S, (float(index), 0, 0)), moving=True
        )
    for outside in (START - 1, START + 2 * S + 1):
        with pytest.raises(CalibrationError, match='known from 100.000 to 102.000 s'):
            tree.lookup('odom', 'base', outside)
    with pytest.raises(CalibrationError, match="'odom' <- 'lidar'; known frames: base, odom"):
        tree.lookup('odom', 'lidar', START)
    tree.add_message(message('odom', 'base', START + 11 * S, (0, 0, 0)), moving=True)
    with pytest.raises(CalibrationError):
        tree.lookup('odom', 'base', START)
    tree.add_message(message('base', 'lidar', START, (1.0, 0, 0)), moving=True)
    stale = {}
    assert tree.lookup('base', 'lidar', START + 13 * S, stale)[0, 3] == 1.0
    assert list(stale) == ['lidar']  # base is above both


def test_a_pose_above_both_frames_need_not_be_known():
    tree = TransformTree()
    tree.add('base', 'camera', (0, 0, 2.0), IDENTITY)
    tree.add_message(message('map', 'odom', START - S, (100.0, 0, 0)), moving=True)
    for second in range(2):
        pose = message('odom', 'base', START + second * S, (float(second), 0, 0))
        tree.add_message(pose, moving=True)
    found = tree.lookup('odom', 'camera', START + S // 2)
    assert found[:3, 3].tolist() == [0.5, 0, 2]
    assert tree.lookup('camera', 'base', START + S // 2)[2, 3] == -2.0
    for pair in ('map', 'camera'), ('base', 'map'):
        with pytest.raises(CalibrationError, match="'map' <- 'odom' at 100.500 s"):
            tree.lookup(*pair, START + S // 2)


def test_poses_ahead_of_time_are_forgotten_once_time_goes_on():
    tree = TransformTree()
    for x in (0.0, 30.0, 1.0, 2.0):
        tree.add_message(message('odom', 'base', START + int(x) * S, (x, 0, 0)), moving=True)
    assert tree.lookup('odom', 'base', START + 3 * S // 2)[0, 3] == 1.5


def test_a_moving_frame_is_below_its_last_parent():
    tree = TransformTree()
    for second, parent in enumerate(('odom', 'odom', 'map')):
        tree.add_message(message(parent, 'base', START + second * S, (5.0, 0, 0)), moving=True)
    assert tree.lookup('map', 'base', START + 2 * S)[0, 3] == 5.0


@pytest.mark.parametrize('moving', [False, True])
def test_a_broken_pose_does_not_corrupt_the_others(moving):
    tree, stamp = TransformTree(), START if moving else None
    both = message('odom', 'base', START, (1.0, 0, 0))
    both.transforms += message('base', 'arm', START, (0, 0, 0), (0.0, 0, 0, 0)).transforms
    tree.add_message(both, moving)
    assert tree.lookup('odom', 'base', stamp)[0, 3] == 1.0
    with pytest.raises(CalibrationError, match="refused: 'base' <- 'arm': .*norm 0"):
        tree.lookup('odom', 'arm', stamp)


@given(seed=st.integers(0, 99))
def test_fixed_points_stay_fixed_through_the_motion(seed):
    rng = np.random.default_rng(seed)
    tree, poses = TransformTree(), {}
    for name in ('camera', 'lidar'):
        tree.add('base', name, rng.normal(size=3), Rotation.random(random_state=rng).as_quat())
    for stamp in (START, START + 80 * MS):
        turn, move = Rotation.random(random_state=rng), rng.normal(size=3)
        tree.add_message(message('odom', 'base', stamp, move, turn.as_quat()), moving=True)
        poses[stamp] = np.eye(4)
        poses[stamp][:3, :3], poses[stamp][:3, 3] = turn.as_matrix(), move
    motion = EgoMotion({}, 'odom', tree)
    T = motion.scan_pose(('camera', START + 80 * MS), ('lidar', START), None, [])
    post = np.append(rng.normal(size=3), 1.0)
    as_camera, as_lidar = (
        np.linalg.solve(poses[stamp] @ tree.lookup('base', name), post)
        for name, stamp in (('camera', START + 80 * MS), ('lidar', START))
    )
    np.testing.assert_allclose(T @ as_lidar, as_camera, atol=1e-9)


def read(path, **settings):
    with BagReader(path) as reader:
        return list(bag_frames(reader, reader.choose_topics(), LidarConfig(**settings)))


def test_a_late_scan_meets_the_truth_only_when_compensated(tmp_path):
    """Scans of other images are 100 ms off, in which the vehicle goes half a metre."""
    path = write_drive(tmp_path / 'drive', frames=4, width=320, height=240, seed=2)
    drive = simulate_drive(frames=4, width=320, height=240, seed=2)
    errors = {}
    for fixed in ('', FIXED_FRAME):
        for index, item in enumerate(read(path, fixed_frame=fixed)):
            assert (item.frame.T_world_camera is None) == (not fixed)
            if fixed:
                driven = np.linalg.solve(drive.pose(0.0), drive.pose(0.1 * index))
                np.testing.assert_allclose(
                    item.frame.T_world_camera, driven @ drive.mounting.T_base_cam, atol=1e-6
                )
        errors[fixed] = _error_of_next_scan(path, fixed)
    assert errors[FIXED_FRAME] < 0.4 * errors['']


def _error_of_next_scan(path, fixed):
    """Median error of the next image's scan in this image, metres."""
    found = []
    with BagReader(path) as reader:
        topics = reader.choose_topics()
        config = LidarConfig(fixed_frame=fixed, max_dt=0.11)
        given = reader.static_transforms().lookup('camera_optical', 'velodyne')
        own, same = (bag_frames(_Half(reader), topics, config, T) for T in (None, given))
        for item, other in zip(own, same, strict=True):
            np.testing.assert_allclose(other.frame.T_cam_lidar, item.frame.T_cam_lidar, atol=1e-9)
            assert abs(item.scan_stamp_ns - item.stamp_ns) > 90 * MS
            sparse = project_lidar(
                item.frame.points_lidar,
                item.frame.T_cam_lidar,
                item.frame.camera,
                AlignmentConfig(),
            )
            found.append(np.abs(sparse.z - item.truth[sparse.v, sparse.u]))
    return float(np.nanmedian(np.concatenate(found)))


class _Half:
    """A reader that leaves out every second image and the scans of the others."""

    def __init__(self, reader):
        self._reader = reader

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def raw(self, topics, *part):
        turns = {}
        for item in self._reader.raw(topics):
            turn = turns[item[0]] = turns.get(item[0], -1) + 1
            if (item[0], turn % 2) not in ((IMAGE, 1), (LIDAR, 0)):
                yield item


def image(bag, stamp_ns, log_ns):
    fields = vars(encode_image(np.zeros((4, 6, 3), np.uint8), 'rgb8'))
    fields['header'] = {'stamp': stamp_ns, 'frame_id': 'camera'}
    bag.write('/camera/image', 'sensor_msgs/msg/Image', fields, log_ns)


def pose(bag, stamp_ns, log_ns, x, child='camera'):
    transform = {
        'header': {'stamp': stamp_ns, 'frame_id': 'odom'},
        'child_frame_id': child,
        'transform': {'translation': (x, 0.0, 0.0), 'rotation': (0.0, 0.0, 0.0, 1.0)},
    }
    bag.write('/tf', 'tf2_msgs/msg/TFMessage', {'transforms': [transform]}, log_ns)


@pytest.mark.parametrize(('after_ms', 'unknown'), [(20, 0), (-20, 14)])
def test_each_loop_has_its_own_poses_and_late_ones_are_awaited(tmp_path, after_ms, unknown):
    with BagWriter(tmp_path / 'bag') as bag:
        for loop in range(2):
            for tick in range(15):
                stamp = START + tick * 100 * MS
                log = stamp + loop * 10 * S
                image(bag, stamp, log)
                pose(bag, stamp + after_ms * MS, log + 90 * MS, float(tick + 100 * loop))
                pose(bag, stamp - 3 * S, log + 90 * MS, 0.0, child='arm')  # 3 s late
                bag.write('/tf', 'tf2_msgs/msg/TFMessage', {'transforms': []}, log)
    with BagReader(tmp_path / 'bag') as reader:
        topics = BagTopics('/camera/image')
        stream = list(bag_frames(reader, topics, LidarConfig(fixed_frame='odom')))
        other = list(bag_frames(reader, topics, LidarConfig(fixed_frame='map')))
    assert len(stream) == len(other) == 30
    for index, T in enumerate(item.frame.T_world_camera for item in stream):
        loop, tick = divmod(index, 15)
        assert 'out of order' not in stream[index].warning
        if tick == unknown:
            assert T is None  # before the first pose of its loop, or after the last
            assert 'no pose in' in stream[index].warning
        else:
            assert T[0, 3] == pytest.approx(100 * loop + tick - after_ms / 100)
    assert all("'camera' has no pose in 'map'" in item.warning for item in other)


@pytest.mark.parametrize(('poses', 'expected'), [(15, [0.3, 1.3, 14.0]), (2, [0.3, 1.0, 1.0])])
def test_a_mounting_on_tf_alone_is_that_of_the_scans_stamp_else_the_latest_named_if_old(
    tmp_path, poses, expected
):
    with BagWriter(tmp_path / 'bag') as bag:
        for tick in range(poses):
            pose(bag, START + tick * 100 * MS, START + tick * 100 * MS + 50 * MS, float(tick))
        pose(bag, START + 3600 * S, START + 60 * MS, -9.0)  # a lone one, of another clock
        for tick in (0, 1, 14):
            stamp = START + tick * 100 * MS
            image(bag, stamp, stamp)
            cloud = np.ones((1, 4), [(axis, '<f4') for axis in 'xyz'])
            fields = {**vars(encode_cloud(cloud)), 'header': {'stamp': stamp + 30 * MS}}
            fields['header']['frame_id'] = 'odom'  # what carries the LiDAR
            bag.write('/lidar', 'sensor_msgs/msg/PointCloud2', fields, stamp + 30 * MS)
    with BagReader(tmp_path / 'bag') as reader:
        inputs = reader, BagTopics('/camera/image', lidar='/lidar'), LidarConfig()
        read = [item for stamps in STAMPS for item in bag_frames(*inputs, stamps=stamps)]
    assert [-item.frame.T_cam_lidar[0, 3] for item in read] == pytest.approx(2 * expected)
    old = ['known from 100.000 to 100.100 s' in item.warning for item in read]
    assert old == 2 * [False, False, poses == 2]
