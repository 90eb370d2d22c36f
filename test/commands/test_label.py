# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Copies of bags with depth: what is in them, and what becomes of runs that are ended."""

import json
import os
import re
import shutil
import signal
import sqlite3
from threading import Event
from types import SimpleNamespace

from marigold_ros.__main__ import main
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.message_codec import to_depth
from marigold_ros.models.fusion.load import load_fusion
from marigold_ros.models.locate import EMBEDDED, FUSION
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from rosbags.convert import convert
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
import yaml

DEPTH, INFO = '/marigold_depth/depth/image_rect', '/marigold_depth/depth/camera_info'
POINTS = '/marigold_depth/points'
SIGMA, SIGMA_INFO = (f'/marigold_depth/uncertainty/{part}' for part in ('image', 'camera_info'))


@pytest.fixture
def label(loaded_ramp, capsys, tmp_path):
    def run(*arguments, out=tmp_path / 'labelled'):
        code = main(['label', *map(str, arguments), '--out', str(out)])
        return code, capsys.readouterr()

    return run


def messages(path, topics=None):
    with BagReader(path) as reader:
        found = {}
        for topic, msgtype, data, log_ns in reader.raw(topics or list(reader.topics)):
            found.setdefault(topic, []).append((msgtype, bytes(data), log_ns))
    return found


def test_the_copy_has_all_that_was_there_and_depth_beside(label, changed_drive, ramp, tmp_path):
    def late(topic, message, log_ns):
        return topic, {}, log_ns + 10**10 * (topic == '/tf_static')

    bag = changed_drive(tmp_path / 'drive', late)
    code, printed = label(bag, '--json')
    assert code == 0, printed.err
    copy = tmp_path / 'labelled' / 'drive'
    before, after = messages(bag), messages(copy)
    assert set(after) - set(before) == {DEPTH, INFO}
    static = before.pop('/tf_static')
    first_ns = min(log_ns for part in before.values() for *_, log_ns in part)
    before['/tf_static'] = [(*one, first_ns) for *one, _ in static]
    assert {topic: after[topic] for topic in before} == before
    facts = yaml.safe_load((copy / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert facts['version'] == 8
    assert facts['storage_identifier'] == 'mcap'
    (report,) = json.loads(printed.out)['bags']
    assert (report['read'], report['labelled'], report['failed']) == (3, 3, '')
    assert json.loads(printed.out)['method'] == 'fused'
    kept = json.loads((tmp_path / 'labelled' / 'label.json').read_text())
    assert kept['alignment.method'] == 'fused'

    pipeline = FramePipeline(ramp, PipelineConfig())
    with BagReader(bag) as reader, BagReader(copy) as labelled:
        depths = [message for _, message, _ in labelled.messages([DEPTH])]
        items = list(bag_frames(reader, reader.choose_topics(), LidarConfig()))
    for item, message in zip(items, depths, strict=True):
        expected = pipeline.process(item.frame).metric
        np.testing.assert_array_equal(to_depth(message), np.where(expected > 0, expected, np.nan))
        assert repr(message.header) == repr(item.image_message.header)


def test_equal_images_are_named(label, frozen_drive, monkeypatch):
    monkeypatch.setattr('marigold_ros.geometry.blind_image._FROZEN', 2)
    assert 'the last 3 images are equal' in ''.join(label(frozen_drive)[1])


def test_a_bag_is_not_taken_for_its_own_copy(label, short_drive, tmp_path):
    bag = shutil.copytree(short_drive, tmp_path / 'labelled' / 'drive')
    for path in (bag, next(bag.glob('*.mcap'))):
        code, printed = label(path)
        assert (code, 'would take its place' in printed.err) == (1, True)
        for out in (bag, bag / 'new'):
            code, printed = label(path, out=out)
            assert (code, f'is within the bag {bag};' in printed.err) == (1, True)
    assert {file.name for file in bag.iterdir()} == {file.name for file in short_drive.iterdir()}


def test_depth_is_fitted_to_the_sources_that_are_named(label, short_drive, monkeypatch):
    finish, seen = FramePipeline.finish, []

    def finish_one(pipeline, frame, prediction):
        seen.append([(item.source, item.ground is not None) for item in frame.inputs])
        return finish(pipeline, frame, prediction)

    monkeypatch.setattr(FramePipeline, 'finish', finish_one)
    settings = ['--set', 'ground.frame=base_link', '--set']
    assert label(short_drive, *settings, 'sparse_source=ground,pointcloud')[0] == 0
    assert seen == [[('pointcloud', False), ('ground', True)]] * 3


@pytest.mark.parametrize(
    ('setting', 'expected', 'words'),
    [
        ('sparse_source=radar', 1, 'no topic of radar: a PointCloud2'),
        ('alignment.min_points=100000', 1, 'no image has metric depth (no metric depth: '),
        ('alignment.method=none', 2, 'which makes no metric depth; choose fused'),
    ],
)
def test_settings_that_leave_no_metric_depth_are_named(
    label, short_drive, setting, expected, words
):
    code, printed = label(short_drive, '--set', setting)
    assert (code, words in printed.out + printed.err) == (expected, True)


@pytest.mark.parametrize('prompted', [False, True])
def test_the_next_image_is_predicted_while_one_is_finished(
    prompted, label, short_drive, ramp, monkeypatch
):
    predict, finish, finished = ramp.predict, FramePipeline.finish, []
    asked = [Event() for _ in range(3)]

    def predict_one(rgb, **options):
        next(one for one in asked if not one.is_set()).set()
        return predict(rgb)

    def finish_one(pipeline, frame, prediction):
        finished.append(sum(one.is_set() for one in asked))
        if not prompted and len(finished) < 3:
            assert asked[len(finished)].wait(20)
        return finish(pipeline, frame, prediction)

    monkeypatch.setattr(ramp, 'predict', predict_one, raising=False)
    monkeypatch.setattr(FramePipeline, 'finish', finish_one)
    if prompted:  # such a model is asked again by `finish`
        monkeypatch.setattr(FramePipeline, 'finishes_without_model', False)
    assert label(short_drive)[0] == 0
    assert finished == [1, 2, 3] if prompted else len(finished) == 3


def test_the_size_of_the_copies_is_estimated_before_and_named_after(label, short_drive, tmp_path):
    copy = tmp_path / 'my copies' / 'drive'
    outputs = '--points', '--sigma', '--set', 'points.stride=2'
    code, printed = label(short_drive, *outputs, out=copy.parent)
    assert code == 0
    size = sum(path.stat().st_size for path in copy.iterdir()) / 1e6
    before, after = printed.err.splitlines()
    estimate = float(re.match(r'writing about ([\d.]+) MB to ', before)[1])
    assert estimate == pytest.approx(size, rel=0.1)
    assert after == f"{size:.1f} MB in {copy.parent}; next: ros2 bag play '{copy}'"
    again = label(short_drive, *outputs, out=copy.parent)
    assert again[1].err == ''  # nothing was left to do


def test_copies_that_the_disk_cannot_hold_are_not_begun(label, short_drive, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr('marigold_ros.commands.label.shutil.disk_usage', lambda path: usage)
    code, printed = label(short_drive, '--points')
    assert code == 1
    assert 'has 1.0 MB free; leave out --points' in printed.err
    assert not (tmp_path / 'labelled' / 'drive').exists()


@pytest.mark.parametrize(
    ('option', 'topics'), [('--points', {POINTS}), ('--sigma', {SIGMA, SIGMA_INFO})]
)
def test_points_and_sigma_are_written_when_asked_for(label, short_drive, tmp_path, option, topics):
    assert label(short_drive, option)[0] == 0
    added = messages(tmp_path / 'labelled' / 'drive').keys() - messages(short_drive).keys()
    assert added == {DEPTH, INFO, *topics}


OWN = get_types_from_msg('int32 answer', 'own_msgs/msg/Own')


@pytest.fixture
def own_bag(short_drive, tmp_path):
    """Write the drive with a message of an own type."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(OWN)
    bag = tmp_path / 'own'
    with (
        BagReader(short_drive) as reader,
        Writer(bag, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        connections = {}
        for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
            writer.write(connections[topic], log_ns, bytes(data))
        own = writer.add_connection('/own', 'own_msgs/msg/Own', typestore=store)
        message = store.types['own_msgs/msg/Own'](answer=42)
        writer.write(own, log_ns, store.serialize_cdr(message, 'own_msgs/msg/Own'))
    return bag


def test_topics_of_own_types_are_copied_with_their_definitions(label, own_bag, tmp_path):
    assert label(own_bag)[0] == 0
    with BagReader(tmp_path / 'labelled' / 'own') as reader:
        assert reader.first('/own').answer == 42


def test_a_bag_of_ros_1_becomes_one_of_ros_2(label, own_bag, tmp_path):
    path = tmp_path / 'old.bag'
    ros1, ros2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
    ros1.register(OWN)
    convert([own_bag], path, '', 0, None, '', ros2, ros1, (), (), (), ())
    code, printed = label(path)
    assert code == 0, printed.err
    assert re.search(r'left out .*: /own$', printed.out, re.MULTILINE)
    copy = tmp_path / 'labelled' / 'old'
    with BagReader(copy) as reader:
        assert reader.topics[DEPTH].count == 3
        assert not {POINTS, SIGMA} & set(reader.topics)  # which were not asked for
        items = list(bag_frames(reader, reader.choose_topics(), LidarConfig()))
    assert [item.frame.camera is not None for item in items] == [True] * 3


@pytest.mark.parametrize('name', ['new', 'old.bag'])
def test_topics_for_late_subscribers_stay_so(label, short_drive, tmp_path, name):
    info = '/camera/camera_info'
    with BagReader(short_drive) as reader, BagWriter(tmp_path / 'new', latched=[info]) as writer:
        for message in reader.raw(list(reader.topics)):
            writer.write_raw(*message)
    if name == 'old.bag':
        stores = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
        convert([tmp_path / 'new'], tmp_path / name, '', 0, None, '', *stores, *4 * [()])
    assert label(tmp_path / name)[0] == 0
    with BagReader(tmp_path / 'labelled' / name.removesuffix('.bag')) as reader:
        assert set(reader.latched_topics) == {'/tf_static', info}


def test_a_run_that_was_stopped_goes_on_and_leaves_nothing_half(
    label, short_drive, ramp, monkeypatch, tmp_path
):
    bags = [shutil.copytree(short_drive, tmp_path / name) for name in ('one', 'two')]
    seen, predict = [], ramp.predict

    def stopped(rgb, **options):
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return predict(rgb)

    monkeypatch.setattr(ramp, 'predict', stopped, raising=False)
    code, printed = label(*bags)
    assert (code, 'stopped after 1 of 2 bags; the same' in printed.err) == (130, True)
    out = tmp_path / 'labelled'
    assert sorted(p.name for p in out.iterdir()) == ['.lock', 'label.json', 'one']
    state = (out / 'one' / 'metadata.yaml').stat().st_mtime_ns
    refused = label(*bags, '--stamps', 'log')[1].err
    assert refused.endswith('labelled with stamps = header, not log; give another --out\n')
    kept = shutil.copy(out / 'label.json', tmp_path)
    for damaged in ('null', '[' * 10000, ''):  # nobody knows of what options the copies are
        (out / 'label.json').write_text(damaged)
        code, printed = label(*bags)
        assert (code, f'error: {out / "label.json"} cannot be read (' in printed.err) == (1, True)
    shutil.copy(kept, out)
    seen.clear()
    code, printed = label(*bags, '--torch-threads', '1')  # last bits only, as --jobs
    assert (code, len(seen), 'exists already' in printed.out) == (0, 3, True)
    assert (out / 'one' / 'metadata.yaml').stat().st_mtime_ns == state
    assert messages(out / 'two').keys() == messages(out / 'one').keys()


def test_a_damaged_bag_is_labelled_up_to_its_damage(label, short_drive, cut_drive, tmp_path):
    cut, path = cut_drive('cut')
    (tmp_path / 'empty').mkdir()
    code, printed = label(cut, tmp_path / 'empty', short_drive)
    assert code == 1
    assert '2 of 3 bags cannot be read to the end' in printed.err
    assert f'{path.name} is cut off' in printed.err
    assert f'error: {tmp_path / "empty"} has no metadata.yaml' in printed.err
    counts = []
    for name in ('cut', 'drive'):
        with BagReader(tmp_path / 'labelled' / name) as reader:
            counts.append(reader.topics[DEPTH].count)
    assert 0 < counts[0] <= counts[1] == 3
    code, printed = label(cut)  # again
    assert (code, f'{path.name} is cut off' in printed.err) == (1, True)
    assert printed.out == f'{tmp_path / "labelled" / "cut"}: exists already\n'


@pytest.mark.parametrize('shown', ['own', '.'])
def test_a_message_that_the_copy_lacks_is_named_in_each_run(
    label, own_bag, tmp_path, monkeypatch, shown
):
    monkeypatch.chdir(own_bag)
    (path,) = own_bag.glob('*.db3')
    with sqlite3.connect(path) as database:
        database.execute('DELETE FROM messages WHERE id = (SELECT max(id) FROM messages)')
    database.close()
    for _ in 'ab':
        code, printed = label('.' if shown == '.' else own_bag)
        assert (code, '1 of 1 messages of /own are missing' in printed.err) == (1, True)
    assert 'exists already' in printed.out
    assert f'error: {shown} is damaged' in printed.err
    metadata = tmp_path / 'labelled' / 'own' / 'metadata.yaml'
    assert str(tmp_path) not in metadata.read_text()


def test_a_first_image_that_is_cut_off_is_counted_and_the_others_have_depth(
    label, changed_drive, tmp_path
):
    cut = iter([100])

    def change(topic, message, log_ns):
        size = next(cut, None) if topic == '/camera/image_raw' else None
        return topic, {'data': message.data[:size]} if size else {}, log_ns

    code, printed = label(changed_drive(tmp_path / 'bag', change))
    assert code == 0, printed.err
    assert '3 images, 2 with metric depth, rejected 1 truncated' in printed.out
    assert 'warning (1 image): rejected: rgb8 image has 100 bytes of' in printed.out
    copied = messages(tmp_path / 'labelled' / 'bag')
    times = ([log_ns for *_, log_ns in copied[topic]] for topic in (DEPTH, '/camera/image_raw'))
    assert next(times) == next(times)[1:]


@pytest.mark.parametrize(
    ('left_out', 'reason'),
    [('/velodyne_points', 'no topic holds sparse depth'), ('/tf_static', 'no transform')],
)
def test_a_bag_without_sparse_depth_is_refused_before_the_work(
    label, drive_without, ramp, monkeypatch, tmp_path, left_out, reason
):
    monkeypatch.setattr(ramp, 'predict', None)
    bag = drive_without(left_out)
    code, printed = label(bag)
    assert code == 1
    assert f'no image of {bag} could be metric: {reason}' in printed.err
    assert f'inspect {bag}' in printed.err
    assert [p.name for p in (tmp_path / 'labelled').iterdir()] == ['.lock']


def test_a_fixed_scale_labels_a_bag_without_sparse_depth(label, drive_without):
    fixed = 'alignment.method=fixed', 'alignment.scale=20.0', 'alignment.shift=1.0'
    code, printed = label(
        drive_without('/velodyne_points'), *(word for one in fixed for word in ('--set', one))
    )
    assert code == 0, printed.err
    assert '3 images, 3 with metric depth' in printed.out


@pytest.mark.slow  # labels twice
def test_a_labelled_bag_is_labelled_anew(label, short_drive, tmp_path, capsys):
    assert label(short_drive)[0] == 0
    once = shutil.move(tmp_path / 'labelled', tmp_path / 'once')
    code, printed = label(f'{once}/drive')
    assert code == 0
    assert DEPTH in printed.out
    with BagReader(tmp_path / 'labelled' / 'drive') as reader:
        assert reader.topics[DEPTH].count == 3


def test_bags_of_one_name_are_refused(label, short_drive, tmp_path):
    other = shutil.copytree(short_drive, tmp_path / 'other' / 'drive')
    code, printed = label(short_drive, other)
    assert code == 1
    assert "2 of the bags are named 'drive'" in printed.err


@pytest.mark.slow  # labels twice
def test_the_copy_of_another_bag_of_the_same_name_is_no_copy_of_this_one(
    label, short_drive, drive_without, tmp_path
):
    other = shutil.copytree(drive_without('/tf_static'), tmp_path / 'other' / 'drive')
    same = shutil.copytree(short_drive, tmp_path / 'moved' / 'drive')
    fixed = 'alignment.method=fixed', 'alignment.scale=20.0', 'alignment.shift=1.0'
    options = [word for one in fixed for word in ('--set', one)]
    assert label(short_drive, *options)[0] == 0
    code, printed = label(other, *options)
    assert code == 1
    assert f'is the copy of another bag than {other}' in printed.err
    code, printed = label(same, *options)
    assert (code, 'exists already' in printed.out) == (0, True)


def test_a_full_disk_is_called_one_and_not_a_damaged_bag(label, short_drive, tmp_path, full_disk):
    load_fusion(EMBEDDED / FUSION)  # is compiled once, and writes then
    with full_disk(1 << 19):
        code, printed = label(short_drive)
    assert code == 1
    assert 'free some space on its disk' in printed.err
    assert 'damaged' not in printed.err
    assert {p.name for p in (tmp_path / 'labelled').iterdir()} == {'.lock', 'label.json'}
