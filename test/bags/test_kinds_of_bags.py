# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
One drive as every kind of bag there is: the very same frames come out of each.

The kinds are written by the writers of rosbags (ROS 1 and 2, whole and compressed) and, where it
has none, by hand from the format's definition: MCAP chunks compressed with lz4, and metadata of
the first version.
"""

import os
import shutil
import sqlite3
import struct

try:
    from compression import zstd
except ImportError:
    from backports import zstd
import lz4.frame
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.guarded import Chunks
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig
from marigold_ros.errors import BagError
from marigold_ros.replay.bag_label import label_name
from marigold_ros.synthetic.drive.drive import write_drive
import numpy as np
import pytest
from rosbags import rosbag1
from rosbags.convert import convert
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import yaml


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp('drive') / 'drive', frames=2, width=64, height=48)


def frames_of(path, **choice):
    with BagReader(path) as reader:
        return list(bag_frames(reader, reader.choose_topics(**choice), LidarConfig()))


@pytest.fixture(scope='module')
def expected(drive):
    return frames_of(drive)


def same(found, expected):
    assert len(found) == len(expected) == 2
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.error is None
        assert (mine.stamp_ns, mine.scan_stamp_ns) == (theirs.stamp_ns, theirs.scan_stamp_ns)
        for name in ('rgb', 'points_lidar', 'T_cam_lidar'):
            pair = getattr(mine.frame, name), getattr(theirs.frame, name)
            np.testing.assert_array_equal(*pair, err_msg=name)
        np.testing.assert_array_equal(mine.frame.camera.K, theirs.frame.camera.K)
        np.testing.assert_array_equal(mine.truth, theirs.truth)
        np.testing.assert_array_equal(mine.ring, theirs.ring)


def rewritten(drive, path, storage, keep=lambda log_ns: True, **options):
    """Copy with the writer of rosbags itself."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    with BagReader(drive) as reader:
        writer = Writer(path, version=8, storage_plugin=storage)
        if options:
            writer.set_compression(**options)
        with writer:
            connections = {}
            for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
                if not keep(log_ns):
                    continue
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
                writer.write(connections[topic], log_ns, bytes(data))
    return path


def file_of(folder):
    (path,) = (p for p in folder.iterdir() if p.suffix != '.yaml')
    return path


STORAGES = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('alone', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_both_storages_as_folder_and_as_file(drive, expected, tmp_path, storage, alone):
    bag = rewritten(drive, tmp_path / 'bag', storage)
    same(frames_of(file_of(bag) if alone else bag), expected)


def test_a_link_may_lead_to_a_file_without_suffix(drive, expected, tmp_path):
    """Hugging Face and DVC keep files so, named by their hashes."""
    link = tmp_path / 'bag.mcap'
    link.symlink_to(shutil.copy(file_of(drive), tmp_path / 'd0c5a7'))
    same(frames_of(link), expected)
    assert label_name(link) == 'bag'


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_with_zstd(drive, expected, tmp_path, storage, mode):
    options = {'mode': mode, 'fmt': CompressionFormat.ZSTD}
    same(frames_of(rewritten(drive, tmp_path / 'bag', storage, **options)), expected)


def test_a_damaged_file_of_compressed_messages_is_not_read_as_if_they_were_not(drive, tmp_path):
    """Its metadata.yaml alone says how they are compressed."""
    options = {'mode': CompressionMode.MESSAGE, 'fmt': CompressionFormat.ZSTD}
    bag = rewritten(drive, tmp_path / 'bag', StoragePlugin.MCAP, **options)
    path = file_of(bag)
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(BagError, match='cannot read .* as a bag'), BagReader(bag):
        pass


def record(code, body):
    return struct.pack('<BQ', code, len(body)) + body


def records_of(data):
    """Yield code and content of the records of an .mcap file, or of a chunk."""
    place = 0
    while place < len(data):
        code, length = struct.unpack_from('<BQ', data, place)
        yield code, data[place + 9 : place + 9 + length]
        place += 9 + length


def unindexed(data, pack):
    """Copy an uncompressed .mcap without profile and summary, chunks packed by a function."""
    out, chunks = bytearray(data[:8] + record(0x01, bytes(8))), 0
    for code, body in records_of(data[8:-8]):
        if code == 0x0F:  # the data section ends
            break
        if code == 0x06:
            out += pack(body[:28], body[40:])
            chunks += 1
        elif code in (0x03, 0x04):
            out += record(code, body)
    assert chunks
    end = record(0x0F, bytes(4)) + record(0x02, bytes(20))
    return bytes(out) + end + data[:8]


PACKERS = {'': bytes, 'lz4': lz4.frame.compress, 'zstd': zstd.compress}


@pytest.mark.parametrize('name', PACKERS)
def test_compressed_mcap_chunks_without_an_index(drive, expected, tmp_path, name):
    def pack(head, content):
        packed = PACKERS[name](content)
        head += struct.pack('<I', len(name)) + name.encode() + struct.pack('<Q', len(packed))
        return record(0x06, head + packed)

    path = tmp_path / 'bag.mcap'
    path.write_bytes(unindexed(file_of(drive).read_bytes(), pack))
    same(frames_of(path), expected)


def test_an_mcap_without_chunks_may_be_out_of_order(drive, expected, tmp_path):
    """So does the preset fastwrite of rosbag2 record, where topics overtake each other."""

    def exchanged(head, content):
        found = [record(*one) for one in records_of(content)]
        messages = [one for one in found if one[0] == 0x05]
        messages[1::2], messages[::2] = messages[::2], messages[1::2]
        return b''.join([one for one in found if one[0] != 0x05] + messages)

    path = tmp_path / 'bag.mcap'
    path.write_bytes(unindexed(file_of(drive).read_bytes(), exchanged))
    same(frames_of(path), expected)


def test_an_mcap_may_index_its_chunks_and_not_their_messages(drive, expected, tmp_path):
    """So does rosbag2 record with the option noMessageIndex."""
    data = file_of(drive).read_bytes()
    (summary,) = struct.unpack_from('<Q', data, len(data) - 28)
    out = bytearray(data[:summary])
    for code, body in records_of(data[summary:-8]):
        if code == 0x08:
            (length,) = struct.unpack_from('<I', body, 32)
            body = body[:32] + bytes(12) + body[32 + 12 + length :]
        out += record(code, body)
    path = tmp_path / 'bag.mcap'
    path.write_bytes(bytes(out) + data[:8])
    same(frames_of(path), expected)


def joined(drive, bag, parts, metadata=True):
    """Join bags as the files of one; the metadata names other QoS than they do."""
    bag.mkdir()
    names = []
    for number, part in enumerate(parts):
        names.append(f'bag_{number + 9}{file_of(part).suffix}')  # 10 comes after 9, not before
        shutil.copy(file_of(part), bag / names[-1])
    if metadata:
        facts = yaml.safe_load((drive / 'metadata.yaml').read_text())
        kind = {'mcap': 'mcap', 'db3': 'sqlite3'}[names[0].partition('.')[2]]
        facts['rosbag2_bagfile_information'].update(
            {'storage_identifier': kind, 'relative_file_paths': names}
        )
        (bag / 'metadata.yaml').write_text(yaml.safe_dump(facts))
    return bag


def halves(drive, tmp_path, storage, middle):
    return [
        rewritten(drive, tmp_path / 'early', storage, lambda log_ns: log_ns <= middle),
        rewritten(drive, tmp_path / 'late', storage, lambda log_ns: log_ns > middle),
    ]


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('metadata', [False, True])
def test_split_with_and_without_metadata(drive, expected, tmp_path, storage, metadata):
    """The metadata names other QoS than the files, as that of `ros2 bag reindex` does."""
    parts = halves(drive, tmp_path, storage, expected[1].stamp_ns - 1)
    whole = rewritten(drive, tmp_path / 'whole', storage)
    bag = joined(drive, tmp_path / 'bag', parts, metadata)
    (bag / '._bag_9.mcap').write_bytes(b'attributes of macOS')
    same(frames_of(bag), expected)
    with BagReader(bag) as split, BagReader(whole) as one:
        assert split.topics == one.topics


def by_time(path):
    with BagReader(path) as reader:
        return [(log_ns, topic) for topic, *_, log_ns in reader.raw(list(reader.topics))]


@pytest.mark.parametrize('storage', STORAGES)
def test_files_that_overlap_or_are_listed_out_of_order_are_read_by_time(drive, tmp_path, storage):
    true = by_time(drive)
    early, late = halves(drive, tmp_path, storage, true[len(true) // 2][0])
    assert by_time(joined(drive, tmp_path / 'swapped', [late, early])) == true
    odd = {log_ns for log_ns, _ in true[1::2]}
    parts = [
        rewritten(drive, tmp_path / 'even', storage, lambda log_ns: log_ns not in odd),
        rewritten(drive, tmp_path / 'odd', storage, odd.__contains__),
    ]
    found = by_time(joined(drive, tmp_path / 'bag', parts))
    assert sorted(found) == sorted(true)
    assert [log_ns for log_ns, _ in found] == [log_ns for log_ns, _ in true]


def test_a_file_is_not_unpacked_before_its_time(drive, expected, tmp_path, monkeypatch):
    parts = halves(drive, tmp_path, StoragePlugin.MCAP, expected[1].stamp_ns - 1)
    bag = joined(drive, tmp_path / 'bag', parts)
    files = set()
    monkeypatch.setattr(Chunks, 'unpack', lambda self, size: files.add(self.path.name))
    with BagReader(bag) as reader:
        messages = reader.raw(list(reader.topics))
        next(messages)
        assert files == {'bag_9.mcap'}
        list(messages)
        assert files == {'bag_9.mcap', 'bag_10.mcap'}


@pytest.mark.parametrize('kept', [0, 100])
def test_metadata_that_are_cut_off_are_noted(drive, expected, tmp_path, kept):
    bag = shutil.copytree(drive, tmp_path / 'drive')
    metadata = bag / 'metadata.yaml'
    metadata.write_bytes(metadata.read_bytes()[:kept])
    found = frames_of(bag)
    assert 'is read without its metadata.yaml' in found[0].warning
    same(found, expected)


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('topics', [{}, {'message_count': 0}])
def test_metadata_that_state_less_than_the_files_hold_are_noted(
    drive, expected, tmp_path, storage, topics
):
    bag = rewritten(drive, tmp_path / 'bag', storage)
    facts = yaml.safe_load((bag / 'metadata.yaml').read_text())
    about = facts['rosbag2_bagfile_information']  # as it is written when a recording begins
    stated = [topic | topics for topic in about['topics_with_message_count'] if topics]
    about |= {'message_count': 0, 'topics_with_message_count': stated}
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(facts))
    found = frames_of(bag)
    assert 'without its metadata.yaml, which is invalid (its files hold 16 messages' in (
        found[0].warning
    )
    same(found, expected)


def test_a_bag_of_the_first_version_without_definitions(drive, expected, tmp_path):
    bag = rewritten(drive, tmp_path / 'bag', StoragePlugin.SQLITE3)
    database = sqlite3.connect(file_of(bag))
    for change in (
        'DROP TABLE message_definitions',
        'DROP TABLE schema',
        'DROP TABLE metadata',
        'ALTER TABLE topics DROP COLUMN offered_qos_profiles',
        'ALTER TABLE topics DROP COLUMN type_description_hash',
    ):
        database.execute(change)
    database.commit()
    database.close()
    facts = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    for topic in facts['topics_with_message_count']:
        topic['topic_metadata'].pop('offered_qos_profiles')
        topic['topic_metadata'].pop('type_description_hash')
    kept = ('storage_identifier', 'relative_file_paths', 'duration', 'starting_time')
    old = {name: facts[name] for name in (*kept, 'message_count', 'topics_with_message_count')}
    (bag / 'metadata.yaml').write_text(
        yaml.safe_dump({'rosbag2_bagfile_information': {**old, 'version': 1}})
    )
    same(frames_of(bag), expected)
    same(frames_of(file_of(bag)), expected)


def ros1_bag(drive, path, packed=None):
    ros1, ros2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
    convert([drive], path, '', 0, packed, '', ros2, ros1, (), (), (), ())
    return path


@pytest.mark.parametrize(
    'packed', [None, *(pytest.param(name, marks=pytest.mark.slow) for name in ('bz2', 'lz4'))]
)
def test_a_bag_of_ros_1(drive, expected, tmp_path, packed):
    same(frames_of(ros1_bag(drive, tmp_path / 'old.bag', packed)), expected)


def test_transforms_of_the_first_tf_of_ros_1_are_read(drive, expected, tmp_path):
    path, connections = tmp_path / 'older.bag', {}
    old = rosbag1.Reader(ros1_bag(drive, tmp_path / 'old.bag'))
    with old as reader, rosbag1.Writer(path) as writer:
        for connection, log_ns, data in reader.messages():
            topic = connection.topic.removesuffix('_static')  # which there was not yet
            kind = connection.msgtype.replace('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
            if topic not in connections:
                definition = {'msgdef': connection.msgdef.data, 'md5sum': connection.digest}
                connections[topic] = writer.add_connection(topic, kind, **definition)
            writer.write(connections[topic], log_ns, data)
    found = frames_of(path)
    np.testing.assert_array_equal(found[0].frame.T_cam_lidar, expected[0].frame.T_cam_lidar)


@pytest.mark.parametrize(
    ('storage', 'encoding'), [('mcap', 'unknown'), ('sqlite3', 'unknown'), ('sqlite3', '')]
)
def test_a_type_that_the_recorder_did_not_find_is_no_damage(
    drive, expected, tmp_path, storage, encoding
):
    with BagReader(drive) as reader, BagWriter(tmp_path / 'bag', storage) as bag:
        for message in reader.raw(list(reader.topics)):
            bag.write_raw(*message)
        bag.write('/feedback', 'std_msgs/msg/String', {'data': 'x'}, message[-1])
    path = file_of(bag.path)
    if storage == 'mcap':
        known, unknown = (b'std_msgs/msg/String\x07\0\0\0' + e for e in (b'ros2msg', b'unknown'))
        path.write_bytes(path.read_bytes().replace(known, unknown))
    else:
        with sqlite3.connect(path) as database:
            database.execute(
                "UPDATE message_definitions SET encoding = ?, encoded_message_definition = '' "
                "WHERE topic_type = 'std_msgs/msg/String'",
                (encoding,),
            )
        database.close()
    for kind in bag.path, path:
        same(frames_of(kind), expected)
        with BagReader(kind) as reader:
            assert (reader.lost, reader.topics['/feedback'].count) == ('', 1)


def test_named_topics_are_the_found_ones(drive, expected):
    with BagReader(drive) as reader:
        names = reader.choose_topics().by_role
    same(frames_of(drive, **names), expected)


def test_the_time_of_recording_pairs_what_headers_do_not(drive, expected, tmp_path):
    def header(message, stamp_ns):
        return {'frame_id': message.header.frame_id, 'stamp': stamp_ns}

    path = tmp_path / 'bag'
    with BagReader(drive) as reader, BagWriter(path) as bag:
        names = reader.choose_topics()
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            message = reader.decode(data, msgtype)
            if topic != names.lidar:
                bag.write_raw(topic, msgtype, bytes(data), log_ns)
                continue
            fields = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
            kept = ('height', 'width', 'is_bigendian', 'point_step', 'row_step', 'data')
            values = {name: getattr(message, name) for name in kept}
            values |= {'header': header(message, 5), 'fields': fields, 'is_dense': True}
            bag.write(topic, msgtype, values, log_ns)
    with BagReader(path) as reader:
        topics = reader.choose_topics()
        by_log = list(bag_frames(reader, topics, LidarConfig(), stamps='log'))
        by_header = list(bag_frames(reader, topics, LidarConfig()))
    for item, wanted in zip(by_log, expected, strict=True):
        np.testing.assert_array_equal(item.frame.points_lidar, wanted.frame.points_lidar)
        np.testing.assert_array_equal(item.truth, wanted.truth)
    assert all(item.frame.points_lidar is None for item in by_header)
