# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Bags as robots leave them: each is evaluated by the real command, the network replaced.

Checked are the message, the exit code, and the results of the readable part.
"""

import json
import os
import shutil
import sqlite3

from marigold_ros.__main__ import main
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.message_codec import encode_image
from marigold_ros.replay.bag_replay import Models, replay
from marigold_ros.replay.replay_plan import BagJob, ReplayOptions
import numpy as np
import pytest
import yaml

IMAGE, INFO, LIDAR = '/camera/image_raw', '/camera/camera_info', '/velodyne_points'
TRUTH, STATIC = '/camera/depth_truth', '/tf_static'
SECOND = 1_000_000_000


class Answer:
    """What the command said and left."""

    def __init__(self, code, printed, folder):
        self.code, self.error = code, printed.err.strip()
        self.text = printed.out
        path = folder / 'results.json'
        self.results = json.loads(path.read_text(encoding='utf-8')) if path.exists() else None
        self.complete = all(
            (folder / name).exists() for name in ('results.json', 'per_frame.csv', 'report.html')
        )

    @property
    def warnings(self):
        return self.results['provenance']['warnings']


@pytest.fixture
def evaluate(loaded_ramp, capsys, tmp_path):
    def run(*arguments):
        out = tmp_path / f'results_{len(list(tmp_path.glob("results_*")))}'
        code = main(['evaluate', *map(str, arguments), '--out', str(out)])
        answer = Answer(code, capsys.readouterr(), out)
        if code:
            assert answer.error.startswith('error: ')
            assert len(answer.error.splitlines()) == 1
        return answer

    return run


@pytest.fixture
def split(changed_drive, tmp_path):
    """Make a bag of two files, with the last image in the second."""

    def cut(storage):
        whole = changed_drive(tmp_path / 'whole', storage=storage)
        with BagReader(whole) as reader:
            last_ns = max(log_ns for *_, log_ns in reader.raw([IMAGE])) - SECOND // 20
        bag = tmp_path / 'bag'
        bag.mkdir()
        names = []
        for number in range(2):

            def part(topic, message, log_ns, late=bool(number)):
                return (topic, {}, log_ns) if (log_ns >= last_ns) == late else None

            file = storage_file(changed_drive(tmp_path / f'part{number}', part, storage))
            names.append(f'bag_{number}{file.suffix}')
            shutil.copy(file, bag / names[-1])
        facts = yaml.safe_load((whole / 'metadata.yaml').read_text())
        facts['rosbag2_bagfile_information']['relative_file_paths'] = names
        facts['rosbag2_bagfile_information'].pop('files')
        (bag / 'metadata.yaml').write_text(yaml.safe_dump(facts))
        return bag

    return cut


def storage_file(folder):
    (path,) = (p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3'))
    return path


@pytest.mark.parametrize(
    ('storage', 'alone'),
    [('mcap', True), ('sqlite3', False), pytest.param('mcap', False, marks=pytest.mark.slow)],
)
def test_a_bag_that_is_cut_off_is_scored_up_to_its_cut(evaluate, cut_drive, storage, alone):
    bag, path = cut_drive(storage=storage)
    answer = evaluate(path if alone else bag)
    assert answer.code == 1
    assert f'{path.name} is cut off' in answer.error
    assert storage == 'sqlite3' or '`mcap recover`' in answer.error
    assert 'the readable part of the bag is scored in' in answer.error
    assert answer.complete
    assert 0 < answer.results['frames']['processed'] <= 3
    assert 'heldout ' in answer.text
    assert 'cut off' not in answer.text  # the error says it
    assert not [text for text in answer.warnings if str(path.parent) in text]


@pytest.mark.parametrize(
    ('storage', 'tool'),
    [
        ('mcap', 'mcap recover'),
        ('sqlite3', 'sqlite3 OLD.db3 .dump | sed s/^ROLLBACK/COMMIT/ | sqlite3 NEW.db3'),
    ],
)
def test_nothing_but_a_beginning_is_one_sentence(evaluate, cut_drive, storage, tool):
    bag, file = cut_drive(storage=storage)
    os.truncate(file, 100)
    answer = evaluate(bag)
    assert answer.code == 1
    assert f'cannot read {bag} as a bag' in answer.error
    assert f'repair it with `{tool}`' in answer.error
    assert answer.results is None


@pytest.mark.parametrize('storage', ['mcap', pytest.param('sqlite3', marks=pytest.mark.slow)])
def test_of_a_split_bag_the_parts_that_are_there_are_scored(evaluate, split, storage):
    bag = split(storage)
    assert evaluate(bag).results['frames']['metric'] == 3
    missing = next(bag.glob('bag_1.*'))
    missing.unlink()
    answer = evaluate(bag)
    assert answer.code == 1
    assert f'{missing.name} is missing' in answer.error
    assert answer.results['frames']['metric'] == 2
    assert answer.complete


@pytest.mark.slow  # evaluates a bag
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_files_without_metadata_are_one_bag_with_a_warning(evaluate, split, storage):
    bag = split(storage)
    (bag / 'metadata.yaml').unlink()
    answer = evaluate(bag)
    assert answer.code == 0
    assert answer.results['frames']['metric'] == 3
    (warning,) = answer.warnings
    assert warning.startswith('bag has no metadata.yaml; `ros2 bag reindex` writes it')
    shutil.copy(next(bag.glob('bag_0.*')), bag / f'other{next(bag.iterdir()).suffix}')
    assert 'belong to 2 bags (bag, other); give each file by itself' in evaluate(bag).error


@pytest.mark.slow  # evaluates a bag
def test_messages_left_in_a_journal_are_missed_with_a_warning(evaluate, changed_drive, tmp_path):
    bag = changed_drive(tmp_path / 'bag', storage='sqlite3')
    path = storage_file(bag)
    path.with_name(f'{path.name}-wal').write_bytes(bytes(100))
    answer = evaluate(bag)
    assert answer.code == 1
    assert f'{path.name}-wal holds messages' in answer.error
    assert answer.results['frames']['metric'] == 3


@pytest.mark.slow  # evaluates a bag
def test_a_topic_of_an_unknown_type_does_not_matter(evaluate, changed_drive, tmp_path):
    bag = changed_drive(tmp_path / 'bag', storage='sqlite3')
    database = sqlite3.connect(storage_file(bag))
    row = "INSERT INTO topics VALUES (99, '/own', 'own_msgs/msg/Own', 'cdr', '', '')"
    database.execute(row)
    database.execute("INSERT INTO messages VALUES (999, 99, 1, x'00010000')")
    database.commit()
    database.close()
    answer = evaluate(storage_file(bag))
    assert answer.code == 0
    assert answer.results['frames']['metric'] == 3
    named = evaluate(storage_file(bag), '--image', '/own')
    assert 'image topic /own is of type own_msgs/msg/Own' in named.error


def test_other_files_are_told_what_they_are(evaluate, tmp_path):
    packed = tmp_path / 'bag_0.db3.zstd'
    packed.write_bytes(b'1')
    assert 'one compressed file of a bag; give the folder' in evaluate(packed).error
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    assert 'repair it with `rosbag reindex`' in evaluate(tmp_path / 'old.bag').error
    (tmp_path / 'text.txt').write_text('no bag')
    assert 'text.txt is no bag, which is a folder' in evaluate(tmp_path / 'text.txt').error
    (tmp_path / 'metadata.yaml').write_text('rosbag2_bagfile_information:')
    assert f'give its folder, {tmp_path}' in evaluate(tmp_path / 'metadata.yaml').error
    (tmp_path / 'folder').mkdir()
    assert 'so it is no bag' in evaluate(tmp_path / 'folder').error


@pytest.mark.usefixtures('looks_in_a_child')  # the library leaves that file open
def test_an_mcap_of_another_world_is_named(evaluate, changed_drive, tmp_path):
    bag = changed_drive(tmp_path / 'bag')
    path = storage_file(bag)
    path.write_bytes(path.read_bytes().replace(b'ros2msg', b'protobu'))
    answer = evaluate(bag)
    assert answer.code == 1
    assert "'protobu'" in answer.error


@pytest.mark.parametrize(
    ('option', 'given', 'meant'),
    [
        ('--image', '/camera/image_row', IMAGE),
        ('--image', 'image_raw', IMAGE),
        ('--lidar', '/velodyne_point', LIDAR),
        ('--camera-info', '/cam/camera_info', INFO),
        ('--truth', 'camera/depth_truth', TRUTH),
    ],
)
def test_the_topic_that_was_meant_is_suggested(evaluate, short_drive, option, given, meant):
    answer = evaluate(short_drive, option, given)
    assert answer.code == 1
    assert f'{given} is not in the bag; did you mean {meant}' in answer.error


@pytest.mark.parametrize(
    ('topic', 'words'),
    [
        (
            INFO,
            ['no image of {bag} could be scored: no camera_info; record it, or', 'inspect {bag}'],
        ),
        (STATIC, ["'camera_optical'", "'velodyne'", 'or set extrinsics.translation']),
        (LIDAR, ['no topic holds sparse depth (a PointCloud2, a LaserScan']),
        (IMAGE, ['no topic holds images']),
    ],
)
def test_what_a_bag_lacks_is_named_before_the_work(evaluate, drive_without, topic, words):
    bag = drive_without(topic, TRUTH)
    answer = evaluate(bag)
    assert answer.code == 1
    assert all(text.format(bag=bag) in answer.error for text in words)
    assert answer.results is None


def test_a_bag_without_messages_has_no_images(evaluate, tmp_path):
    with BagWriter(tmp_path / 'empty'):
        pass
    assert 'no topic holds images' in evaluate(tmp_path / 'empty').error


def stamped(change):
    """Change the header's stamp of images, scans, truth and camera_info."""

    def restamp(topic, message, log_ns):
        if topic not in (IMAGE, INFO, LIDAR, TRUTH):
            return topic, {}, log_ns
        stamp = message.header.stamp
        stamp_ns = change(topic, stamp.sec * SECOND + stamp.nanosec)
        header = {'frame_id': message.header.frame_id, 'stamp': stamp_ns}
        return topic, {'header': header}, log_ns

    return restamp


def test_zero_stamps_are_refused_with_recording_time_as_remedy(evaluate, changed_drive, tmp_path):
    bag = changed_drive(tmp_path / 'bag', stamped(lambda topic, stamp_ns: 0))
    answer = evaluate(bag)
    assert answer.code == 1
    assert f'the messages of {IMAGE} in {bag} have header stamp 0' in answer.error
    assert '--stamps log' in answer.error
    by_log = evaluate(bag, '--stamps', 'log')
    assert by_log.code == 0
    assert by_log.results['frames']['metric'] == 3
    assert by_log.results['provenance']['stamps'] == 'log'


def test_a_lidar_on_another_clock_is_reported_with_its_offset(evaluate, changed_drive, tmp_path):
    def other_clock(topic, stamp_ns):
        return stamp_ns - 1000 * SECOND * (topic == LIDAR)

    bag = changed_drive(tmp_path / 'bag', stamped(other_clock))
    answer = evaluate(bag)
    assert answer.code == 1
    assert 'images has metric depth, so no score is of published depth' in answer.error
    assert 'heldout' not in answer.results['protocols']
    (warning,) = answer.warnings
    assert 'was -1000.' in warning
    assert 'lidar.time_offset' in warning
    assert '--stamps log' in warning
    assert evaluate(bag, '--set', 'lidar.time_offset=1000').code == 2  # out of its range
    assert 'heldout' in evaluate(bag, '--stamps', 'log').results['protocols']


@pytest.mark.parametrize(('seconds', 'words'), [(-50, 'back by 49.'), (1000, 'ahead by 1000.')])
def test_a_clock_that_jumps_is_told_and_survived(
    evaluate, changed_drive, ramp, tmp_path, seconds, words
):
    seen = []

    def jump(topic, stamp_ns):
        seen.append(topic)
        return stamp_ns + seconds * SECOND * (seen.count(LIDAR) > 1)

    bag = changed_drive(tmp_path / 'bag', stamped(jump))
    answer = evaluate(bag)
    assert answer.code == 0
    assert answer.results['frames']['processed'] == 3
    assert any(f'jumped {words}' in text for text in answer.warnings)
    part = replay(Models(ramp), ReplayOptions(), BagJob(bag, 0))
    assert part.recorded_s == pytest.approx(3 * 0.1)


def test_encodings_may_be_mixed_and_an_unknown_one_costs_its_image_only(
    evaluate, changed_drive, tmp_path
):
    encodings = iter(['bgr8', 'mono8', 'fancy12'])

    def mixed(topic, message, log_ns):
        if topic != IMAGE:
            return topic, {}, log_ns
        encoding = next(encodings)
        rgb = np.asarray(message.data).reshape(message.height, message.width, 3)
        image = rgb[..., 1].copy() if encoding == 'mono8' else rgb
        fields = vars(encode_image(image, 'mono8' if encoding == 'mono8' else 'bgr8'))
        return topic, {**fields, 'encoding': encoding}, log_ns

    answer = evaluate(changed_drive(tmp_path / 'bag', mixed))
    assert answer.code == 0
    counts = [answer.results['frames'][name] for name in ('read', 'processed', 'metric')]
    assert counts == [3, 2, 2]
    assert answer.results['frames']['rejected'] == {'encoding': 1}
    assert [n for text, n in answer.warnings.items() if 'rejected: ' in text] == [1]


def test_a_lidar_that_looks_elsewhere_is_told(evaluate, changed_drive, tmp_path):
    def turned(topic, message, log_ns):
        if topic == TRUTH:
            return None
        if topic != LIDAR:
            return topic, {}, log_ns
        data = np.array(message.data)
        x = np.ndarray(message.width, '<f4', data, strides=message.point_step)
        x[:] = -np.abs(x)
        return topic, {'data': data}, log_ns

    answer = evaluate(changed_drive(tmp_path / 'bag', turned))
    assert answer.code == 1
    assert 'could be scored: no point is in view' in answer.error
    assert 'frame_id of the images is optical' in answer.error  # as of simulators it is not
    assert answer.results is None


def test_warnings_that_differ_in_numbers_only_are_counted_as_one(
    evaluate, changed_drive, capsys, tmp_path
):
    widths = iter([700, 800])

    def cut(topic, message, log_ns):
        width = next(widths, None) if topic == LIDAR else None
        if width is None:
            return topic, {}, log_ns
        step = message.point_step
        data = np.array(message.data)[: width * step]
        np.ndarray(width, '<f4', data, strides=step)[:] = np.nan
        return topic, {'data': data, 'width': width, 'row_step': width * step}, log_ns

    bag = changed_drive(tmp_path / 'bag', cut)
    found = evaluate(bag)
    (text,) = found.warnings
    assert text.startswith('cloud has 700 points, none with finite')
    assert found.warnings[text] == 2
    assert main(['label', str(bag), '--out', str(tmp_path / 'labelled')]) == 0
    assert capsys.readouterr().out.count('warning (2 images): cloud has 700 points') == 1


def test_a_lidar_recorded_after_the_images_is_told(evaluate, changed_drive, tmp_path):
    def later(topic, message, log_ns):
        if topic == TRUTH:
            return None
        if topic != LIDAR:
            return topic, {}, log_ns
        stamp = message.header.stamp
        stamp_ns = (stamp.sec + 100) * SECOND + stamp.nanosec
        header = {'frame_id': message.header.frame_id, 'stamp': stamp_ns}
        return topic, {'header': header}, log_ns + 100 * SECOND

    answer = evaluate(changed_drive(tmp_path / 'bag', later))
    assert answer.code == 1
    assert 'near the image: at the first such image the last one was +' in answer.error
    assert answer.results is None


def test_one_broken_bag_among_others_does_not_lose_them(
    evaluate, short_drive, cut_drive, tmp_path
):
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'metadata.yaml').write_text('nonsense: [')
    answer = evaluate(tmp_path / 'broken', cut_drive()[0], short_drive)
    assert answer.code == 1
    assert '2 of 3 bags cannot be read to the end' in answer.error
    assert [name in str(answer.warnings) for name in ('broken', 'bag')] == [True, True]
    assert len(answer.results['provenance']['bags']) == 2
    assert answer.results['frames']['processed'] > 3
    assert evaluate(short_drive, tmp_path / 'none').error.endswith('file of a bag')
