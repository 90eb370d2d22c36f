# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What a bag holds is read from a few of its messages, and leads to a command that works."""

import json
import shlex
import shutil

from marigold_ros.__main__ import main
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.frame import Camera
from marigold_ros.message_codec import camera_info_fields, encode_cloud, encode_image
from marigold_ros.replay.inspection import image_problems, inspect_bag, sample_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

LIDAR, TRUTH, INFO = '/velodyne_points', '/camera/depth_truth', '/camera/camera_info'
STATIC = '/tf_static'


def inspected(capsys, *arguments):
    code = main(['inspect', *map(str, arguments), '--json'])
    (facts,) = json.loads(capsys.readouterr().out)
    return code, facts


def test_a_bag_is_described_by_role(short_drive, capsys):
    code, facts = inspected(capsys, short_drive)
    assert code == 0
    assert facts['scorable']
    assert facts['transform']
    assert facts['topics']['lidar'] == {
        'topic': LIDAR,
        'type': 'sensor_msgs/msg/PointCloud2',
        'count': 3,
        'hertz': pytest.approx(10.0, rel=0.5),
    }
    image = facts['image']
    with BagReader(short_drive) as reader:
        message = reader.first('/camera/image_raw')
        info = reader.first(INFO)
    assert (image['width'], image['height']) == (message.width, message.height)
    assert facts['camera']['fx'] == pytest.approx(info.k[0])
    assert 0 < facts['lidar']['in_view'] <= facts['lidar']['points']
    assert 0 < facts['lidar']['share'] <= 1
    assert facts['problems'] == {}
    assert STATIC in facts['other_topics']


def test_the_next_command_names_its_results_after_the_bag(short_drive, capsys, monkeypatch):
    monkeypatch.chdir(short_drive)
    assert inspected(capsys, '.')[1]['next'].endswith(f'--out out/{short_drive.resolve().name}')


def test_bags_whose_names_have_dots_are_led_to_folders_of_their_own(short_drive, capsys, tmp_path):
    for name in ('run 1.1', 'run 1.2'):
        bag = shutil.copytree(short_drive, tmp_path / name)
        words = shlex.split(inspected(capsys, bag)[1]['next'])
        assert words[-3:] == [str(bag), '--out', f'out/{name}']


def test_the_next_command_can_be_run(short_drive, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = '--camera-info', INFO, '--stamps', 'log', '--set', 'seed=3'
    _, facts = inspected(capsys, short_drive, *given)
    python, dash_m, package, *command = shlex.split(facts['next'])
    assert [python, dash_m, package, command[0]] == ['python', '-m', 'marigold_ros', 'evaluate']
    assert tuple(command[-len(given) :]) == given
    assert main([*command, '--limit', '1']) == 0


def test_what_is_missing_is_said_and_ends_with_1(drive_without, short_drive, capsys):
    bag = drive_without(LIDAR, TRUTH, name='a')
    assert main(['inspect', str(bag), str(short_drive)]) == 0  # one can be scored
    capsys.readouterr()
    code, facts = inspected(capsys, bag)
    assert (code, facts['scorable'], facts['lidar']) == (1, False, {})
    assert 'no topic holds sparse depth' in facts['reason']
    assert 'sparse_source=ground' in facts['next']
    bag = drive_without(STATIC, TRUTH, name='b')
    code, facts = inspected(capsys, bag)
    assert (code, facts['transform'], facts['next']) == (1, False, '')
    assert 'camera_optical' in facts['reason']
    main(['inspect', str(bag)])
    *lines, last = capsys.readouterr().out.splitlines()
    (problem,) = facts['problems']
    assert '  truth       none' in lines
    assert 'transform from LiDAR to camera: missing' in lines
    assert f'problem (3 of {facts["images"]} images): {problem}' in lines
    assert last == f'nothing to score against: {facts["reason"]}'
    code, facts = inspected(capsys, drive_without(INFO, TRUTH, name='c'))
    assert (code, facts['camera']) == (1, {})
    assert 'no camera_info' in facts['reason']
    _, facts = inspected(capsys, drive_without(LIDAR, INFO, TRUTH, name='d'))
    assert facts['next'] == ''  # a ground needs a camera


def test_a_transform_is_not_called_missing_where_no_scan_is_in_time(short_drive, capsys):
    late = str(short_drive), '--set', 'lidar.time_offset=20'
    assert inspected(capsys, *late)[1]['transform'] is None
    main(['inspect', *late])
    assert 'transform from LiDAR' not in capsys.readouterr().out


def test_true_depth_alone_can_be_scored_against(drive_without, capsys):
    code, facts = inspected(capsys, drive_without(LIDAR))
    assert (code, facts['scorable'], facts['topics']['lidar']) == (0, True, None)


def test_the_text_has_each_role_and_the_next_command(short_drive, capsys):
    assert main(['inspect', str(short_drive)]) == 0
    lines = capsys.readouterr().out.splitlines()
    _, facts = inspected(capsys, short_drive)
    size, seconds = f'{facts["bytes"] / 1e6:.0f} MB', f'{facts["seconds"]:.1f} s'
    assert lines[0] == f'{short_drive}: {size}, {seconds}'
    image, camera, lidar = facts['image'], facts['camera'], facts['lidar']
    words = {
        'image': f'{image["width"]}x{image["height"]} {image["encoding"]}',
        'camera_info': f'{camera["model"]}, fx {camera["fx"]:.0f} px, '
        f'{camera["horizontal_fov_deg"]:.0f} degrees wide',
        'lidar': 'PointCloud2',
        'truth': 'Image',
    }
    for line, (role, remark) in zip(lines[1:5], words.items(), strict=True):
        topic = facts['topics'][role]
        row = role, topic['topic'], topic['count'], f'{topic["hertz"]:.1f}', 'Hz', remark
        assert line.split() == ' '.join(map(str, row)).split()
    first, last = lidar['rows']
    assert 0 <= first < last < image['height']
    assert lines[5] == (
        f'points: {lidar["in_view"]:.0f} of {lidar["points"]:.0f} in view, in '
        f'{100 * lidar["share"]:.0f}% of the image (rows {first} to {last} of {image["height"]}), '
        f'{lidar["dt_ms"]:.0f} ms from their images'
    )
    assert lines[6] == 'transform from LiDAR to camera: known'
    assert lines[-1].startswith('next: python -m marigold_ros evaluate')


def test_other_cameras_are_named_where_the_chosen_one_sees_no_point(tmp_path, capsys):
    image = vars(encode_image(np.zeros((48, 64, 3), np.uint8), 'rgb8'))
    info = camera_info_fields(
        Camera(np.diag([50.0, 50.0, 1.0]) + [[0, 0, 32], [0, 0, 24], [0] * 3], 64, 48)
    )
    scan = np.zeros((1, 90), [(axis, 'f4') for axis in 'xyz'])
    scan['x'], scan['y'], scan['z'] = np.linspace(-1, 1, 90), np.linspace(1, -1, 90), 5.0
    with BagWriter(tmp_path / 'bag') as bag:
        turns = {'back': (0.0, 1.0, 0.0, 0.0), 'front': (0.0, 0.0, 0.0, 1.0)}
        mounts = [
            {
                'header': {'frame_id': name},
                'child_frame_id': 'lidar',
                'transform': {'translation': (0.0, 0.0, 0.0), 'rotation': turn},
            }
            for name, turn in turns.items()
        ]
        bag.write(STATIC, 'tf2_msgs/msg/TFMessage', {'transforms': mounts}, 10**9)
        for name in turns:
            header = {'header': {'stamp': 10**9, 'frame_id': name}}
            for last in ('image_raw', 'image_rect'):  # of one camera
                bag.write(f'/{name}/{last}', 'sensor_msgs/msg/Image', header | image, 10**9)
            bag.write(f'/{name}/camera_info', 'sensor_msgs/msg/CameraInfo', header | info, 10**9)
        header = {'header': {'stamp': 10**9 - 20_000_000, 'frame_id': 'lidar'}}
        cloud = vars(encode_cloud(scan))
        bag.write('/points', 'sensor_msgs/msg/PointCloud2', header | cloud, 10**9)
    _, facts = inspected(capsys, bag.path)
    assert facts['topics']['image']['topic'] == '/back/image_raw'
    assert facts['other_cameras'] == ['/front/image_raw']
    assert facts['reason'].endswith('(of /back/image_raw; other cameras: /front/image_raw)')
    assert main(['inspect', str(bag.path)]) == 1
    assert 'other cameras (--image): /front/image_raw' in capsys.readouterr().out
    _, facts = inspected(capsys, bag.path, '--image', '/front/image_raw')
    assert facts['scorable']
    assert facts['camera']['horizontal_fov_deg'] == pytest.approx(np.degrees(2 * np.arctan(0.64)))
    # A line up from column 22 of row 34 to 42 of 14: in three of four squares of 32 pixels.
    seen = [facts['lidar'][name] for name in ('share', 'rows', 'dt_ms')]
    assert seen == [0.75, [14, 34], 20.0]


def test_topics_of_sources_that_are_set_are_shown_with_their_points(short_drive, tmp_path, capsys):
    with BagReader(short_drive) as reader, BagWriter(tmp_path / 'bag') as bag:
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            bag.write_raw(topic, msgtype, data, log_ns, reader.types)
            if topic == LIDAR:  # in a frame that nothing connects with the camera
                cloud = np.zeros((1, 9), [(axis, 'f4') for axis in 'xyz'])
                cloud['x'], cloud['y'], cloud['z'] = np.linspace(-1, 1, 9), np.eye(9)[4], 5.0
                for name, frame in (('/front_radar', 'camera_optical'), ('/landmarks', 'map')):
                    fields = {'header': {'stamp': log_ns, 'frame_id': frame}}
                    fields |= vars(encode_cloud(cloud))
                    bag.write(name, 'sensor_msgs/msg/PointCloud2', fields, log_ns)
    sources = ['--set', 'sparse_source=pointcloud,radar,landmarks']
    _, facts = inspected(capsys, bag.path, *sources)
    assert facts['topics']['radar']['topic'] == '/front_radar'
    assert facts['sources']['radar'] == '9 points in view'
    assert 'no transform' in facts['sources']['landmarks']
    assert main(['inspect', str(bag.path), *sources]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['9', 'points', 'in', 'view'] in [row[-4:] for row in rows if row[0] == 'radar']
    assert 'radar' not in inspected(capsys, bag.path)[1]['topics']


def test_of_the_ground_it_is_said_whether_its_pose_is_known(short_drive, capsys):
    ground = ['--set', 'sparse_source=ground']
    _, facts = inspected(capsys, short_drive, *ground)
    assert 'set ground.height' in facts['sources']['ground']
    _, facts = inspected(capsys, short_drive, *ground, '--set', 'ground.height=1.6')
    text = 'its pose is known; the prediction shows where it is in view'
    assert facts['sources'] == {'ground': text}


@pytest.mark.parametrize(('images', 'words'), [(3, ''), (4, 'all of them are equal')])
def test_images_that_are_equal_all_over_the_bag_are_named(images, words):
    grey = np.full((48, 64, 3), 99, np.uint8)
    found = image_problems([grey] * images)
    assert (words in ''.join(found), sum(found.values())) == (True, images if words else 0)
    assert not image_problems([grey] * images + [grey + 1])


def test_black_images_are_named_and_can_be_scored(changed_drive, tmp_path, capsys):
    def change(topic, message, log_ns):
        black = {'data': np.zeros_like(message.data)} if topic == '/camera/image_raw' else {}
        return topic, black, log_ns

    code, facts = inspected(capsys, changed_drive(tmp_path / 'black', change))
    assert (code, facts['problems']) == (
        0,
        {'the image is black: lens cap, exposure, or light?': 3},
    )


def test_places_are_spread_over_the_bag(short_drive):
    with BagReader(short_drive) as reader:
        samples = sample_bag(reader, reader.choose_topics(), ReplayOptions())
    assert len({sample.item.stamp_ns for sample in samples}) == 3
    assert all(sample.can_be_scored for sample in samples)


def test_an_image_whose_scan_comes_just_before_a_place_keeps_it(tmp_path):
    grey = np.full((4, 6, 3), 99, np.uint8)
    with BagWriter(tmp_path / 'bag') as bag:
        for stamp_ns in (1_000_000_000 * second for second in range(100, 104)):
            header = {'stamp': stamp_ns, 'frame_id': 'camera'}
            cloud = vars(encode_cloud(np.ones((1, 4), [(axis, '<f4') for axis in 'xyz'])))
            kind = 'sensor_msgs/msg/PointCloud2'
            bag.write('/points', kind, {'header': header, **cloud}, stamp_ns - 10_000_000)
            fields = {'header': header, **vars(encode_image(grey, 'rgb8'))}
            bag.write('/image', 'sensor_msgs/msg/Image', fields, stamp_ns)
    with BagReader(bag.path) as reader:
        samples = sample_bag(reader, reader.choose_topics(), ReplayOptions())
    assert [sample.item.scan_stamp_ns == sample.item.stamp_ns for sample in samples] == [True] * 4
    image = inspect_bag(bag.path, ReplayOptions())['topics']['image']
    assert (image['count'], image['hertz']) == (4, pytest.approx(1.0, rel=0.01))


def test_a_damaged_bag_says_so(cut_drive):
    facts = inspect_bag(cut_drive()[0], ReplayOptions())
    assert any('is cut off' in text for text in facts['problems'])
    assert 0 < facts['seconds'] < 0.3


def test_a_file_that_is_no_bag_is_named_and_the_others_are_shown(short_drive, tmp_path, capsys):
    path = tmp_path / 'photo.jpg'
    path.write_bytes(b'\xff\xd8')
    assert main(['inspect', str(path), str(short_drive)]) == 1
    printed = capsys.readouterr()
    (error,) = printed.err.splitlines()
    assert 'photo.jpg is no bag, which is a folder, .mcap, .db3 or .bag file' in error
    assert 'reindex' not in error
    assert main(['inspect', str(short_drive)]) == 0
    assert printed.out == capsys.readouterr().out
    assert inspected(capsys, path, short_drive) == (1, inspected(capsys, short_drive)[1])
