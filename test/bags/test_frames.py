# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Frames of bags: pairing, cameras, extrinsics, truth, and messages that are broken."""

from marigold_ros.bags.frames import bag_frames, Excerpt
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import BagTopics
from marigold_ros.bags.transforms import TransformTree
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import AlignmentConfig, LidarConfig
from marigold_ros.errors import BagError, ConfigurationError
from marigold_ros.frame import Camera
from marigold_ros.geometry.measured_points import sparse_of_frame
from marigold_ros.message_codec import camera_info_fields, encode_cloud, encode_depth, encode_image
import numpy as np
import pytest

MS = 1_000_000
S = 1000 * MS
START = 100 * S
CLOUD = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('ring', '<u2')])
TOPICS = BagTopics('/camera/image', '/camera/camera_info', '/lidar', '/camera/depth_truth')


class Drive:
    """Writes messages in the order of their log time, whatever order a test states them in."""

    def __init__(self, path):
        self.path = path
        self.messages = []

    def add(self, topic, msgtype, fields, stamp_ns, delay_ns=0, frame_id='camera'):
        fields = {'header': {'stamp': stamp_ns, 'frame_id': frame_id}, **fields}
        self.messages.append((stamp_ns + delay_ns, topic, f'sensor_msgs/msg/{msgtype}', fields))

    def image(self, stamp_ns, delay_ns=0, value=0, **changes):
        fields = vars(encode_image(np.full((4, 6, 3), value, np.uint8), 'rgb8')) | changes
        self.add('/camera/image', 'Image', fields, stamp_ns, delay_ns)

    def info(self, stamp_ns, delay_ns=0, focal=5.0, **changes):
        camera = Camera(np.diag([focal, focal, 1.0]), 6, 4)
        fields = camera_info_fields(camera) | changes
        self.add('/camera/camera_info', 'CameraInfo', fields, stamp_ns, delay_ns)

    def scan(self, stamp_ns, delay_ns=0, x=1.0, frame_id='lidar'):
        cloud = np.zeros((1, 4), CLOUD)
        cloud['x'], cloud['ring'] = [x, np.nan, x, x], [7, 8, 9, 10]
        fields = vars(encode_cloud(cloud))
        self.add('/lidar', 'PointCloud2', fields, stamp_ns, delay_ns, frame_id)

    def truth(self, stamp_ns, delay_ns=0, metres=3.0):
        fields = vars(encode_depth(np.full((4, 6), metres)))
        self.add('/camera/depth_truth', 'Image', fields, stamp_ns, delay_ns)

    def poses(self, stamp_ns, delay_ns=0):
        pose = {'translation': (1.0, 2.0, 3.0), 'rotation': (0.0, 0, 0, 1)}
        header = {'stamp': stamp_ns, 'frame_id': 'odom'}
        moved = [
            {'header': header, 'child_frame_id': child, 'transform': pose}
            for child in ('camera', 'lidar')
        ]
        fields = {'transforms': moved}
        self.messages.append((stamp_ns + delay_ns, '/tf', 'tf2_msgs/msg/TFMessage', fields))

    def read(self, topics=TOPICS, config=None, T_cam_lidar=None, extrinsics=True):
        with BagWriter(self.path) as bag:
            for log_ns, topic, msgtype, fields in sorted(self.messages, key=lambda m: m[:2]):
                bag.write(topic, msgtype, fields, log_ns)
            if extrinsics:  # recorded last: it must be found all the same
                transform = {
                    'header': {'frame_id': 'camera'},
                    'child_frame_id': 'lidar',
                    'transform': {'translation': (1.0, 2.0, 3.0), 'rotation': (0.0, 0, 0, 1)},
                }
                fields = {'transforms': [transform]}
                bag.write('/tf_static', 'tf2_msgs/msg/TFMessage', fields, self.messages[-1][0])
        with BagReader(self.path) as reader:
            present = [t if t in reader.topics else None for t in topics.by_role.values()]
            found = BagTopics(*present)
            return list(bag_frames(reader, found, config or LidarConfig(), T_cam_lidar))


@pytest.fixture
def drive(tmp_path):
    return Drive(tmp_path / 'drive')


@pytest.mark.parametrize('delay_ms', [-50, 0, 3, 200, 1500])
def test_scans_pair_by_stamp_however_late_they_arrive(drive, delay_ms):
    for tick in range(20):
        stamp = START + tick * 100 * MS
        drive.info(stamp, delay_ns=MS)
        drive.image(stamp, value=tick)
        drive.truth(stamp, delay_ns=2 * MS, metres=1.0 + tick)
        drive.scan(stamp + 3 * MS, delay_ns=delay_ms * MS, x=float(tick))
    read = drive.read()
    assert [int(item.frame.rgb[0, 0, 0]) for item in read] == list(range(20))
    for tick, item in enumerate(read):
        assert item.stamp_ns == item.frame.stamp_ns == START + tick * 100 * MS
        assert item.scan_stamp_ns - item.stamp_ns == 3 * MS
        assert item.frame.points_lidar[:, 0].tolist() == [tick] * 3
        assert item.ring.tolist() == [7, 9, 10]
        assert item.truth[0, 0] == 1.0 + tick
        assert item.frame.T_cam_lidar[:3, 3].tolist() == [1, 2, 3]
        assert item.warning == ''
        assert item.error is None


@pytest.mark.parametrize('clock', [-300 * MS, 37_000 * MS])  # 37 s: TAI, the clock of PTP
def test_time_offset_is_added_to_the_scans(clock, drive):
    drive.image(START)
    drive.scan(START + clock)
    (item,) = drive.read(config=LidarConfig(time_offset=0.01 - clock / 1e9))
    assert item.scan_stamp_ns == START + 10 * MS


def test_an_image_without_scan_says_so_and_is_still_read(drive):
    drive.image(START)
    drive.scan(START + 61 * MS)
    (item,) = drive.read()
    assert item.frame.points_lidar is None
    assert 'near the image: at most 0.06 s is allowed (lidar.max_dt)' in item.warning


def test_a_lidar_that_died_does_not_make_the_bag_pile_up(drive, tmp_path):
    drive.scan(START)
    for tick in range(100):
        drive.image(START + tick * 100 * MS)
    assert len(drive.read()) == 100
    with BagReader(drive.path) as reader:
        consumed = []
        raw = reader.raw
        reader.raw = lambda names, *part: (consumed.append(m) or m for m in raw(names))
        stream = bag_frames(reader, BagTopics('/camera/image', lidar='/lidar'), LidarConfig())
        next(stream)
        next(stream)
        assert len(consumed) < 30


def test_a_looped_recording_pairs_in_every_loop(drive):
    for loop in range(3):
        for tick in range(15):
            stamp = START + tick * 100 * MS
            shift = loop * 2 * S
            drive.info(stamp, shift, focal=5.0 + loop)
            drive.image(stamp, shift + MS, value=10 * loop)
            drive.truth(stamp, shift + 40 * MS, metres=1.0 + loop)
            drive.scan(stamp + 3 * MS, shift + 50 * MS, x=float(loop))
    read = drive.read()
    assert len(read) == 45
    for index, item in enumerate(read):
        loop = index // 15
        assert item.frame.points_lidar[0, 0] == loop
        assert item.truth[0, 0] == 1.0 + loop
        assert item.frame.camera.K[0, 0] == 5.0 + loop


def test_the_camera_is_the_last_before_the_image_else_the_first(drive):
    for tick in range(4):
        drive.image(START + tick * 100 * MS)
    drive.info(START + 50 * MS, focal=7.0)
    drive.info(START + 200 * MS, delay_ns=150 * MS, focal=9.0)
    focal = [item.frame.camera.K[0, 0] for item in drive.read()]
    assert focal == [7.0, 7.0, 9.0, 9.0]


def test_camera_infos_without_stamps_count_from_their_time_of_recording(drive):
    for second, focal in ((0, 7.0), (1, 7.0), (10, 9.0), (11, 9.0)):
        drive.info(0, START + second * S, focal)
        drive.image(START + second * S + 20 * MS)
    assert [item.frame.camera.K[0, 0] for item in drive.read()] == [7.0, 7.0, 9.0, 9.0]


@pytest.mark.parametrize(('second', 'before'), [(4, 9.0), (5, 5.0)])
def test_after_a_clock_jump_the_last_camera_info_counts(drive, second, before):
    drive.info(START)
    drive.info(START + second * S, focal=9.0)  # as it is published where it changes
    for tenth, delay in ((0, 0), (40, 0), (41, 0), (20, 4 * S), (21, 4 * S)):
        drive.image(START + tenth * 100 * MS, delay)
    focal = [item.frame.camera.K[0, 0] for item in drive.read()]
    assert focal == [5.0, before, before, 9.0, 9.0]


def test_a_part_of_a_bag_begins_with_the_last_camera_info_before_it(drive):
    for second, focal in ((0, 5.0), (1, 7.0), (3, 9.0)):  # as it is published where it changes
        drive.info(START + second * S, focal=focal)
    for second in range(5):
        drive.image(START + second * S + MS)
    drive.read()
    topics = BagTopics('/camera/image', '/camera/camera_info')
    with BagReader(drive.path) as reader:
        part = bag_frames(reader, topics, LidarConfig(), excerpt=Excerpt(start=1.5))
        assert [item.frame.camera.K[0, 0] for item in part] == [7.0, 9.0, 9.0]


def test_one_latched_camera_info_serves_the_whole_bag(drive):
    drive.info(START - 30 * S)
    for tick in range(40):
        drive.image(START + tick * 100 * MS)
    assert all(item.frame.camera is not None for item in drive.read())


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (None, 'no camera_info'),
        ({'k': [0.0] * 9}, 'uncalibrated'),
        ({'width': 12}, 'for 12x4, the image is 6x4; they must agree: name the camera_info'),
    ],
)
def test_a_missing_or_useless_camera_info_is_a_warning(drive, changes, words):
    if changes is not None:
        drive.info(START, **changes)
    drive.image(START)
    (item,) = drive.read()
    assert item.frame.camera is None
    assert words in item.warning


def test_missing_extrinsics_are_a_warning_that_names_the_frames(drive):
    drive.image(START)
    drive.scan(START)
    (item,) = drive.read(extrinsics=False)
    assert item.frame.T_cam_lidar is None
    assert item.frame.points_lidar is not None
    assert "'camera' <- 'lidar'" in item.warning


def test_given_extrinsics_win(drive):
    drive.image(START)
    drive.scan(START, frame_id='unheard_of')
    (item,) = drive.read(T_cam_lidar=np.eye(4))
    np.testing.assert_array_equal(item.frame.T_cam_lidar, np.eye(4))
    assert 'unheard_of' not in item.warning


def test_a_broken_image_is_reported_in_its_place(drive):
    drive.image(START, value=1)
    drive.image(START + 100 * MS, data=np.zeros(5, np.uint8))
    drive.image(START + 200 * MS, encoding='h264')
    drive.image(START + 300 * MS, value=4)
    read = drive.read()
    assert [item.error and item.error.cause for item in read] == [
        None,
        'truncated',
        'encoding',
        None,
    ]
    assert [item.frame is None for item in read] == [False, True, True, False]


def test_images_with_the_stamp_of_the_one_before_get_no_scan_of_it(drive):
    for tick in range(3):
        drive.image(START, tick * 100 * MS)
        drive.scan(START + tick * 100 * MS)
    assert [item.error and item.error.cause for item in drive.read()] == [None, 'stamp', 'stamp']


def test_of_a_bag_that_was_recorded_twice_each_message_counts_once(drive):
    for tick in range(3):
        for _ in range(2):
            stamp = START + tick * 100 * MS
            for add in (drive.info, drive.image, drive.scan, drive.truth, drive.poses):
                add(stamp)
    read = drive.read(config=LidarConfig(fixed_frame='odom'))
    assert [item.error and item.error.cause for item in read] == [None, 'stamp'] * 3
    assert all(item.warning == '' and item.truth is not None for item in read[::2])
    with BagReader(drive.path) as reader:
        by_log = list(bag_frames(reader, TOPICS, LidarConfig(), stamps='log'))
    assert [item.error for item in by_log] == [None] * 6


def test_times_of_another_kind_are_refused(drive):
    drive.image(START)
    drive.read()
    with BagReader(drive.path) as reader, pytest.raises(ConfigurationError, match='header, log'):
        next(bag_frames(reader, TOPICS, LidarConfig(), stamps='publish'))


def test_images_without_stamps_are_used_where_nothing_is_paired_with_them(drive):
    for tick in range(3):
        drive.image(0, START + tick * 100 * MS)
    assert [item.error for item in drive.read()] == [None] * 3


def test_the_clock_of_a_simulator_may_begin_at_zero(drive):
    for tick in range(3):
        drive.image(tick * 100 * MS)
        drive.scan(tick * 100 * MS)
    assert [item.frame.points_lidar is not None for item in drive.read()] == [False, True, True]


def test_an_undecodable_message_is_reported_in_its_place(drive, tmp_path):
    drive.image(START)
    drive.read()
    with BagReader(drive.path) as reader, BagWriter(tmp_path / 'cut') as bag:
        for topic, msgtype, data, log_ns in reader.raw(['/camera/image']):
            bag.write_raw(topic, msgtype, bytes(data[:10]), log_ns)
            bag.write_raw(topic, msgtype, data, log_ns + 1)
    with BagReader(tmp_path / 'cut') as reader:
        read = list(bag_frames(reader, BagTopics('/camera/image'), LidarConfig()))
    assert [item.error and item.error.cause for item in read] == ['unreadable', None]


def test_truth_needs_the_stamp_of_the_image(drive):
    drive.image(START)
    drive.truth(START + 2 * MS)
    drive.image(START + S)
    drive.truth(START + S + MS)
    drive.image(START + 2 * S)
    drive.truth(START + 2 * S + 17 * MS)  # of a camera of half the rate, once one has matched
    read = drive.read()
    assert [item.truth is None for item in read] == [True, False, True]
    named = 'the stamps of true depth and image are more than 1 ms apart'
    assert [named in item.warning for item in read] == [True, False, False]


def test_a_rectified_topic_takes_the_rectified_intrinsics(drive):
    P = [3.0, 0, 1, 0, 0, 3.0, 1, 0, 0, 0, 1, 0]
    drive.info(START, p=P, d=[0.1, 0.0, 0.0, 0.0, 0.0])
    drive.image(START)
    stamp, _, msgtype, fields = drive.messages.pop()
    drive.messages.append((stamp, '/camera/image_rect_color', msgtype, fields))
    (item,) = drive.read(BagTopics('/camera/image_rect_color', '/camera/camera_info'))
    assert item.frame.camera.K[0].tolist() == [3, 0, 1]
    assert item.frame.camera.distortion == ()


def test_a_planar_scan_serves_as_lidar(drive):
    fields = {'range_max': 9.0, 'angle_increment': 0.5, 'ranges': [1.0, 20.0, 2.0]}
    drive.image(START)
    drive.add('/scan', 'LaserScan', fields, START, frame_id='lidar')
    (item,) = drive.read(BagTopics('/camera/image', lidar='/scan'))
    assert item.frame.points_lidar.shape == (2, 3)
    assert item.ring is None


def test_a_depth_image_serves_as_lidar_without_extrinsics(drive):
    depth = np.full((4, 6), 0.0)
    depth[1, 2], depth[3, 5] = 3.0, 7.5
    drive.image(START)
    drive.add('/tof', 'Image', vars(encode_depth(depth, '16UC1')), START + MS)
    topics = BagTopics('/camera/image', lidar='/tof')
    (item,) = drive.read(topics, extrinsics=False)
    assert item.warning.startswith('no camera_info; record it')
    assert (item.scan_stamp_ns, item.frame.points_lidar, item.ring) == (START + MS, None, None)
    expected = np.where(depth > 0, depth, np.nan)
    np.testing.assert_array_equal(item.frame.lidar.sparse_image, expected)
    sparse, refusal = sparse_of_frame(item.frame, AlignmentConfig())
    assert (sparse.u.tolist(), sparse.v.tolist(), refusal) == ([2, 5], [1, 3], None)
    assert sparse.z.tolist() == [3.0, 7.5]


@pytest.mark.parametrize(('name', 'rectified'), [('image_rect', True), ('direct', False)])
def test_the_name_of_a_depth_image_says_whether_it_is_of_the_rectified_image(
    drive, name, rectified
):
    drive.image(START)
    topic = f'/sparse_depth/{name}'
    drive.add(topic, 'Image', vars(encode_depth(np.full((4, 6), 5.0))), START)
    (item,) = drive.read(BagTopics('/camera/image', lidar=topic, truth=topic))
    assert item.frame.lidar.is_rectified is rectified
    assert item.truth_is_rectified is rectified


def test_a_depth_image_of_another_size_and_unknown_camera_is_a_warning(drive):
    drive.image(START)
    drive.add('/tof', 'Image', vars(encode_depth(np.ones((8, 12)))), START)
    (item,) = drive.read(BagTopics('/camera/image', lidar='/tof'))
    assert item.frame.lidar.sparse_image is None
    assert "depth image is 12x8 px in frame 'camera', the image 6x4" in item.warning


def test_the_real_drive_is_paired_throughout(shared_data):
    with BagReader(shared_data / 'kitti_drive') as reader:
        topics = reader.choose_topics()
        assert topics == BagTopics(
            '/camera/image_raw/compressed', '/camera/camera_info', '/velodyne_points'
        )
        read = list(bag_frames(reader, topics, LidarConfig()))
    assert len(read) == 20
    for item in read:
        assert item.error is None
        assert item.warning == ''
        assert item.frame.rgb.shape == (375, 1242, 3)
        assert item.frame.camera.K[0, 0] == pytest.approx(721.5377)
        assert abs(item.scan_stamp_ns - item.stamp_ns) == 3 * MS
        points = np.c_[item.frame.points_lidar, np.ones(len(item.frame.points_lidar))]
        in_camera = points @ item.frame.T_cam_lidar.T
        assert (in_camera[:, 2] > 0).mean() > 0.99  # the scan was cut to the camera's view


def test_truth_of_another_size_is_a_warning_not_a_score(drive):
    drive.image(START)
    fields = vars(encode_depth(np.full((8, 12), 3.0)))
    drive.add('/camera/depth_truth', 'Image', fields, START)
    (item,) = drive.read()
    assert item.truth is None
    assert 'true depth is 12x8 px, the image 6x4' in item.warning


@pytest.mark.parametrize('topic', ['/camera/depth_truth', '/camera/camera_info', '/tf'])
def test_unreadable_messages_beside_the_image_warn_once(drive, tmp_path, topic):
    drive.image(START)
    drive.info(START)
    drive.truth(START)
    drive.poses(START)
    drive.read()
    cut = tmp_path / 'cut'
    with BagReader(drive.path) as reader, BagWriter(cut) as bag:
        for name, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            for _ in range(2):
                bag.write_raw(name, msgtype, data[:20] if name == topic else data, log_ns)
    with BagReader(cut) as reader:
        config = LidarConfig(fixed_frame='odom')
        first, _ = bag_frames(reader, reader.choose_topics(), config)
    assert first.warning.count(f'{topic}: ') == 1


def test_frames_before_damage_are_still_yielded(drive, monkeypatch):
    drive.image(START)
    drive.scan(START)
    drive.read()
    with BagReader(drive.path) as reader:
        topics, raw = reader.choose_topics(), reader.raw

        def damaged(names, *part):
            yield from raw(names)
            raise BagError('cut')

        stream = bag_frames(reader, topics, LidarConfig())
        monkeypatch.setattr(reader, 'raw', damaged)
        monkeypatch.setattr(reader, 'first', lambda topic: None)
        monkeypatch.setattr(reader, 'static_transforms', TransformTree)
        assert next(stream).frame is not None
        with pytest.raises(BagError, match='cut'):
            next(stream)


def depth_camera(drive, frame_id='lidar', info=True):
    """Add a depth camera of twice the image's size, 2 m to the left, that sees a wall at 5 m."""
    drive.info(START)
    drive.image(START)
    fields = vars(encode_depth(np.full((8, 12), 5.0)))
    drive.add('/tof/sparse_depth', 'Image', fields, START, frame_id=frame_id)
    if info:
        fields = camera_info_fields(Camera(np.diag([10.0, 10.0, 1.0]), 12, 8))
        drive.add('/tof/camera_info', 'CameraInfo', fields, START, frame_id=frame_id)


def depth_topics():
    return BagTopics('/camera/image', '/camera/camera_info', '/tof/sparse_depth')


def test_a_depth_camera_of_another_frame_and_size_is_moved_into_the_image(drive):
    depth_camera(drive)
    (item,) = drive.read(depth_topics())
    assert item.warning == ''
    assert item.frame.lidar.sparse_camera.width == 12
    assert item.frame.T_cam_lidar[:3, 3].tolist() == [1, 2, 3]
    sparse, _ = sparse_of_frame(item.frame, AlignmentConfig(min_depth=0.1))
    assert set(sparse.z.tolist()) == {8.0}  # 3 m behind the image's camera


@pytest.mark.parametrize('frame_id', ['camera', ''])
def test_a_depth_image_of_the_images_frame_and_another_size_needs_no_transform(drive, frame_id):
    depth_camera(drive, frame_id)
    (item,) = drive.read(depth_topics(), extrinsics=False)
    np.testing.assert_array_equal(item.frame.T_cam_lidar, np.eye(4))


@pytest.mark.parametrize(
    ('info', 'known', 'expected'), [(False, True, 'camera_info'), (True, False, 'transform')]
)
def test_a_depth_camera_without_camera_info_or_transform_is_a_reason(drive, info, known, expected):
    depth_camera(drive, info=info)
    (item,) = drive.read(depth_topics(), extrinsics=known)
    assert expected in item.warning
    sparse, reason = sparse_of_frame(item.frame, AlignmentConfig())
    assert sparse is None
    assert expected in str(reason)


def test_a_scan_that_cannot_be_read_is_the_reason_of_its_own_image(drive):
    for tick in range(4):
        stamp = START + tick * 100 * MS
        drive.image(stamp)
        drive.scan(stamp, x=np.nan if tick == 1 else 1.0)
        drive.scan(stamp + 40 * MS)  # another is near enough, but the node would not take it
    read = drive.read()
    assert [item.frame.points_lidar is None for item in read] == [False, True, False, False]
    invalid = ['none with finite x, y, z' in item.warning for item in read]
    assert invalid == [False, True, False, False]
    assert read[1].frame.lidar.no_points is not None


@pytest.mark.parametrize('another', [True, False])
def test_why_a_scan_was_refused_is_not_said_of_later_images(drive, another):
    if another:
        drive.scan(START)
    drive.scan(0, START + MS)
    drive.image(START + 2 * MS)
    drive.image(START + 10 * S)
    read = drive.read()
    assert [item.frame.points_lidar is not None for item in read] == [another, False]
    assert ['the stamp is 0' in item.warning for item in read] == [not another, False]


def test_an_image_without_a_frame_is_in_that_of_its_camera_info(drive):
    drive.info(START)
    drive.image(START, header={'stamp': START})
    drive.scan(START)
    (item,) = drive.read()
    assert item.frame_id == 'camera'
    assert item.frame.T_cam_lidar[:3, 3].tolist() == [1, 2, 3]


@pytest.mark.parametrize('stamped', [True, False])
def test_the_camera_of_a_depth_image_is_the_last_before_it(drive, stamped):
    for tick in range(4):
        drive.image(START + tick * S - 40 * MS)
        fields = vars(encode_depth(np.full((8, 12), 5.0)))
        drive.add('/tof/sparse_depth', 'Image', fields, START + tick * S, 1500 * MS, 'lidar')
        camera = Camera(np.diag([10.0 + tick, 10.0 + tick, 1.0]), 12, 8)
        fields = camera_info_fields(camera)
        times = (START + tick * S, 0) if stamped else (0, START + tick * S)
        drive.add('/tof/camera_info', 'CameraInfo', fields, *times, frame_id='lidar')
    focal = [item.frame.lidar.sparse_camera.K[0, 0] for item in drive.read(depth_topics())]
    assert focal == [10.0, 11.0, 12.0, 13.0]


def test_after_a_clock_jump_the_last_camera_of_a_depth_image_counts(drive):
    for second in (0, 5):
        fields = camera_info_fields(Camera(np.diag([10.0 + second] * 2 + [1.0]), 12, 8))
        drive.add('/tof/camera_info', 'CameraInfo', fields, START + second * S, frame_id='lidar')
    for tenth, delay in ((0, 0), (40, 0), (41, 0), (20, 4 * S), (21, 4 * S)):
        stamp = START + tenth * 100 * MS
        drive.image(stamp, delay)
        fields = vars(encode_depth(np.full((8, 12), 5.0)))
        drive.add('/tof/sparse_depth', 'Image', fields, stamp, delay, 'lidar')
    focal = [item.frame.lidar.sparse_camera.K[0, 0] for item in drive.read(depth_topics())]
    assert focal == [10.0, 10.0, 10.0, 15.0, 15.0]


@pytest.mark.parametrize('seconds', [-1000, 1000])
@pytest.mark.parametrize('kind', ['image', 'info', 'scan', 'truth', 'poses'])
def test_a_lone_stamp_that_is_out_of_order_costs_its_own_message_only(drive, kind, seconds):
    for tick in range(10):
        stamp = START + tick * 100 * MS
        for name in ('info', 'image', 'truth', 'scan', 'poses'):
            off = seconds * S if (name, tick) == (kind, 5) else 0
            getattr(drive, name)(stamp + off, -off)
    read = drive.read(config=LidarConfig(fixed_frame='odom'))
    assert all(item.frame is None or item.frame.T_world_camera is not None for item in read)
    lost = [item for item in read if item.error is not None]
    refused = [('stamp', START + 500 * MS)] if kind == 'image' else []  # as it was recorded
    assert [(item.error.cause, item.stamp_ns) for item in lost] == refused
    without = [item for item in read if item.error is None and item.frame.points_lidar is None]
    assert [item.stamp_ns for item in without] == ([START + 500 * MS] if kind == 'scan' else [])
    assert all('out of order' in item.warning for item in without)
    assert not any('jumped' in item.warning for item in read)


def test_a_lone_stamp_right_after_a_clock_jump_costs_its_own_image_only(drive):
    for log, stamp in enumerate((0, 1, 10_000, 10_001, 2, 10_002, 3)):
        stamp_ns = START + stamp * 100 * MS
        drive.image(stamp_ns, START + log * 100 * MS - stamp_ns)
    read = drive.read()
    assert [item.error is not None for item in read] == 4 * [False] + [True, False, True]
    assert ['jumped' in item.warning for item in read].count(True) == 1


def test_a_further_sensor_without_stamps_leaves_the_others_alone(drive):
    for tick in range(4):
        drive.image(START + tick * 100 * MS)
        if tick > 0:
            drive.scan(START + tick * 100 * MS)
        cloud = vars(encode_cloud(np.ones((1, 4), CLOUD)))
        drive.add('/radar', 'PointCloud2', cloud, 0, START + tick * 100 * MS, frame_id='lidar')
    drive.read()
    topics = BagTopics('/camera/image', lidar='/lidar', further=('/radar',))
    with BagReader(drive.path) as reader:
        read = list(bag_frames(reader, topics, LidarConfig(), np.eye(4)))
    found = [[one.points_lidar is not None for one in item.frame.inputs] for item in read]
    assert found == [[False, False]] + [[True, False]] * 3
    reasons = [str(one.no_points) for one in read[0].frame.inputs]
    assert ['the stamp is 0' in reason for reason in reasons] == [False, True]
    given = [one.T_cam_lidar is not None for one in read[1].frame.inputs]
    assert given == [True, False]  # extrinsics are those of the first
    assert 'the stamp is 0' in read[0].warning
