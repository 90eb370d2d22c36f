# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the node is started with to play a bag, and the order in which messages are sent."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros import synthetic
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig, NodeConfig
from marigold_ros.errors import BagError, CalibrationError
from marigold_ros.evaluation.protocols.held_out import hold_out
from marigold_ros.frame import Camera
from marigold_ros.live_run.played_bag import (
    FIT_EVERY,
    node_arguments,
    node_values,
    played_messages,
    prepare_bag,
    scans_first,
    serial_messages,
    SerialMessage,
    synthetic_drive,
)
from marigold_ros.message_codec import (
    camera_info_fields,
    encode_cloud,
    encode_depth,
    encode_image,
    encode_jpeg,
    serialised_header_ns,
    to_organised,
    to_points,
)
from marigold_ros.synthetic.drive.drive import write_drive
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores
import yaml

MS = 1_000_000
STORE = get_typestore(Stores.ROS2_HUMBLE)


def test_a_depth_image_is_played_without_extrinsics(tmp_path):
    images = {
        '/camera/image': encode_image(np.zeros((4, 6, 3), np.uint8), 'rgb8'),
        '/tof/sparse_depth': encode_depth(np.ones((4, 6))),
    }
    with BagWriter(tmp_path / 'bag') as bag:
        for topic, fields in images.items():
            header = {'frame_id': 'camera'}
            bag.write(topic, 'sensor_msgs/msg/Image', {'header': header, **vars(fields)}, 10**9)
    bag = prepare_bag(tmp_path / 'bag', NodeConfig(), None)
    assert bag.T_cam_lidar is None
    values = node_values(bag, NodeConfig(), every_frame=False)
    assert values['sparse_source'] == 'depth_image'
    assert 'sparse_depth:=/tof/sparse_depth' in node_arguments(bag, values)


def bag_with_mount(path, *metres, tenths=(0, 4, 5, 6)):
    """Write a bag whose LiDAR is so far below the camera by /tf, at tenths of a second."""
    fields = vars(encode_image(np.zeros((4, 6, 3), np.uint8), 'rgb8'))
    cloud = vars(encode_cloud(np.ones((1, 9), [(axis, 'f4') for axis in 'xyz'])))
    with BagWriter(path) as bag:
        for tenth, down in zip(tenths, metres, strict=False):
            stamp = 10**9 + tenth * 100 * MS
            header = {'stamp': stamp, 'frame_id': 'camera'}
            mount = {
                'header': header,
                'child_frame_id': 'lidar',
                'transform': {'translation': (0, down, 0), 'rotation': (0, 0, 0, 1)},
            }
            bag.write('/tf', 'tf2_msgs/msg/TFMessage', {'transforms': [mount]}, stamp)
            bag.write('/image', 'sensor_msgs/msg/Image', {'header': header, **fields}, stamp)
            header = {**header, 'frame_id': 'lidar'}
            bag.write('/points', 'sensor_msgs/msg/PointCloud2', {'header': header, **cloud}, stamp)
    return path


def test_a_mounting_that_is_recorded_on_tf_counts_where_it_stays_the_same(tmp_path):
    found = prepare_bag(bag_with_mount(tmp_path / 'fixed', 0.3, 0.3, 0.3, 0.3), NodeConfig(), None)
    np.testing.assert_allclose(found.T_cam_lidar[:3, 3], (0, 0.3, 0))
    assert found.period == pytest.approx(0.1)  # a gap is no period
    for moved in (0.2, 0.4):
        with pytest.raises(CalibrationError, match="'lidar' moves against 'camera' in /tf"):
            prepare_bag(bag_with_mount(tmp_path / str(moved), 0.3, moved), NodeConfig(), None)


def test_compressed_images_are_played_where_image_transport_finds_them(tmp_path):
    kind, fields = 'sensor_msgs/msg/CompressedImage', encode_jpeg(np.zeros((4, 6, 3), np.uint8))
    header = {'stamp': 7 * 10**9, 'frame_id': 'camera'}
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/cam', kind, {'header': header, **vars(fields)}, 10**9)
        bag.write_raw('/cam', kind, b'\0\1\0\0', 2 * 10**9, STORE)  # cut off
    bag = prepare_bag(tmp_path / 'bag', NodeConfig(), None)
    assert (bag.images, dict(bag.inputs)) == (2, {'image': ('/cam/compressed', kind)})
    values = node_values(bag, NodeConfig(), every_frame=False)
    assert values['image_transport'] == 'compressed'
    assert 'image:=/cam' in node_arguments(bag, values)
    with BagReader(bag.path) as reader:
        sent = [(m.role, m.stamp_ns, m.log_ns) for m in played_messages(reader, bag)]
    assert sent == [('image', 7 * 10**9, 10**9), ('image', 2 * 10**9, 2 * 10**9)]


@pytest.fixture
def tof_bag(short_drive, tmp_path):
    """The short drive with a depth camera 0.1 m in front of the camera, and of another size."""
    with BagReader(short_drive) as reader, BagWriter(tmp_path / 'bag') as writer:
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            if topic != '/velodyne_points':
                writer.write_raw(topic, msgtype, data, log_ns, reader.types)
        header = {'stamp': log_ns, 'frame_id': 'tof'}
        camera = camera_info_fields(Camera(np.diag([30.0, 30.0, 1.0]), 6, 4))
        depth = vars(encode_depth(np.ones((4, 6))))
        info, image = 'sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/Image'
        writer.write('/tof/camera_info', info, {'header': header, **camera}, log_ns)
        writer.write('/tof/sparse_depth', image, {'header': header, **depth}, log_ns)
        mount = {
            'header': {'frame_id': 'camera_optical'},
            'child_frame_id': 'tof',
            'transform': {'translation': (0.0, 0.0, 0.1), 'rotation': (0.0, 0, 0, 1)},
        }
        writer.write('/tf_static', 'tf2_msgs/msg/TFMessage', {'transforms': [mount]}, log_ns)
    return tmp_path / 'bag'


def test_a_depth_camera_is_played_with_its_camera_info_and_its_pose(tof_bag):
    bag = prepare_bag(tof_bag, NodeConfig(), None)
    values = node_values(bag, NodeConfig(), every_frame=False)
    assert values['sparse_source'] == 'depth_image'
    assert values['extrinsics.translation'] == (0.0, 0.0, 0.1)
    assert bag.inputs['depth_info'] == ('/tof/camera_info', 'sensor_msgs/msg/CameraInfo')
    assert not any('depth_info' in argument for argument in node_arguments(bag, values))
    with BagReader(tof_bag) as reader:
        sent = Counter(message.role for message in played_messages(reader, bag))
    assert (sent['depth_info'], sent['lidar']) == (1, 1)
    assert set(prepared(tof_bag, 'ground')[0].inputs) == {'image', 'camera_info'}


def test_the_node_has_size_and_kind_of_the_images_beforehand_and_waits_for_scans(short_drive):
    bag = prepare_bag(short_drive, NodeConfig(), None)
    values = node_values(bag, NodeConfig(), every_frame=True)
    expected = {'runtime.warm_up': '72x96', 'image_rectified': 'no', 'lidar.wait': 1.0}
    assert values.items() >= expected.items()


def test_a_path_with_letters_beyond_16_bits_reaches_the_node(short_drive):
    bag, path = prepare_bag(short_drive, NodeConfig(), None), '/home/é/𝄞 "😀"/model'
    argument = node_arguments(bag, {'model': path})[2]
    assert yaml.safe_load(argument.partition(':=')[2]) == path


@pytest.fixture
def mixed_bag(short_drive, tmp_path):
    """The short drive with a radar at the camera, whose frame is 0.5 m in front of it."""
    with BagReader(short_drive) as reader, BagWriter(tmp_path / 'bag') as writer:
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            writer.write_raw(topic, msgtype, data, log_ns, reader.types)
        cloud = encode_cloud(np.ones((1, 3), [(axis, '<f4') for axis in 'xyz']))
        fields = {'header': {'stamp': log_ns, 'frame_id': 'radar'}, **vars(cloud)}
        writer.write('/radar/points', 'sensor_msgs/msg/PointCloud2', fields, log_ns)
        mount = {
            'header': {'frame_id': 'camera_optical'},
            'child_frame_id': 'radar',
            'transform': {'translation': (0.0, 0.0, 0.5), 'rotation': (0.0, 0, 0, 1)},
        }
        writer.write('/tf_static', 'tf2_msgs/msg/TFMessage', {'transforms': [mount]}, log_ns)
    return tmp_path / 'bag'


def prepared(path, sources):
    config = NodeConfig(sparse_source=sources)
    bag = prepare_bag(path, config, None)
    return bag, node_values(bag, config, every_frame=False)


def test_several_sources_are_played_with_the_lidar_first(mixed_bag):
    bag, values = prepared(mixed_bag, 'ground,radar,pointcloud')
    assert values['sparse_source'] == 'pointcloud,ground,radar'
    arguments = node_arguments(bag, values)
    assert 'lidar:=/velodyne_points' in arguments
    assert 'radar:=/radar/points' in arguments
    assert set(bag.inputs) == {'image', 'camera_info', 'lidar', 'radar'}
    with BagReader(mixed_bag) as reader:
        sent = Counter(message.role for message in played_messages(reader, bag))
    assert (sent['lidar'], sent['radar']) == (3, 1)


def test_without_the_lidar_the_node_has_the_pose_of_the_first_sensor(mixed_bag):
    bag, values = prepared(mixed_bag, 'radar,ground')
    assert not bag.sees_lidar
    assert not bag.thinned
    assert 'lidar' not in bag.inputs
    assert values['extrinsics.translation'] == (0.0, 0.0, 0.5)
    assert not np.allclose(bag.T_cam_lidar, bag.T_cam_sensor)


def test_the_pose_is_that_of_the_first_sensor_that_needs_one(mixed_bag):
    with BagReader(mixed_bag) as reader, BagWriter(mixed_bag.parent / 'more') as writer:
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            writer.write_raw(topic, msgtype, data, log_ns, reader.types)
        depth = vars(encode_depth(np.ones((4, 6))))
        fields = {'header': {'stamp': log_ns, 'frame_id': 'camera_optical'}, **depth}
        writer.write('/tof/sparse_depth', 'sensor_msgs/msg/Image', fields, log_ns)
    _, values = prepared(mixed_bag.parent / 'more', 'depth_image,radar')
    assert values['sparse_source'] == 'radar,depth_image'
    assert values['extrinsics.translation'] == (0.0, 0.0, 0.5)


def test_the_lidar_is_played_where_nothing_else_is_asked_for(mixed_bag):
    bag, values = prepared(mixed_bag, 'pointcloud')
    assert (bag.sources, bag.sees_lidar) == (('pointcloud',), True)
    assert set(bag.inputs) == {'image', 'camera_info', 'lidar'}


def test_a_drive_is_written_once_and_anew_for_other_code_or_a_damaged_note(tmp_path, monkeypatch):
    bag = synthetic_drive(tmp_path, 1, 64, 48)
    (tmp_path / 'drive.json').write_bytes(b'{')  # as a full disk leaves it
    stamps = []
    for code in (synthetic.__file__, synthetic.__file__, str(tmp_path / 'other' / '__init__.py')):
        monkeypatch.setattr(synthetic, '__file__', code)
        assert synthetic_drive(tmp_path, 1, 64, 48) == bag
        stamps.append((bag / 'metadata.yaml').stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2]


@pytest.mark.parametrize('rows', [1, 2])
@pytest.mark.parametrize('row_step', [0, 7, 1 << 24])
def test_thinned_scans_are_the_same_whatever_length_their_rows_have(
    changed_drive, tmp_path, row_step, rows
):
    def play(name, fields):
        def change(topic, message, log_ns):
            scan = topic == '/velodyne_points'
            changes = dict(fields) if scan else {}
            if changes and message.width % rows == 0:
                changes.update(height=rows, width=message.width // rows)
            return None if 'truth' in topic else (topic, changes, log_ns)

        path = changed_drive(tmp_path / name, change)
        bag = prepare_bag(path, NodeConfig(), None)
        assert bag.thinned
        with BagReader(path) as reader:
            return [m.data for m in played_messages(reader, bag) if m.role == 'lidar']

    assert play('odd', {'row_step': row_step}) == play('usual', {})


def test_of_a_planar_laser_the_degrees_of_the_fit_are_sent(changed_drive, tmp_path):
    def change(topic, message, log_ns):
        if topic != '/velodyne_points':
            return None if 'truth' in topic else (topic, {}, log_ns)
        line = to_organised(message, ('ring',)).ravel() == 20
        data = message.data.reshape(-1, message.point_step)[line]
        data[:, 8:12] = 0  # z, so that all rays are in one plane
        size = {'height': 1, 'width': len(data), 'row_step': data.size}
        return topic, {'data': data.reshape(-1), **size}, log_ns

    path = changed_drive(tmp_path / 'planar', change)
    bag = prepare_bag(path, NodeConfig(), None)
    assert bag.thinned
    with BagReader(path) as reader:
        stream = bag_frames(reader, bag.topics, LidarConfig(), bag.T_cam_lidar)
        config = NodeConfig().pipeline.alignment
        splits = [(f.frame, hold_out(f.frame, config, FIT_EVERY, f.ring)) for f in stream]
        sent = [m for m in played_messages(reader, bag) if m.role == 'lidar']
        clouds = [to_points(reader.decode(m.data, m.msgtype)) for m in sent]
    assert len(clouds) == len(splits) > 0
    for points, (frame, split) in zip(clouds, splits, strict=True):
        np.testing.assert_array_equal(points, split.to_fit(frame).points_lidar)
        assert len(split.score) > 0


def message(role, stamp_ms, log_ms):
    return SerialMessage(role, '', b'', stamp_ms * MS, log_ms * MS)


def order(messages):
    return [(m.role, m.stamp_ns // MS) for m in scans_first(messages)]


def test_images_wait_for_the_scan_that_settles_the_one_before():
    late = [message('image', 100 * n, 100 * n) for n in range(3)]
    late += [message('lidar', 100 * n, 100 * n + 150) for n in range(3)]
    late.sort(key=lambda m: m.log_ns)
    names = [('image', 0), ('lidar', 0), ('image', 100), ('lidar', 100), ('image', 200)]
    assert order(late) == [*names, ('lidar', 200)]


@pytest.mark.parametrize('ends_ms', [0, 600])
def test_images_wait_for_the_scans_of_all_sensors_but_not_for_a_silent_one(ends_ms):
    stream = []
    for n in range(30):
        stream += [message(role, 100 * n, 100 * n) for role in ('image', 'depth_image')]
        stream += [message('lidar', 100 * n, 100 * n + 150)]
    stream += [message('radar', n, n) for n in range(0, ends_ms, 50)]
    stream.sort(key=lambda m: m.log_ns)
    sent, played, ahead = None, set(), 0
    for item in scans_first(stream, ('lidar', 'depth_image', 'radar')):
        if item.role != 'image':
            played.add((item.role, item.stamp_ns))
            continue
        if sent is not None:
            assert {('lidar', sent), ('depth_image', sent)} <= played
            ahead = max(ahead, max(stamp for _, stamp in played) - sent)
        sent = item.stamp_ns
    assert ahead < 1500 * MS


def test_a_scan_right_behind_its_image_changes_nothing():
    stream = []
    for n in range(4):
        stream += [message('camera_info', 100 * n, 100 * n), message('image', 100 * n, 100 * n)]
        stream += [message('lidar', 100 * n + 3, 100 * n + 3)]
    played = list(scans_first(stream))
    assert [m for m in played if m.role != 'camera_info'] == [
        m for m in stream if m.role != 'camera_info'
    ]


def test_without_scans_images_are_held_for_two_seconds():
    stream = [message('image', 100 * n, 100 * n) for n in range(100)]
    held = 0
    for sent, _ in enumerate(scans_first(iter_counting(stream, counter := [0])), 1):
        held = max(held, counter[0] - sent)
    assert held <= 22


def iter_counting(items, counter):
    for item in items:
        counter[0] += 1
        yield item


@given(
    st.lists(
        st.tuples(
            st.sampled_from(('image', 'camera_info', 'lidar')),
            st.integers(0, 5000),
            st.integers(0, 5000),
        ),
        max_size=40,
    )
)
def test_nothing_is_lost_and_the_order_within_a_topic_stays(drawn):
    stream = sorted((message(*values) for values in drawn), key=lambda m: m.log_ns)
    played = list(scans_first(stream))
    for role in ('image', 'camera_info', 'lidar'):
        assert [m for m in played if m.role == role] == [m for m in stream if m.role == role]


@pytest.mark.parametrize('little_endian', [True, False])
def test_the_stamp_is_read_from_the_serialised_header(little_endian):
    types = STORE.types
    stamp = types['builtin_interfaces/msg/Time'](1_700_000_000, 123_456_789)
    header = types['std_msgs/msg/Header'](stamp, 'camera')
    data = STORE.serialize_cdr(header, 'std_msgs/msg/Header', little_endian=little_endian)
    assert serialised_header_ns(data) == 1_700_000_000_123_456_789


def test_too_few_bytes_have_no_stamp():
    assert serialised_header_ns(b'\x00\x01\x00\x00') is None
    assert serialised_header_ns(b'') is None


def test_a_limit_counts_images_and_true_depth_is_not_played(tmp_path):
    bag = write_drive(tmp_path / 'drive', 3, width=64, height=48)
    with BagReader(bag) as reader:
        topics = reader.choose_topics()
        roles = [m.role for m in serial_messages(reader, topics, 2)]
        total = sum(1 for _ in serial_messages(reader, topics))
    assert roles.count('image') == roles.count('lidar') == 2
    assert total == 9


def test_a_ros_1_bag_is_refused_with_the_remedy(tmp_path):
    class Reader:
        path = tmp_path / 'old.bag'

    with pytest.raises(BagError, match='rosbags-convert'):
        list(serial_messages(Reader(), None))
