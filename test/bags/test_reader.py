# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which topics a bag offers for which part, and bags that cannot be read."""

import os
from pathlib import Path
import struct
from types import SimpleNamespace
import zlib

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import TopicInfo
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig, PointsConfig
from marigold_ros.errors import BagError, CalibrationError, InputError
from marigold_ros.message_codec import (
    encode_cloud,
    encode_compressed_depth,
    encode_depth,
    encode_image,
    encode_jpeg,
)
from marigold_ros.replay.photos import expand, open_video, read_image
from marigold_ros.replay.recording import Recording
from marigold_ros.replay.replay_plan import plan_replay, ReplayOptions
import numpy as np
import pytest

STAMP = 1_700_000_000_000_000_000
RGB = np.zeros((4, 6, 3), np.uint8)
COLOUR = ('Image', encode_image(RGB, 'bgr8'))
GREY = ('Image', encode_image(RGB[..., 0].copy(), 'mono8'))
INFRARED = ('Image', SimpleNamespace(**vars(GREY[1]) | {'encoding': '8UC1'}))
DEPTH = ('Image', encode_depth(np.ones((4, 6))))
JPEG = ('CompressedImage', encode_jpeg(RGB))
COMPRESSED_DEPTH = ('CompressedImage', encode_compressed_depth(np.ones((4, 6))))
INFO = ('CameraInfo', None)
SCAN = ('LaserScan', None)


def cloud(*names):
    return ('PointCloud2', encode_cloud(np.zeros((1, 2), [(name, '<f4') for name in names])))


def write(path, topics, storage='mcap'):
    with BagWriter(path, storage) as bag:
        for topic, (kind, fields) in topics.items():
            bag.write(topic, f'sensor_msgs/msg/{kind}', vars(fields) if fields else {}, STAMP)
    return path


def chosen(path, topics, **given):
    with BagReader(write(path, topics)) as reader:
        return reader.choose_topics(**given)


@pytest.mark.parametrize(
    ('topics', 'image'),
    [
        ({'/b/depth': DEPTH, '/c/image': COLOUR}, '/c/image'),
        ({'/a/image/compressedDepth': COMPRESSED_DEPTH, '/c/image': GREY}, '/c/image'),
        ({'/a/image': COLOUR, '/b/image': COLOUR, '/b/camera_info': INFO}, '/b/image'),
        ({'/a/image': GREY, '/b/image': COLOUR}, '/b/image'),
        ({'/a/image': INFRARED, '/b/image': COLOUR}, '/b/image'),
        ({'/a/image/compressed': JPEG, '/b/image': COLOUR}, '/b/image'),
        (
            {'/a/image': COLOUR, '/b/image/compressed': JPEG, '/b/camera_info': INFO},
            '/b/image/compressed',
        ),
        ({'/a/depth_truth': GREY, '/b/image': GREY}, '/b/image'),
    ],
)
def test_the_image_is_found_by_content(tmp_path, topics, image):
    assert chosen(tmp_path / 'bag', topics).image == image


def test_of_images_alike_the_most_frequent_are_taken(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for topic in ('/a/image', '/b/image', '/b/image'):
            bag.write(topic, 'sensor_msgs/msg/Image', vars(COLOUR[1]), STAMP)
    with BagReader(bag.path) as reader:
        assert reader.choose_topics().image == '/b/image'


def test_topics_beside_the_image_are_found(tmp_path):
    topics = {
        '/camera/image_raw/compressed': JPEG,
        '/camera/camera_info': INFO,
        '/other/camera_info': INFO,
        '/camera/depth_truth': DEPTH,
        '/a/points': cloud('x', 'y', 'z', 'rgb'),
        '/b/radar': cloud('range', 'azimuth'),
        '/velodyne_points': cloud('x', 'y', 'z', 'ring'),
        '/scan': SCAN,
    }
    found = chosen(tmp_path / 'bag', topics)
    assert found.camera_info == '/camera/camera_info'
    assert found.truth == '/camera/depth_truth'
    assert found.lidar == '/velodyne_points'


@pytest.mark.parametrize(
    ('topics', 'lidar'),
    [
        ({'/scan': SCAN}, '/scan'),
        ({'/sparse_depth': DEPTH}, '/sparse_depth'),
        ({'/sparse_depth': DEPTH, '/scan': SCAN}, '/scan'),
        ({'/sparse_depth': DEPTH, '/points': cloud('x', 'y', 'z')}, '/points'),
        ({'/a/points': cloud(*'xyz'), '/os/points': cloud(*'xyz', 'ring')}, '/os/points'),
        ({'/points': ('PointCloud2', None)}, '/points'),  # of AirSim, where nothing was hit
        ({'/sparse_depth': GREY, '/camera/depth': DEPTH, '/relative/image': DEPTH}, None),
        ({'/camera/sparse_depth_truth': DEPTH}, None),
    ],
)
def test_sparse_depth_is_taken_by_kind_name_and_content(tmp_path, topics, lidar):
    assert chosen(tmp_path / 'bag', {'/image': COLOUR, **topics}).lidar == lidar


OWN = {  # of the node, or of `label`
    '/front/marigold_depth/depth/color': COLOUR,
    '/front/marigold_depth/depth/camera_info': INFO,
    '/front/marigold_depth/points': cloud('x', 'y', 'z', 'ring'),
    '/front/marigold_depth/sparse_depth': DEPTH,
}


def test_outputs_of_the_node_are_no_inputs_unless_they_are_named(tmp_path):
    topics = {**OWN, '/image': GREY, '/calibration': INFO, '/scan': SCAN}
    image, info, lidar, _ = OWN
    with BagReader(write(tmp_path / 'bag', topics)) as reader:
        found = reader.choose_topics()
        assert found.by_role == {
            'image': '/image',
            'camera_info': '/calibration',
            'lidar': '/scan',
            'truth': None,
        }
        assert found.cameras == ()
        assert reader.with_sources(found, ('pointcloud', 'depth_image')).further == ()
        named = reader.choose_topics(image=image, lidar=lidar)
        assert (named.image, named.camera_info, named.lidar) == (image, info, lidar)


def test_images_of_the_node_alone_may_be_chosen(tmp_path):
    image, info, *_ = OWN
    found = chosen(tmp_path / 'bag', {**OWN, '/scan': SCAN})
    assert (found.image, found.camera_info, found.lidar) == (image, info, '/scan')


def test_one_camera_info_elsewhere_is_taken_but_of_two_none(tmp_path):
    topics = {'/a/image': COLOUR, '/b/camera_info': INFO}
    assert chosen(tmp_path / 'one', topics).camera_info == '/b/camera_info'
    topics['/c/camera_info'] = INFO
    assert chosen(tmp_path / 'two', topics).camera_info is None


def test_the_only_camera_info_is_noted_where_it_is_beside_another_image(tmp_path):
    topics = {'/left/image': COLOUR, '/right/image': COLOUR, '/left/camera_info': INFO}
    topics['/points'] = cloud('x', 'y', 'z')
    with BagReader(write(tmp_path / 'bag', topics)) as reader:
        assert reader.choose_topics().notes == ()
        found = reader.choose_topics(image='/right/image')
        named = reader.choose_topics(image='/right/image', camera_info='/left/camera_info')
    assert found.camera_info == '/left/camera_info'
    assert found.notes == (
        '/left/camera_info is that of /left/image; name the camera_info of /right/image',
    )
    assert named.notes == ()


@pytest.mark.parametrize(
    ('image', 'info'),
    [
        ('/front/Scene', '/front/Scene/camera_info'),  # AirSim
        ('/front/Scene/compressed', '/front/Scene/camera_info'),
        ('/front/image_rect', '/front/camera_info_rect'),  # Isaac ROS
    ],
)
def test_the_camera_info_below_its_image_or_of_rectified_ones_is_taken(image, info, tmp_path):
    topics = {image: JPEG if image.endswith('compressed') else COLOUR}
    topics |= {info: INFO, '/back/camera_info': INFO}
    assert chosen(tmp_path / 'bag', topics).camera_info == info


def test_given_topics_are_taken(tmp_path):
    topics = {'/a/image': COLOUR, '/b/image': GREY, '/points': cloud('x', 'y', 'z')}
    topics |= dict.fromkeys(('/camera/depth', '/depth'), DEPTH)
    named = {'image': '/b/image', 'lidar': '/camera/depth', 'truth': '/depth'}
    found = chosen(tmp_path / 'bag', topics, **named)
    assert {role: getattr(found, role) for role in named} == named


def test_a_bag_without_images_names_what_it_has(tmp_path):
    odd = ('Image', SimpleNamespace(**vars(COLOUR[1]) | {'encoding': 'fancy12'}))
    topics = {'/depth': DEPTH, '/points': cloud('x', 'y', 'z'), '/odd': odd}
    with pytest.raises(BagError, match="can be read .*/odd: .*'fancy12'.*know") as caught:
        chosen(tmp_path / 'bag', topics)
    assert '/depth (sensor_msgs/msg/Image, 1)' in str(caught.value)
    assert '/points (sensor_msgs/msg/PointCloud2, 1)' in str(caught.value)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'image': '/nowhere'}, '/nowhere'),
        ({'lidar': '/image'}, '/image'),
        ({'lidar': '/camera_info'}, r'be [\w/]+PointCloud2 or [\w/]+LaserScan or [\w/]+Image: '),
        ({'truth': '/scan'}, '/scan'),
    ],
)
def test_given_topics_must_be_there_and_of_their_type(tmp_path, given, words):
    with pytest.raises(BagError, match=words):
        chosen(tmp_path / 'bag', {'/image': COLOUR, '/scan': SCAN, '/camera_info': INFO}, **given)


def test_missing_paths_and_folders_that_are_no_bag_are_refused(tmp_path):
    with pytest.raises(BagError, match='does not exist'), BagReader(tmp_path / 'none'):
        pass
    with pytest.raises(BagError, match=r'no metadata\.yaml'), BagReader(tmp_path):
        pass
    (tmp_path / 'metadata.yaml').write_text('nonsense: [')
    with pytest.raises(BagError, match='cannot read'), BagReader(tmp_path):
        pass
    for name, words in (('text.txt', 'photos'), ('a.bag.active', r'rename .* ends in \.bag$')):
        (tmp_path / name).write_text('no bag')
        with pytest.raises(BagError, match=f'is no bag.*{words}'), BagReader(tmp_path / name):
            pass


@pytest.fixture
def closed(tmp_path):
    """Make a folder that this process may not look into."""
    folder, is_root = tmp_path / 'closed', os.geteuid() == 0
    folder.mkdir(mode=0)
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o700)


def test_what_may_not_be_seen_is_an_error_and_not_missing(closed):
    with pytest.raises(BagError, match='Permission denied'), BagReader(closed / 'bag'):
        pass
    with pytest.raises(BagError, match='Permission denied'):
        plan_replay([closed / 'bag'], ReplayOptions())
    with pytest.raises(InputError, match='Permission denied'):
        read_image(closed / 'a.png')
    assert expand([f'{closed}/a.png']) == ([closed / 'a.png'], [])


@pytest.mark.usefixtures('looks_in_a_child')
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path):
    closed = Path('/proc/sys/vm/drop_caches')  # to root, too
    if not closed.exists() or os.access(closed, os.R_OK):
        pytest.skip('the kernel has no file that is only written')
    for name in ('metadata.yaml', 'film.mp4'):
        (tmp_path / name).symlink_to(closed)
    with pytest.raises(BagError, match='cannot be read .Permission denied'), BagReader(tmp_path):
        pass
    with (
        pytest.raises(InputError, match='cannot be read .Permission denied'),
        open_video(tmp_path / 'film.mp4'),
    ):
        pass


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_file_with_spaces_in_its_name_is_found_when_it_is_cut_off(tmp_path, storage):
    images = {f'/image{i}': COLOUR for i in range(40)}
    folder = write(tmp_path / 'my first bag', images, storage)
    (path,) = (p for p in folder.iterdir() if p.suffix != '.yaml')
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    with BagReader(folder) as reader:
        assert path.name in reader.lost
        assert '%20' not in reader.lost
        assert 'is missing' not in reader.lost
        assert reader.choose_topics().notes == ()


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_of_a_damaged_bag_the_time_that_is_asked_for_is_read(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        for number in range(300):
            fields = {'format': 'jpeg', 'data': bytes([number % 256]) * 40_000}
            bag.write('/image', 'sensor_msgs/msg/CompressedImage', fields, STAMP + number)
    (path,) = (p for p in bag.path.iterdir() if p.suffix != '.yaml')
    path.write_bytes(path.read_bytes()[:9_000_000])
    found = []
    with BagReader(bag.path) as reader:
        part = reader.raw(['/image'], STAMP + 100, STAMP + 103)
        with pytest.raises(BagError, match='cut off'):
            found.extend(log_ns - STAMP for *_, log_ns in part)
        first_ns, last_ns = reader.span_ns
    assert first_ns == STAMP
    assert 200 < last_ns - STAMP < 299
    assert found == [100, 101, 102]


def part_of(path, first, last):
    """Return the numbers of the images of a part, by their stamps, and what was said."""
    found = []
    with BagReader(path) as reader:
        try:
            part = reader.raw(['/image'], STAMP + first, STAMP + last)
            found.extend(log_ns - STAMP for *_, log_ns in part)
        except BagError as error:
            return found, str(error)
    return found, ''


@pytest.mark.parametrize(
    ('distance', 'why', 'lost', 'lost_without_index'),
    [
        # The code of a record; without an index the record before it is not known to be sound.
        (0, 'it lacks messages that its index counts', {30}, range(29, 54)),
        # A byte of a message, where there are checksums, as of rosbag2.
        (100, 'Chunk checksum mismatch', range(27, 54), range(27, 54)),
    ],
)
def test_a_part_of_a_bag_misses_what_a_chunk_has_lost(
    tmp_path, distance, why, lost, lost_without_index
):
    """Chunks of 27 messages each."""
    with BagWriter(tmp_path / 'bag') as bag:
        for number in range(60):
            fields = {'format': 'jpeg', 'data': bytes([number]) * 40_000}
            bag.write('/image', 'sensor_msgs/msg/CompressedImage', fields, STAMP + number)
    path = tmp_path / 'bag' / 'bag.mcap'
    data = bytearray(path.read_bytes())
    chunk = data.index(struct.pack('<QQ', STAMP + 27, STAMP + 53)) - 9
    (size,) = struct.unpack_from('<Q', data, chunk + 25)
    if distance:
        checksum = zlib.crc32(data[chunk + 49 : chunk + 49 + size])
        struct.pack_into('<I', data, chunk + 33, checksum)
    record = data.index(struct.pack('<Q', STAMP + 30), chunk + 49) - 15
    data[record + distance] = 0
    path.write_bytes(data)
    assert part_of(path, 26, 27) == ([26], '')
    found, said = part_of(path, 20, 58)
    assert found == [number for number in range(20, 58) if number not in lost]
    assert f'is damaged: cannot read 1 chunks ({why}' in said
    path.write_bytes(data[:-100])
    found, said = part_of(path, 20, 58)
    assert found == [number for number in range(20, 58) if number not in lost_without_index]
    assert 'is cut off or damaged' in said


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.3, 0.7, 0.85])
def test_a_damaged_file_is_a_known_error(tmp_path, storage, share):
    topics = {f'/image{i}': COLOUR for i in range(5)}
    folder = write(tmp_path / 'bag', topics, storage)
    (path,) = (p for p in folder.iterdir() if p.suffix != '.yaml')
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BagError, match=r'check|damaged'), BagReader(folder) as reader:
        list(reader.messages(list(topics)))


def test_unknown_topics_and_closed_bags_are_refused(tmp_path):
    reader = BagReader(write(tmp_path / 'bag', {'/image': COLOUR}))
    with pytest.raises(BagError, match='not open'):
        _ = reader.topics
    with reader, pytest.raises(BagError, match='no topic /nowhere'):
        list(reader.messages(['/nowhere']))


def test_a_bag_without_static_transforms_has_none(tmp_path):
    with BagReader(write(tmp_path / 'bag', {'/image': COLOUR})) as reader:
        with pytest.raises(CalibrationError, match='known frames: none'):
            reader.static_transforms().lookup('camera', 'lidar')
        assert list(reader.messages([])) == []


def test_a_topic_of_another_type_with_the_name_of_transforms_is_none(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/image', 'sensor_msgs/msg/Image', vars(COLOUR[1]), STAMP)
        for name in '/a/tf', '/a/tf_static':
            bag.write(name, 'std_msgs/msg/String', {'data': 'tf'}, STAMP)
    with BagReader(bag.path) as reader:
        assert reader.static_topics == []
        (item,) = bag_frames(reader, reader.choose_topics(), LidarConfig())
        assert item.error is None


def test_of_a_topic_of_several_types_the_most_frequent_is_read_and_all_are_copied(tmp_path):
    string, scan = ('std_msgs/msg/String', {'data': 'x'}), ('sensor_msgs/msg/LaserScan', {})
    image = 'sensor_msgs/msg/Image', vars(COLOUR[1])
    points = 'sensor_msgs/msg/PointCloud2', vars(cloud(*'xyz')[1])
    transforms = 'tf2_msgs/msg/TFMessage', {}
    with BagWriter(tmp_path / 'bag') as bag:
        for topic, few, many in (
            ('/image', string, image),
            ('/points', scan, points),
            ('/tf', string, transforms),
            ('/tf_static', string, transforms),
        ):
            for number, message in enumerate((few, many, many)):
                bag.write(topic, *message, STAMP + number)
    with BagReader(bag.path) as reader:
        topics = reader.choose_topics()
        assert (topics.image, topics.lidar) == ('/image', '/points')
        assert reader.topics['/image'] == TopicInfo(image[0], 2)
        assert (
            topics.notes[0]
            == '/image has messages of std_msgs/msg/String, too, which are not read'
        )
        frames = list(bag_frames(reader, topics, LidarConfig(), stamps='log'))
        assert [item.error for item in frames] == [None, None]
        everything = list(reader.raw(list(reader.topics), every_type=True))
        assert len(everything) == 12
    with Recording(tmp_path / 'copy', bag.path, topics, PointsConfig(), outputs=()) as copy:
        for item in frames:
            copy.add(item, None)
    assert copy.left_out == set()
    with BagReader(tmp_path / 'copy') as reader:
        copied = list(reader.raw(list(reader.topics), every_type=True))
    assert {m[:2] for m in copied} == {m[:2] for m in everything} - {('/tf_static', string[0])}


def test_unreadable_topics_are_skipped_with_a_note(tmp_path):
    bag = tmp_path / 'bag'
    with BagWriter(bag) as writer:
        writer.write('/image', 'sensor_msgs/msg/Image', vars(COLOUR[1]), 1)
        writer.write_raw('/camera_info', 'sensor_msgs/msg/CameraInfo', bytes(8), 1)
        writer.write_raw('/lidar', 'sensor_msgs/msg/PointCloud2', bytes(8), 1)
        writer.write_raw('/tf_static', 'tf2_msgs/msg/TFMessage', b'\x00\x01\x00\x00\x09', 1)
    with BagReader(bag) as reader:
        topics = reader.choose_topics()
        refused = reader.static_transforms().refused
    assert (topics.image, topics.camera_info, topics.lidar) == ('/image', None, None)
    assert [note.partition(':')[0] for note in topics.notes] == ['/lidar', '/camera_info']
    assert 'is no tf2_msgs/msg/TFMessage' in refused[0]
