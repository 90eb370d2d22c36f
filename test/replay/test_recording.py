# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The bag that evaluate --record writes: read back, it holds what the pipeline gave."""

from __future__ import annotations

from dataclasses import replace
import shutil

from marigold_ros.__main__ import main
from marigold_ros.bags.frames import bag_frames, Excerpt
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import LidarConfig, PipelineConfig, PointsConfig
from marigold_ros.errors import BagError
from marigold_ros.geometry.cloud.organised import cloud_of
from marigold_ros.live_run.scoring import read_alignment, RecordedOutputs
from marigold_ros.message_codec import to_depth, to_organised
from marigold_ros.pipeline import FramePipeline
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import get_typestore, Stores

FRAMES = 3
NODE = '/marigold_depth'
RECORD = ReplayOptions(record=PointsConfig())


@pytest.fixture(scope='module')
def recording(short_drive, ramp, tmp_path_factory):
    out = tmp_path_factory.mktemp('out')
    options = ReplayOptions(record=PointsConfig(stride=2, sigma=True))
    evaluate_bag(short_drive, ramp, options, out)
    return out / 'recording'


def messages(path, topic):
    with BagReader(path) as reader:
        return [(message, log_ns) for _, message, log_ns in reader.messages([topic])]


def stamp_ns(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def pipeline_results(drive, model):
    pipeline = FramePipeline(model, PipelineConfig())
    with BagReader(drive) as reader:
        return [
            (item, pipeline.process(item.frame))
            for item in bag_frames(reader, reader.choose_topics(), LidarConfig())
        ]


def test_the_images_are_those_of_the_pipeline_bit_by_bit(short_drive, recording, ramp):
    results = pipeline_results(short_drive, ramp)
    parts = {'depth/image_rect': 'metric', 'uncertainty/image': 'sigma'}
    for name, field in {**parts, 'relative/image': 'relative'}.items():
        found = messages(recording, f'{NODE}/{name}')
        assert len(found) == FRAMES
        for (message, _), (item, result) in zip(found, results, strict=True):
            data = np.frombuffer(message.data, '<f4').reshape(message.height, message.width)
            assert data.tobytes() == getattr(result, field).tobytes()
            assert stamp_ns(message) == item.stamp_ns
            assert message.header.frame_id == item.image_message.header.frame_id
            assert message.encoding == '32FC1'


def test_the_cloud_has_the_stride_and_fields_asked_for(short_drive, recording, ramp):
    config = PointsConfig(stride=2, sigma=True)
    found = messages(recording, f'{NODE}/points')
    for (message, _), (_, result) in zip(found, pipeline_results(short_drive, ramp), strict=True):
        assert (message.height, message.width) == (36, 48)
        assert [field.name for field in message.fields] == ['x', 'y', 'z', 'rgb', 'sigma']
        cloud = cloud_of(result, config)
        read = to_organised(message, ('x', 'y', 'z', 'sigma'))
        for i, name in enumerate(('x', 'y', 'z', 'sigma')):
            np.testing.assert_array_equal(read[..., i], cloud[name])


def test_the_camera_info_describes_the_rectified_image(short_drive, recording, ramp):
    _, result = pipeline_results(short_drive, ramp)[0]
    for part in ('depth', 'relative', 'uncertainty'):
        info, _ = messages(recording, f'{NODE}/{part}/camera_info')[0]
        assert np.array_equal(np.reshape(info.k, (3, 3)), result.camera.K)
        assert (info.width, info.height) == (96, 72)


def test_what_was_read_is_beside_it_unchanged_and_in_time(short_drive, recording):
    with BagReader(short_drive) as reader:
        topics = reader.choose_topics().named
        source = list(reader.raw(topics))
    with BagReader(recording) as reader:
        copied = list(reader.raw(topics))
        everything = [(log_ns, topic) for topic, _, _, log_ns in reader.raw(list(reader.topics))]
    assert [(t, m, bytes(d), ns) for t, m, d, ns in copied] == [
        (t, m, bytes(d), ns) for t, m, d, ns in source
    ]
    assert everything[0][1] == '/tf_static'
    images = {log_ns for topic, _, _, log_ns in source if topic == '/camera/image_raw'}
    assert {log_ns for log_ns, topic in everything if topic.startswith(NODE)} == images


def test_the_demo_reads_it_like_a_live_recording(short_drive, recording, ramp):
    levels = [message.status[0].level for message, _ in messages(recording, f'{NODE}/alignment')]
    assert levels == [1, 1, 0]  # warns of a map without a share
    with BagReader(recording) as reader:
        outputs = RecordedOutputs(reader)
        for item, result in pipeline_results(short_drive, ramp):
            found = outputs.take(item.stamp_ns)
            alignment = read_alignment(found.values, 'depth')
            expected = result.alignment
            assert (alignment.state, alignment.led_by) == ('fitted', expected.led_by)
            assert alignment.scale == pytest.approx(expected.scale, rel=1e-5, nan_ok=True)
            assert alignment.shares['map'] == pytest.approx(expected.shares['map'], rel=1e-5)
            assert alignment.map_reason == expected.map_reason
            assert alignment.n_inliers == expected.n_inliers
            np.testing.assert_array_equal(to_depth(found.parts['depth']), result.metric)


@pytest.mark.slow  # two evaluations
def test_a_recording_can_be_evaluated_itself(recording, short_drive, ramp):
    again, first = (evaluate_bag(bag, ramp)['protocols'] for bag in (recording, short_drive))
    assert again == first


def test_a_limit_ends_the_recording_with_the_results(
    short_drive, tmp_path, capsys, monkeypatch, ramp
):
    monkeypatch.setattr('marigold_ros.models.load_model', lambda *options: ramp)
    call = ['evaluate', str(short_drive), '--out', str(tmp_path), '--limit', '2', '--record']
    assert main([*call, '--set', 'points.stride=8']) == 0
    assert len(messages(tmp_path / 'recording', f'{NODE}/points')) == 2
    assert len(messages(tmp_path / 'recording', '/camera/image_raw')) == 2
    assert main(call) == 0  # takes the place of the first
    cloud, _ = messages(tmp_path / 'recording', f'{NODE}/points')[0]
    assert cloud.height == 72


@pytest.mark.parametrize(
    ('excerpt', 'numbers'),
    [
        (Excerpt(start=0.05), [1, 2]),
        (Excerpt(every=2), [0, 2]),
        pytest.param(Excerpt(stop=0.15), [0, 1], marks=pytest.mark.slow),
    ],
)
def test_outputs_of_an_excerpt_are_beside_their_images(
    short_drive, tmp_path, ramp, excerpt, numbers
):
    evaluate_bag(short_drive, ramp, replace(RECORD, excerpt=excerpt), tmp_path)
    images = [stamp_ns(message) for message, _ in messages(short_drive, '/camera/image_raw')]
    found = messages(tmp_path / 'recording', f'{NODE}/relative/image')
    assert [stamp_ns(message) for message, _ in found] == [images[i] for i in numbers]
    assert [log_ns for _, log_ns in found] == [images[i] for i in numbers]
    copied = [log_ns for _, log_ns in messages(tmp_path / 'recording', '/camera/image_raw')]
    assert copied == images[numbers[0] : numbers[-1] + 1]
    with BagReader(tmp_path / 'recording') as reader:
        assert reader.span_ns[0] >= images[0] + 1e9 * excerpt.start
        assert reader.static_topics == ['/tf_static']


def test_each_bag_has_its_recording_and_others_are_kept(short_drive, tmp_path, ramp):
    one_image = replace(RECORD, limit=1)
    other = shutil.copytree(short_drive, tmp_path / 'other')
    evaluate_bag([short_drive, other], ramp, one_image, tmp_path)
    for name in ('recording_0', 'recording_1'):
        assert len(messages(tmp_path / name, f'{NODE}/depth/image_rect')) == 1
    (tmp_path / 'recording').mkdir()
    (tmp_path / 'recording' / 'thesis.txt').write_text('mine')
    with pytest.raises(BagError, match='in the way and no bag'):
        evaluate_bag(short_drive, ramp, one_image, tmp_path)
    assert (tmp_path / 'recording' / 'thesis.txt').is_file()
    shutil.rmtree(tmp_path / 'recording')
    (tmp_path / 'recording').symlink_to(other)
    with pytest.raises(BagError, match='in the way and no bag'):
        evaluate_bag(short_drive, ramp, one_image, tmp_path)


def test_a_recording_takes_the_place_of_no_bag_that_is_read(short_drive, tmp_path, ramp):
    bag = shutil.copytree(short_drive, tmp_path / 'recording')
    for path in (bag, next(bag.glob('*.mcap'))):
        with pytest.raises(BagError, match='would take the place of'):
            evaluate_bag(path, ramp, RECORD, tmp_path)
    shutil.copytree(short_drive, tmp_path / 'recording_0')
    with pytest.raises(BagError, match='would take the place of'):
        evaluate_bag([short_drive, tmp_path / 'recording_0'], ramp, RECORD, tmp_path)
    assert messages(bag, '/camera/image_raw')


def test_without_metric_depth_relative_and_reason_are_recorded(changed_drive, tmp_path, ramp):
    def bare(topic, message, log_ns):
        header = {'stamp': log_ns, 'frame_id': ''}  # as drivers leave it
        kept = {'/camera/camera_info': {}, '/camera/image_raw': {'header': header}}
        return (topic, kept[topic], log_ns) if topic in kept else None

    evaluate_bag(changed_drive(tmp_path / 'bare', bare), ramp, RECORD, tmp_path)
    with BagReader(tmp_path / 'recording') as reader:
        names = {topic for topic in reader.topics if topic.startswith(NODE)}
    parts = ('relative/image', 'relative/camera_info', 'alignment')
    assert names == {f'{NODE}/{part}' for part in parts}
    status = messages(tmp_path / 'recording', f'{NODE}/alignment')[0][0].status[0]
    values = {pair.key: pair.value for pair in status.values}
    assert values['state'] == 'none'
    assert values['reason']
    assert status.level == 1
    relative, _ = messages(tmp_path / 'recording', f'{NODE}/relative/image')[0]
    assert relative.header.frame_id == 'camera_optical'  # that of the camera_info


@pytest.mark.slow  # a recording more
def test_a_bag_of_ros_1_gives_a_recording_of_ros_2(short_drive, recording, tmp_path, ramp):
    path, store = tmp_path / 'old.bag', get_typestore(Stores.ROS1_NOETIC)
    with BagReader(short_drive) as reader, Ros1Writer(path) as writer:
        topics = reader.choose_topics()
        T = next(iter(bag_frames(reader, topics, LidarConfig()))).frame.T_cam_lidar
        connections = {}
        for topic, msgtype, data, log_ns in reader.raw(topics.named):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
            message = _as_ros_1(reader.decode(data, msgtype), msgtype, store)
            writer.write(connections[topic], log_ns, store.serialize_ros1(message, msgtype))
    evaluate_bag(path, ramp, replace(RECORD, T_cam_lidar=T), tmp_path)
    name = f'{NODE}/depth/image_rect'
    for (new, _), (old, _) in zip(
        messages(tmp_path / 'recording', name), messages(recording, name), strict=True
    ):
        assert bytes(new.data) == bytes(old.data)
    for topic in ('/camera/image_raw', '/camera/camera_info'):
        (new, log_ns), (old, before_ns) = (
            messages(folder, topic)[0] for folder in (tmp_path / 'recording', short_drive)
        )
        assert log_ns == before_ns
        assert str(new) == str(old)


def _as_ros_1(message, msgtype, store):
    """Headers have a sequence number there, and matrices of CameraInfo capital letters."""
    values = {name: value for name, value in vars(message).items() if name != '__msgtype__'}
    if msgtype == 'sensor_msgs/msg/CameraInfo':
        values = {name.upper() if name in 'dkrp' else name: v for name, v in values.items()}
    header = store.types['std_msgs/msg/Header'](
        seq=7, stamp=message.header.stamp, frame_id=message.header.frame_id
    )
    return store.types[msgtype](**{**values, 'header': header})
