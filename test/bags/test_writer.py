# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bags that are written can be read, say what Humble needs, and appear only when complete."""

import os
import signal
import subprocess
import sys

from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter, remove_partial
from marigold_ros.errors import BagError, WriteError
from marigold_ros.message_codec import encode_cloud, encode_image, to_points, to_rgb
import numpy as np
import pytest
from ruamel.yaml import YAML

STAMP = 1_700_000_000_123_456_789
IMAGE = 'sensor_msgs/msg/Image'


def image_array():
    return np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)


def transform(x=1.0):
    return {
        'header': {'stamp': STAMP, 'frame_id': 'base'},
        'child_frame_id': 'lidar',
        'transform': {'translation': {'x': x}, 'rotation': (0.0, 0.0, 0.0, 1.0)},
    }


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_what_is_written_is_read_back(tmp_path, storage):
    path = tmp_path / 'new' / 'drive'
    open_files = len(os.listdir('/proc/self/fd'))
    cloud = np.zeros((1, 3), [(name, '<f4') for name in 'xyz'])
    cloud['x'] = [[1, 2, 3]]
    with BagWriter(path, storage) as bag:
        image = {'header': {'frame_id': 'camera'}, **vars(encode_image(image_array(), 'rgb8'))}
        bag.write('/image', IMAGE, image, STAMP)
        bag.write('/points', 'sensor_msgs/msg/PointCloud2', vars(encode_cloud(cloud)), STAMP + 1)
        bag.write('/tf_static', 'tf2_msgs/msg/TFMessage', {'transforms': [transform()]}, STAMP + 2)
        assert not path.exists()
    with BagReader(path) as reader:
        assert {name: info.count for name, info in reader.topics.items()} == {
            '/image': 1,
            '/points': 1,
            '/tf_static': 1,
        }
        read = {topic: (m, t) for topic, m, t in reader.messages(['/image', '/points'])}
        image, log_ns = read['/image']
        assert log_ns == STAMP
        assert image.header.stamp.sec * 10**9 + image.header.stamp.nanosec == STAMP
        assert image.header.frame_id == 'camera'
        np.testing.assert_array_equal(to_rgb(image), image_array())
        assert to_points(read['/points'][0])[:, 0].tolist() == [1, 2, 3]
        assert reader.static_transforms().lookup('base', 'lidar')[0, 3] == 1.0
    assert [entry.name for entry in path.parent.iterdir()] == ['drive']
    assert len(os.listdir('/proc/self/fd')) <= open_files


def test_metadata_is_what_humble_reads(tmp_path):
    with BagWriter(tmp_path / 'bag', latched=['/map']) as bag:
        bag.write('/image', IMAGE, vars(encode_image(image_array(), 'rgb8')), STAMP)
        bag.write('/map', IMAGE, vars(encode_image(image_array(), 'rgb8')), STAMP)
        bag.write('/tf_static', 'tf2_msgs/msg/TFMessage', {'transforms': [transform()]}, STAMP)
    text = (tmp_path / 'bag' / 'metadata.yaml').read_text()
    information = YAML(typ='safe').load(text)['rosbag2_bagfile_information']
    assert information['version'] == 8
    assert information['storage_identifier'] == 'mcap'
    assert information['relative_file_paths'] == ['bag.mcap']
    profiles = {}
    for topic in information['topics_with_message_count']:
        offered = topic['topic_metadata']['offered_qos_profiles']
        assert isinstance(offered, str)
        (profiles[topic['topic_metadata']['name']],) = YAML(typ='safe').load(offered)
    # rmw: reliability 1 reliable; durability 1 transient local, 2 volatile.
    wanted = {'/image': (1, 2), '/map': (1, 1), '/tf_static': (1, 1)}
    for name, profile in profiles.items():
        assert (profile['reliability'], profile['durability']) == wanted[name]


def test_raw_messages_are_copied_byte_for_byte(tmp_path):
    with BagWriter(tmp_path / 'a') as bag:
        bag.write('/image', IMAGE, vars(encode_image(image_array(), 'bgr8')), STAMP)
    with BagReader(tmp_path / 'a') as reader, BagWriter(tmp_path / 'b') as copy:
        for topic, msgtype, data, log_ns in reader.raw(['/image']):
            copy.write_raw(topic, msgtype, data, log_ns)
            first = bytes(data)
    with BagReader(tmp_path / 'b') as reader:
        assert [bytes(data) for _, _, data, _ in reader.raw(['/image'])] == [first]


def test_a_failed_run_leaves_nothing_behind(tmp_path):
    def interrupted():
        with BagWriter(tmp_path / 'bag') as bag:
            bag.write('/image', IMAGE, vars(encode_image(image_array(), 'rgb8')), STAMP)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_path_is_never_touched(tmp_path):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'a disk that is not there')
    for name in ('bag', 'link'):
        with pytest.raises(BagError, match='exists already'), BagWriter(tmp_path / name):
            pass


@pytest.mark.parametrize(
    ('msgtype', 'fields', 'words'),
    [
        ('sensor_msgs/msg/Photo', {}, 'unknown'),
        (IMAGE, {'heigth': 3}, 'Image has no heigth; it has .*height'),
        (IMAGE, {'height': 'tall'}, 'cannot write'),
        (IMAGE, {'header': {'stamp': {'sec': 3.7}}}, 'sec has the value 3.7, which is no int32'),
        (IMAGE, {'data': np.array([1, 300])}, 'data has the value 300, which is no uint8'),
        ('sensor_msgs/msg/CameraInfo', {'k': [1.0, 2.0]}, 'cannot write'),
    ],
)
def test_fields_that_do_not_fit_their_type_are_refused(tmp_path, msgtype, fields, words):
    with BagWriter(tmp_path / 'bag') as bag, pytest.raises(BagError, match=words):
        bag.write('/topic', msgtype, fields, STAMP)


def test_wrong_uses_are_refused(tmp_path):
    with pytest.raises(BagError, match='storage'):
        BagWriter(tmp_path / 'bag', storage='zip')
    writer = BagWriter(tmp_path / 'bag')
    with pytest.raises(BagError, match='not open'):
        writer.write_raw('/image', IMAGE, b'', 0)
    with writer:
        writer.write('/image', IMAGE, {}, 0)
        with pytest.raises(BagError, match='name the type as'):
            writer.write_raw('/other', 'sensor_msgs/msg/Photo', b'', 0)


def test_a_bag_that_cannot_be_begun_leaves_nothing_behind(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='folder you may write to'):
        BagWriter(tmp_path / 'file' / 'bag').__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ['file']


KILLED = """
import os, signal, sys
from marigold_ros.bags.writer import BagWriter
with BagWriter(sys.argv[1]) as bag:
    bag.write('/image', 'sensor_msgs/msg/Image', {}, 0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path):
    path = tmp_path / 'bag[1]'
    run = [sys.executable, '-c', KILLED, path]
    assert subprocess.run(run, check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / '.bag[1].settings').mkdir()
    with BagWriter(path) as bag:
        assert not left.exists()
        remove_partial(tmp_path)
        bag.write('/image', IMAGE, {}, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.bag[1].settings', 'bag[1]']


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_full_disk_is_called_one_and_leaves_nothing(tmp_path, storage, full_disk):
    image = {'height': 1000, 'width': 1000, 'data': np.zeros(1_000_000, np.uint8)}
    with full_disk(1 << 21), pytest.raises(WriteError, match='free some space'):
        write_images(tmp_path / 'bag', storage, image)
    assert list(tmp_path.iterdir()) == []


def write_images(path, storage, image):
    with BagWriter(path, storage) as bag:
        for number in range(5):
            bag.write('/image', IMAGE, image, number)


def test_what_is_noted_about_a_bag_is_read_again(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.note('a', 'b: &c')
        bag.write('/image', IMAGE, {}, 5)
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.about == {'a': 'b: &c'}
        assert reader.contents == '1 messages from 5 to 6 ns'


def test_lists_of_texts_and_inner_messages_are_written(tmp_path):
    header = {'frame_id': 'arm'}
    for name in ('a', 'b'):
        with BagWriter(tmp_path / name) as bag:
            fields = {'header': header, 'name': ['x', 'y']}
            bag.write('/joints', 'sensor_msgs/msg/JointState', fields, STAMP)
        with BagReader(tmp_path / name) as reader:
            message = reader.first('/joints')
        header = message.header  # is written next
        assert message.name == ['x', 'y']
        assert (header.frame_id, header.stamp.sec) == ('arm', STAMP // 10**9)
