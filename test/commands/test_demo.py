# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The demo end to end: a real node process over real DDS, and what stands in without ROS."""

from __future__ import annotations

import csv
import json
from pathlib import Path
import subprocess
import sys

from marigold_ros.__main__ import main
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.writer import BagWriter
from marigold_ros.commands import demo
from marigold_ros.config import LidarConfig, NodeConfig
from marigold_ros.errors import BagError, CalibrationError
from marigold_ros.evaluation.protocols.held_out import hold_out
from marigold_ros.live_run.played_bag import (
    node_arguments,
    node_values,
    played_messages,
    prepare_bag,
    serial_messages,
    synthetic_drive,
)
from marigold_ros.live_run.scoring import clear_old, read_alignment, RecordedOutputs
from marigold_ros.message_codec import to_points
from marigold_ros.models import load_model, use_threads
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import build
from marigold_ros.synthetic.drive.drive import write_drive
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 6
FILES = ('report.html', 'per_frame.csv', 'results.json', 'cloud.ply')
LIVE_FILES = (*FILES, 'demo.webp')


@pytest.fixture(scope='module')
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp('drive') / 'bag', FRAMES, width=160, height=120)


@pytest.fixture(scope='module')
def bag_without_truth(drive, copy_without, tmp_path_factory):
    """The drive as a robot records it."""
    return copy_without(
        tmp_path_factory.mktemp('robot') / 'bag', '/camera/depth_truth', source=drive
    )


def run_demo(bag, out, model, *options):
    command = [sys.executable, '-m', 'marigold_ros', 'demo', '--bag', bag, '--out', out]
    command += ['--model', model, '--json', *options]
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope='module')
def live(drive, small_checkpoint, tmp_path_factory):
    """One run of the real node on the drive: its answer and its folder."""
    pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')
    out = tmp_path_factory.mktemp('live') / 'demo'
    # A replay runs PyTorch, unless another backend is set.
    return run_demo(drive, out, small_checkpoint, '--set', 'runtime.backend=torch'), out


@pytest.mark.slow  # a node as a process, here and below
def test_the_node_serves_every_frame_without_an_error(live):
    answer, out = live
    assert answer.returncode == 0, answer.stderr + (out / 'node.log').read_text()
    results = json.loads(answer.stdout)
    expected = {'read': FRAMES, 'processed': FRAMES, 'metric': FRAMES, 'dropped': 0}
    assert results['frames'] == {**expected, 'rejected': {}}
    assert 'rate auto' in answer.stderr
    assert '[ERROR]' not in (out / 'node.log').read_text()


@pytest.mark.slow
def test_a_node_that_cannot_start_is_one_line_with_its_reason(drive, tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')
    answer = run_demo(drive, tmp_path / 'demo', tmp_path / 'no_such_checkpoint')
    assert answer.returncode == 1
    assert 'no_such_checkpoint' in answer.stderr
    assert 'Traceback' not in answer.stderr


@pytest.mark.slow
def test_results_of_the_live_run_are_complete(live):
    _, out = live
    results = json.loads((out / 'results.json').read_text())
    assert results['schema'] == 1
    assert 0 < results['rate'] <= 1
    assert {'truth', 'heldout', 'oracle'} <= set(results['protocols'])
    assert {'quadric', 'plane', 'nearest', 'linear', 'disparity'} <= set(results['baselines'])
    assert {'round_trip', 'predict', 'total'} <= set(results['latency_ms'])
    assert all(stage and 'p50' in times for stage, times in results['latency_ms'].items())
    # As `evaluate` names them, so that `compare` takes both.
    assert results['provenance']['extrinsics'] == 'transforms of the bag'
    node = results['provenance']['node']
    assert int(node['frames.received']) == int(node['frames.served']) == FRAMES
    assert all((out / name).stat().st_size > 0 for name in LIVE_FILES)
    assert list((out / 'pictures').glob('*_error.png'))
    with (out / 'per_frame.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['index'] for row in rows] == [str(index) for index in range(FRAMES)]
    assert all(float(row['scan_dt_ms']) == 3.0 for row in rows)


@pytest.mark.slow
def test_the_recording_of_the_live_run_is_a_bag(live):
    _, out = live
    with BagReader(out / 'recording') as reader:
        counts = {
            topic.removeprefix('/marigold_depth/'): n.count for topic, n in reader.topics.items()
        }
        stamps = [
            m.header.stamp.nanosec
            for _, m, _ in reader.messages(['/marigold_depth/depth/image_rect'])
        ]
    each = ('depth/image_rect', 'depth/camera_info', 'relative/image', 'alignment')
    assert {name: counts[name] for name in each} == dict.fromkeys(each, FRAMES)
    assert counts['points'] >= 1
    assert counts['/diagnostics'] >= 2
    assert stamps == [index * 100_000_000 for index in range(FRAMES)]


def recorded(folder, topic):
    with BagReader(folder) as reader:
        return {
            (m.header.stamp.sec, m.header.stamp.nanosec): np.frombuffer(m.data, np.float32)
            for _, m, _ in reader.messages([f'/marigold_depth/{topic}'])
        }


@pytest.mark.slow
def test_a_replay_of_the_processed_frames_is_bit_identical(live, drive, small_checkpoint):
    _, out = live
    relative, depth = (
        recorded(out / 'recording', t) for t in ('relative/image', 'depth/image_rect')
    )
    use_threads()
    pipeline = FramePipeline(load_model(str(small_checkpoint)))
    with BagReader(drive) as reader:
        for item in bag_frames(reader, reader.choose_topics(), LidarConfig()):
            result = pipeline.process(item.frame)
            stamp = divmod(item.stamp_ns, 10**9)
            assert np.array_equal(relative[stamp], result.relative.ravel())
            assert np.array_equal(depth[stamp], result.metric.ravel(), equal_nan=True)


def test_without_rclpy_the_same_pipeline_runs_offline(
    drive, small_checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo, 'live_runner', lambda: None)
    # As a setting, which wins over --model in the node as well.
    chosen = ['--model', 'no-such', '--set', f'model={small_checkpoint}']
    arguments = ['--bag', str(drive), '--out', str(tmp_path), *chosen]
    assert main(['demo', *arguments, '--frames', '2']) == 0
    assert 'offline' in capsys.readouterr().out
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['frames']['metric'] == 2
    assert all((tmp_path / name).exists() for name in FILES)
    assert main(['demo', *arguments, '--set', 'model=no-such']) == 1
    assert all((tmp_path / name).exists() for name in FILES)


def test_where_rclpy_cannot_be_imported_there_is_no_live_runner(without_rclpy):
    assert demo.live_runner() is None


def test_a_thinned_scan_holds_exactly_the_lines_of_the_fit(bag_without_truth):
    bag = prepare_bag(bag_without_truth, NodeConfig(), None)
    assert bag.thinned
    with BagReader(bag_without_truth) as reader:
        stream = bag_frames(reader, bag.topics, LidarConfig(), bag.T_cam_lidar)
        alignment = NodeConfig().pipeline.alignment
        splits = [(f.frame, hold_out(f.frame, alignment, 8, f.ring)) for f in stream]
        sent = [
            to_points(reader.decode(message.data, message.msgtype))
            for message in played_messages(reader, bag)
            if message.role == 'lidar'
        ]
    assert len(sent) == len(splits) == FRAMES
    for points, (frame, split) in zip(sent, splits, strict=True):
        np.testing.assert_array_equal(points, split.to_fit(frame).points_lidar)
        assert len(split.score) > 0


def test_with_true_depth_the_node_gets_the_messages_as_they_are(drive):
    bag = prepare_bag(drive, NodeConfig(), None)
    assert not bag.thinned
    with BagReader(drive) as reader:
        stored = list(serial_messages(reader, bag.topics))
        assert list(played_messages(reader, bag)) == stored


def test_real_drive_is_looked_over_as_compressed_images(shared_data):
    bag = prepare_bag(shared_data / 'kitti_drive', NodeConfig(), 5)
    assert bag.images == 5
    assert bag.period == pytest.approx(0.1, rel=0.01)
    assert bag.thinned
    values = node_values(bag, NodeConfig(), every_frame=True)
    assert values['image_transport'] == 'compressed'
    arguments = node_arguments(bag, values)
    assert 'image:=/camera/image_raw' in arguments
    assert bag.inputs['image'][0] == '/camera/image_raw/compressed'


def test_the_node_gets_the_extrinsics_of_the_bag(drive):
    bag = prepare_bag(drive, NodeConfig(), None)
    values = node_values(bag, NodeConfig(), every_frame=True)
    extrinsics = build(NodeConfig, values).extrinsics
    np.testing.assert_allclose(extrinsics.translation, bag.T_cam_lidar[:3, 3])
    assert np.linalg.norm(extrinsics.rotation_xyzw) == pytest.approx(1.0)
    text = ' '.join(node_arguments(bag, values))
    assert 'extrinsics.translation:=[' in text
    assert 'sparse_source' not in values


def test_a_users_settings_win_over_those_of_the_demo(drive):
    bag = prepare_bag(drive, NodeConfig(), None)
    config = build(NodeConfig, {'lidar.wait': 0.3, 'points.max_rate': 2.0})
    values = node_values(bag, config, every_frame=True)
    assert values['lidar.wait'] == 0.3
    assert values['points.max_rate'] == 2.0


def test_a_lidar_without_extrinsics_is_an_error_with_remedy(drive_without):
    with pytest.raises(CalibrationError, match=r'--set extrinsics\.translation'):
        prepare_bag(drive_without('/tf_static'), NodeConfig(), None)


def test_a_synthetic_drive_is_made_once_per_setting(tmp_path):
    first = synthetic_drive(tmp_path, 1, 64, 48)
    written = (first / 'metadata.yaml').stat().st_mtime_ns
    assert synthetic_drive(tmp_path, 1, 64, 48) == first
    assert (first / 'metadata.yaml').stat().st_mtime_ns == written
    synthetic_drive(tmp_path, 2, 64, 48)
    with BagReader(first) as reader:
        assert reader.topics['/camera/image_raw'].count == 2


def write_outputs(path, frames_written):
    """Write a recording of (stamp, state, parts that came)."""
    alignment = 'diagnostic_msgs/msg/DiagnosticArray'
    with BagWriter(path) as writer:
        for stamp, state, parts in frames_written:
            values = [{'key': 'state', 'value': state}]
            head = {'header': {'stamp': stamp}}
            if 'relative' in parts:
                topic = '/marigold_depth/relative/image'
                writer.write(topic, 'sensor_msgs/msg/Image', head, stamp)
            if 'alignment' in parts:
                body = {**head, 'status': [{'values': values}]}
                writer.write('/marigold_depth/alignment', alignment, body, stamp)
            if 'depth' in parts:
                topic = '/marigold_depth/depth/image_rect'
                writer.write(topic, 'sensor_msgs/msg/Image', head, stamp)


def test_a_recording_with_gaps_gives_only_whole_frames(tmp_path):
    whole = ('relative', 'alignment', 'depth')
    written = [(n, 'fitted', whole) for n in range(10)]
    written[2] = (2, 'fitted', ('alignment',))
    written[5] = (5, 'none', ('relative', 'alignment'))
    write_outputs(tmp_path / 'bag', written)
    with BagReader(tmp_path / 'bag') as reader:
        recording = RecordedOutputs(reader)
        found = [recording.take(n) is not None for n in range(12) if n != 7]
    assert found == [n != 2 and n < 10 for n in range(12) if n != 7]


def test_numbers_of_a_fit_are_read_back():
    values = {'state': 'held', 'reason': 'few points', 'scale': '2.5', 'shift': 'nan'}
    values |= {'points': '7', 'inliers': '5', 'rms': '0.25', 'condition': '9', 'age': '0.2'}
    values |= {'led_by': 'memory', 'map_share': '0.25', 'map_reason': 'constant'}
    alignment = read_alignment(values, 'log')
    assert (alignment.state, alignment.scale, alignment.space) == ('held', 2.5, 'log')
    assert alignment.age_ns == 200_000_000
    assert (alignment.led_by, alignment.shares['map']) == ('memory', 0.25)
    assert alignment.map_reason == 'constant'


def test_results_of_an_earlier_run_are_removed(tmp_path):
    (tmp_path / 'pictures').mkdir()
    for name in (*LIVE_FILES, 'pictures/frame_0_error.png', 'mine.txt'):
        (tmp_path / name).write_text('old')
    clear_old(tmp_path)
    assert [path.name for path in tmp_path.rglob('*.*')] == ['mine.txt']


@pytest.mark.parametrize('wrong', [('--bag', 'misspelt'), ('--size', '641x3')])
def test_a_mistake_removes_no_results_of_an_earlier_run(wrong, tmp_path, capsys):
    (tmp_path / 'results.json').write_text('old')
    assert main(['demo', *wrong, '--out', str(tmp_path)]) == 1
    assert 'error: ' in capsys.readouterr().err
    assert (tmp_path / 'results.json').read_text() == 'old'


def test_what_is_no_recording_is_not_removed(tmp_path):
    (tmp_path / 'recording').mkdir()
    (tmp_path / 'recording' / 'thesis.txt').write_text('mine')
    with pytest.raises(BagError, match='choose another --out'):
        clear_old(tmp_path)
    assert (tmp_path / 'recording' / 'thesis.txt').exists()


@pytest.mark.slow
def test_a_run_without_processed_images_fails_and_names_the_log(
    changed_drive, small_checkpoint, tmp_path
):
    pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')

    images = []

    def cut_two(topic, message, log_ns):
        images.extend([message] * (topic == '/camera/image_raw'))
        cut = topic == '/camera/image_raw' and len(images) <= 2
        return topic, {'data': message.data[:100]} if cut else {}, log_ns

    cut = changed_drive(tmp_path / 'cut', cut_two)
    answer = run_demo(cut, tmp_path / 'demo', small_checkpoint, '--frames', '2')
    assert answer.returncode == 1
    assert 'error: none of 2 images was processed' in answer.stderr
    assert 'image rejected: rgb8 image has 100 bytes' in (tmp_path / 'demo/node.log').read_text()


def test_a_bag_that_gives_no_metric_depth_is_refused_before_the_node_starts(
    drive_without, tmp_path, capsys, monkeypatch
):
    arguments = ['--bag', str(drive_without('/velodyne_points')), '--out', str(tmp_path / 'demo')]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny').mkdir()  # is not taken for the checkpoint of that name
    assert main(['demo', *arguments, '--model', 'tiny']) == 1
    assert 'could be metric: no topic holds sparse depth' in capsys.readouterr().err
    assert not (tmp_path / 'demo' / 'node.log').exists()
