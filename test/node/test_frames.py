# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images, scans and camera_info go in over DDS; what comes out."""

import threading
import time
from types import SimpleNamespace

import cv2
from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import is_rectified_name
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig
from marigold_ros.frame import Prediction
from marigold_ros.geometry.measured_points import measure_points
from marigold_ros.message_codec import (
    encode_depth,
    encode_image,
    header_ns,
    to_camera,
    to_depth,
    to_organised,
)
from marigold_ros.models.runtime.disk_cache import cache_folder, known_sizes
from marigold_ros.node.diagnostic_keys import values_of
from marigold_ros.node.interface import publishers, subscriptions
from marigold_ros.node.interface.publishers import TOPICS
from marigold_ros.node.ros_helpers import image_message
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

SECOND = 1_000_000_000
DEPTH, RELATIVE, ALIGNMENT = 'depth/image_rect', 'relative/image', 'alignment'
WITHOUT_EXTRINSICS = dict.fromkeys(('extrinsics.translation', 'extrinsics.rotation_xyzw'))
METRES = (DEPTH, 'depth/camera_info', 'uncertainty/image', 'points')
# Depth of the planted plane by row, metres.
ROWS = 2.0 + 8.0 * np.linspace(1.0, 0.0, 48)


def test_depth_is_the_planted_plane_and_the_cloud_agrees(running):
    running.configure(alignment__method='global')
    running.send(SECOND)
    image = running.wait_received(DEPTH)[0]
    depth = to_depth(image)
    assert image.encoding == '32FC1'
    np.testing.assert_allclose(depth, np.repeat(ROWS[:, None], 64, 1), rtol=0.02)
    cloud = to_organised(running.wait_received('points')[0], ('x', 'y', 'z'))
    assert cloud.shape == (48, 64, 3)
    np.testing.assert_array_equal(cloud[..., 2], depth)
    camera = to_camera(running.wait_received('depth/camera_info')[0])
    expected = (np.arange(64) - camera.K[0, 2]) / camera.K[0, 0] * depth[10]
    np.testing.assert_allclose(cloud[10, :, 0], expected, rtol=1e-5)


def test_the_cloud_has_normals_where_they_are_asked_for(running):
    assert running.configure(points__normals=True, points__stride=2)
    running.send(SECOND)
    message = running.wait_received('points')[0]
    names = ('normal_x', 'normal_y', 'normal_z')
    assert tuple(field.name for field in message.fields) == ('x', 'y', 'z', 'rgb', *names)
    normals = to_organised(message, names)[2:-2, 2:-2]
    assert normals.shape == (20, 28, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    # Depth grows towards the top, as of a floor; y points down.
    assert (normals[..., 1] < 0).all()
    points = to_organised(message, ('x', 'y', 'z'))[2:-2, 2:-2]
    assert ((normals * points).sum(axis=-1) < 0).all()


def test_alignment_reports_scale_shift_and_points(running):
    running.configure(alignment__method='global')
    stamp = 1_700_000_000_123_456_789
    running.send(stamp)
    values = values_of(running.wait_received(ALIGNMENT)[0].status[0])
    assert ' '.join(values) == (
        'scale shift inliers points rms condition state reason led_by map_share map_reason '
        'scan_stamp image_stamp age image_coverage nearest farthest calibration caution'
    )
    assert values['state'] == 'fitted'
    sent = str(running.robot.begin_ns + stamp)
    assert values['scan_stamp'] == values['image_stamp'] == sent
    assert float(values['scale']) == pytest.approx(8.0, rel=0.02)
    assert float(values['shift']) == pytest.approx(2.0, rel=0.05)
    points = to_organised(running.wait_received('alignment/points')[0], ('z', 'inlier'))
    assert points.shape[1] == int(values['points'])
    assert points[..., 1].sum() == int(values['inliers'])
    assert points[..., 0].min() >= 2.0


def test_alignment_points_lie_on_the_rays_of_the_cloud_where_pixels_are_skewed(running):
    running.configure(alignment__method='global')
    info = running.robot.camera_info(SECOND)
    info.k[1] = info.p[1] = 5.0
    running.deliver('info', info)
    running.send(SECOND, info=False)
    axes = ('x', 'y', 'z')
    points = to_organised(running.wait_received('alignment/points')[0], axes)[0]
    cloud = to_organised(running.wait_received('points')[0], axes)
    u, v, _ = np.rint(info.k.reshape(3, 3) @ (points / points[:, 2:]).T).astype(int)
    assert len(points) > 200
    for axis in (0, 1):
        rays = cloud[v, u, axis] / cloud[v, u, 2]
        np.testing.assert_allclose(points[:, axis] / points[:, 2], rays, atol=1e-6)


def test_a_useless_map_is_reported_and_depth_goes_on(running, monkeypatch):
    constant = Prediction(np.full((48, 64), 0.5, np.float32))
    monkeypatch.setattr(running.model, 'predict', lambda *_a, **_k: constant)
    running.send(SECOND)
    depth = to_depth(running.wait_received(DEPTH)[0])
    assert np.abs(depth[2:-2] / ROWS[2:-2, None] - 1).mean() < 0.02
    running.wait_quiet(1)
    level, text, values = running.status('alignment')
    assert (level, values['state'], values['led_by']) == (1, 'fitted', 'points')
    assert (values['scale'], values['map_share']) == ('nan', '0')
    assert 'constant' in values['map_reason']
    assert values['map_reason'] in text


def test_without_a_scan_there_is_relative_depth_and_no_metres(running):
    for number in (1, 2):
        running.send(number * SECOND, scan=False)
        running.wait_received(RELATIVE, number)
        running.wait_quiet(number)
    assert [running.robot.received[topic] for topic in METRES] == [[]] * 4
    level, text, values = running.status('alignment')
    assert level == 1
    assert values['state'] == 'none'
    assert values['reason'] in text


def test_a_scan_that_comes_after_its_image_is_waited_for(running):
    running.configure(lidar__wait=2.0)
    running.send(SECOND, scan=False)
    assert running.model.started.acquire(timeout=30)
    late = running.robot.scan_of_plane(SECOND + 3_000_000)
    running.robot.lidar.publish(late)
    running.wait_received(DEPTH)
    running.wait_quiet(1)
    assert running.status('alignment')[2]['scan_stamp'] == str(header_ns(late))


def test_one_scan_serves_each_image_around_it(running):
    running.send(SECOND)
    running.wait_received(DEPTH)
    running.send(SECOND + SECOND // 50, scan=False)
    running.wait_received(DEPTH, 2)
    running.wait_quiet(2)
    values = running.status('alignment')[2]
    assert values['state'] == 'fitted'
    assert int(values['image_stamp']) - int(values['scan_stamp']) == SECOND // 50


def test_the_time_offset_is_added_to_the_stamps_of_scans_also_once_they_are_there(running):
    running.configure(lidar__time_offset=0.5, lidar__wait=0.0)
    running.send(SECOND // 2, scan=False)  # the setting is read with an image
    running.wait_quiet(1)
    running.deliver('scan', running.robot.scan_of_plane(SECOND))
    for number, offset in enumerate((0.5, 1.5), 2):
        running.configure(lidar__time_offset=offset)
        stamp = SECOND + round(offset * SECOND)
        running.send(stamp, scan=False)
        running.wait_quiet(number)
        values = running.status('alignment')[2]
        assert values['state'] == 'fitted'
        assert values['scan_stamp'] == str(running.robot.begin_ns + stamp)


def test_scans_that_come_while_a_slow_model_runs_do_not_displace_those_of_its_images(running):
    running.configure(lidar__buffer=0.5)
    running.model.gate.clear()
    running.send(SECOND, scan=False)
    assert running.model.started.acquire(timeout=30)
    running.send(SECOND + SECOND // 10, scan=False)  # waits for the model
    for tick in range(10):
        late = SECOND + tick * SECOND // 10 + 3_000_000
        running.deliver('scan', running.robot.scan_of_plane(late))
    running.model.gate.set()
    assert to_depth(running.wait_received(DEPTH)[0])[10, 10] == pytest.approx(ROWS[10], rel=0.02)
    running.wait_quiet(2)
    assert running.status('alignment')[2]['state'] == 'fitted'


def test_a_scan_that_is_there_is_measured_beside_the_prediction(running, monkeypatch):
    measured, predict = threading.Event(), running.model.predict

    def measure(*arguments):
        measured.set()
        return measure_points(*arguments)

    def wait_and_predict(*arguments, **settings):
        assert measured.wait(20)
        return predict(*arguments, **settings)

    monkeypatch.setattr('marigold_ros.pipeline.measure_points', measure)
    monkeypatch.setattr(running.model, 'predict', wait_and_predict)
    running.send(SECOND)
    assert to_depth(running.wait_received(DEPTH)[0])[10, 10] == pytest.approx(ROWS[10], rel=0.02)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'k': [0.0] * 9}, 'uncalibrated'),
        ({'width': 640}, 'or calibrate at this size'),
        ({'distortion_model': 'barrel', 'd': [0.1, 0.2]}, "distortion model is 'barrel'"),
    ],
)
def test_a_useless_camera_info_leaves_relative_depth_and_is_counted(running, changes, words):
    running.deliver('info', running.robot.camera_info(SECOND, **changes))
    for number in (1, 2):  # the same camera_info, counted once
        running.send(number * SECOND, info=False)
        running.wait_received(RELATIVE, number)
        assert running.wait_quiet(number)['frames.served'] == number
    assert running.robot.received[DEPTH] == []
    level, text, values = running.status('infos')
    assert (level, words in text) == (1, True)
    assert values['infos.rejected.calibration'] == '1'
    assert words in running.status('alignment')[2]['reason']


@pytest.mark.parametrize('source', ['none', 'pointcloud'])
def test_metres_for_one_focal_length_need_a_usable_camera_info(bench, monkeypatch, source):
    settings = {'sparse_source': source, 'alignment.smoothing': 0.0}
    running = bench(settings, hear=(DEPTH, RELATIVE), connect=False)
    share = 60.0 / np.sqrt(64 * 48) / 2  # half of the camera's
    five = Prediction(np.full((48, 64), 5.0, np.float32), space='metric', focal_share=share)
    monkeypatch.setattr(running.model, 'predict', lambda *_a, **_k: five)
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    encoded = encode_image(rgb, 'rgb8')
    inputs = running.robot.image, running.robot.info
    running.wait_for(lambda: all(item.get_subscription_count() for item in inputs))
    reasons = []
    for number, changes in enumerate((None, {}, {'k': [0.0] * 9}), 1):
        if changes is not None:
            running.deliver('info', running.robot.camera_info(number * SECOND // 10, **changes))
        header = running.robot.header(number * SECOND // 10)
        running.deliver('image', image_message(header, encoded))
        running.wait_received(RELATIVE, number)
        assert running.wait_quiet(number)['frames.served'] == number
        reasons.append(running.status('alignment')[2]['reason'])
    assert 'no camera_info on /camera/camera_info' in reasons[0]
    assert 'uncalibrated' in reasons[2]
    (metres,) = map(to_depth, running.wait_received(DEPTH))
    np.testing.assert_allclose(metres, 10.0)


def test_an_image_that_grows_too_old_while_it_waits_is_dropped(running):
    assert running.configure(max_input_age=3600.0)
    running.model.gate.clear()
    running.send(time.time_ns() - running.robot.begin_ns)
    assert running.model.started.acquire(timeout=30)
    running.send(time.time_ns() - running.robot.begin_ns)
    assert running.configure(max_input_age=1e-6)
    running.model.gate.set()
    counts = running.wait_quiet(2)
    assert (counts['frames.served'], counts['frames.rejected.age']) == (1, 1)
    assert running.model.calls == 1


def test_the_first_camera_info_is_waited_for_where_somebody_publishes_it(bench, monkeypatch):
    monkeypatch.setattr(subscriptions, '_INFO_WAIT', 20.0)  # however busy the machine is
    running = bench(hear=(DEPTH,))
    running.send(SECOND, info=False)
    running.deliver('info', running.robot.camera_info(SECOND))
    running.wait_received(DEPTH)


def test_a_camera_info_that_follows_each_image_is_of_it(bench, monkeypatch):
    monkeypatch.setattr(subscriptions, '_INFO_WAIT', 20.0)
    running = bench(hear=('depth/camera_info',))
    for number, focal in enumerate((60.0, 80.0, 70.0), 1):  # a zoom lens
        running.send(number * SECOND, info=False)
        running.deliver('info', running.robot.camera_info(number * SECOND, focal=focal))
        assert running.wait_received('depth/camera_info', number)[-1].k[0] == focal


def test_a_camera_info_after_the_image_is_not_of_it(running):
    for second, size in ((1, (64, 48)), (2, (32, 24))):
        running.deliver('info', running.robot.camera_info(second * SECOND, size=size))
    running.send(SECOND, info=False)
    assert running.wait_received(DEPTH)[0].width == 64


def test_of_the_ground_too_the_reason_is_the_camera_info(bench):
    settings = {'sparse_source': 'ground', 'ground.height': 1.5}
    running = bench(settings, hear=(RELATIVE,), connect=False)
    inputs = running.robot.image, running.robot.info
    running.wait_for(lambda: all(item.get_subscription_count() for item in inputs))
    running.deliver('info', running.robot.camera_info(SECOND, k=[0.0] * 9))
    running.send(SECOND, scan=False, info=False)
    running.wait_received(RELATIVE)
    running.wait_quiet(1)
    assert 'uncalibrated' in running.status('alignment')[2]['reason']
    assert running.status('scans')[2] == {'fits.none': '1'}


@pytest.mark.parametrize('is_rectified', ['auto', 'yes'])
def test_a_distorted_image_gives_rectified_depth_and_camera_info(bench, is_rectified):
    hear = ('depth/camera_info', 'rgb/image_rect')
    running = bench({'image_rectified': is_rectified, 'alignment.method': 'global'}, hear=hear)
    info = running.robot.camera_info(SECOND, d=[0.05, 0.0, 0.0, 0.0, 0.0])
    running.deliver('info', info)
    running.deliver('scan', running.robot.scan_of_plane(SECOND))
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = image_message(running.robot.header(SECOND), encode_image(rgb, 'rgb8'))
    running.deliver('image', image)
    rectified = running.wait_received('depth/camera_info')[0]
    assert not any(rectified.d)
    assert list(rectified.k) == pytest.approx(list(info.k))
    # As its topic, /camera/image_raw, does not say that it is rectified already.
    shown = running.wait_received('rgb/image_rect')[0].data
    assert (shown == image.data) == (is_rectified == 'yes')


def test_a_parameter_changed_between_frames_serves_the_next_one(running):
    running.send(SECOND)
    assert running.wait_received(DEPTH)[0].encoding == '32FC1'
    assert running.configure(depth_encoding='16UC1', frame_id='elsewhere')
    running.send(2 * SECOND)
    message = running.wait_received(DEPTH, 2)[1]
    assert message.encoding == '16UC1'
    assert message.header.frame_id == 'elsewhere'
    assert 1.9 < np.nanmin(to_depth(message)) < 2.1
    assert running.configure(depth_max=5.0, color_min_depth=2.0, color_max_depth=4.0)
    running.send(3 * SECOND)
    png = bytes(running.wait_received('depth/image_rect/compressedDepth', 3)[2].data)[12:]
    inverse = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    depth = to_depth(running.wait_received(DEPTH, 3)[2])
    np.testing.assert_array_equal(inverse == 0, depth >= 5.0)
    colours = np.reshape(running.wait_received('depth/color', 3)[2].data, (48, 64, 3))
    assert len(np.unique(colours[depth >= 4.0], axis=0)) == 1
    assert len(np.unique(colours[depth < 4.0], axis=0)) > 10


def test_what_nobody_hears_is_not_computed(bench, monkeypatch):
    computed = []
    monkeypatch.setattr(publishers, 'cloud_of', lambda *_given: computed.append('points'))
    running = bench(hear=(DEPTH,))
    running.send(SECOND)
    running.wait_received(DEPTH)
    running.wait_quiet(1)
    assert not computed


def test_a_camera_info_of_another_frame_is_pointed_out_once(running, capfd):
    for number in (1, 2):
        info = running.robot.camera_info(number * SECOND)
        info.header.frame_id = 'elsewhere'
        running.deliver('info', info)
        running.send(number * SECOND, info=False)
        running.wait_received(DEPTH, number)
        running.wait_quiet(number)
    text = "in frame 'camera_optical', its camera_info in 'elsewhere'"
    assert capfd.readouterr().err.count(text) == 1


@pytest.mark.parametrize('backend', ['auto', 'openvino'])
def test_every_output_carries_stamp_and_frame_of_the_image(bench, backend):
    running = bench({'runtime.backend': backend}, hear=TOPICS)
    stamp = 5 * SECOND + 123
    running.send(stamp)
    for topic in TOPICS:
        message = running.wait_received(topic)[0]
        assert header_ns(message) == stamp, topic
        assert message.header.frame_id == 'camera_optical', topic
    assert running.wait_quiet(1)['frames.served'] == 1
    # For the next start, which compiles for this size before the first image.
    depth = running.wait_received(DEPTH)[0]
    assert known_sizes(cache_folder(''), 'unet') == [(depth.height, depth.width)]


@pytest.fixture
def with_depth_camera(bench):
    """Start a node that takes depth images of a camera; returns it and what sends one."""

    def start(hear, **parameters):
        running = bench(
            {'sparse_source': 'depth_image', **parameters},
            hear=hear,
            connect=False,
            remap=('-r', 'sparse_depth:=/tof/depth'),
        )
        robot = running.robot
        sparse = robot.node.create_publisher(Image, '/tof/depth', QoSProfile(depth=5))
        inputs = sparse, robot.image, robot.info
        running.wait_for(lambda: all(p.get_subscription_count() for p in inputs))

        def send(stamp, depth, frame='camera_optical', encoding='32FC1'):
            fields = encode_depth(depth, encoding)
            message = image_message(robot.header(stamp, frame), fields)
            sparse.publish(message)
            running.send(stamp, scan=False)
            return message

        return running, send

    return start


@pytest.mark.parametrize('source', ['pointcloud', 'depth_image'])
def test_output_at_the_models_size_has_a_camera_that_fits(bench, with_depth_camera, source):
    settings = {'alignment.method': 'global', 'output_resolution': 'processing'}
    if source == 'pointcloud':
        running = bench(settings, hear=METRES)
    else:
        running, send_depth = with_depth_camera(METRES, **settings, **WITHOUT_EXTRINSICS)
    running.model.processing_size = lambda height, width, _chosen: (height // 2, width // 2)
    if source == 'pointcloud':
        running.send(SECOND)
    else:
        send_depth(SECOND, np.repeat(ROWS[:, None], 64, 1).astype(np.float32), frame='')
    depth = to_depth(running.wait_received(DEPTH)[0])
    assert depth.shape == (24, 32)
    # Scaled intrinsics are half a pixel off the pixel centres, see rescale: a row is 0.17 m.
    np.testing.assert_allclose(depth[:, 5], ROWS.reshape(24, 2).mean(1), atol=0.17)
    camera = to_camera(running.wait_received('depth/camera_info')[0])
    assert (camera.height, camera.width, camera.K[0, 0]) == (24, 32, 30.0)
    assert to_organised(running.wait_received('points')[0], ('x',)).shape == (24, 32, 1)


def test_an_image_without_a_frame_has_that_of_its_camera_info(running):
    running.deliver('scan', running.robot.scan_of_plane(SECOND))
    running.deliver('info', running.robot.camera_info(SECOND))
    image = running.robot.image_message(SECOND)
    image.header.frame_id = ''
    running.deliver('image', image)
    for topic in METRES:
        assert running.wait_received(topic)[0].header.frame_id == 'camera_optical'


def test_missing_extrinsics_mean_no_metres_and_a_reason(bench):
    running = bench(WITHOUT_EXTRINSICS, hear=(DEPTH, RELATIVE))
    running.send(SECOND)
    running.wait_received(RELATIVE)
    assert running.wait_quiet(1)['frames.served'] == 1
    assert running.robot.received[DEPTH] == []
    level, text, _ = running.status('transform')
    assert level == 1
    assert 'camera_optical <- velodyne' in text
    assert 'extrinsics' in text


def test_a_depth_image_gives_the_same_depth_live_and_offline(with_depth_camera, tmp_path):
    running, send = with_depth_camera((DEPTH,))
    sparse = np.full((48, 64), np.nan, np.float32)
    sparse[::4, ::4] = ROWS[::4, None]
    message = send(SECOND, sparse, encoding='16UC1')
    depth = to_depth(running.wait_received(DEPTH)[0])
    assert depth[24].mean() == pytest.approx(ROWS[24], rel=0.05)
    sent = {
        '/camera/image': running.robot.image_message(SECOND),
        '/camera/camera_info': running.robot.camera_info(SECOND),
        '/tof/depth': message,
    }
    with BagWriter(tmp_path / 'bag') as bag:
        for topic, item in sent.items():
            msgtype = f'sensor_msgs/msg/{type(item).__name__}'
            bag.write_raw(topic, msgtype, serialize_message(item), SECOND)
    with BagReader(tmp_path / 'bag') as reader:
        (item,) = bag_frames(reader, reader.choose_topics(lidar='/tof/depth'), LidarConfig())
    assert item.warning == ''
    offline = FramePipeline(type(running.model)()).process(item.frame)
    np.testing.assert_array_equal(offline.metric, depth)


def test_a_depth_camera_of_its_own_frame_and_size_needs_its_camera_info(with_depth_camera):
    pose = {
        'extrinsics.translation': [0.0, 0.0, 0.1],  # in front of the image's camera
        'extrinsics.rotation_xyzw': [0.0, 0.0, 0.0, 1.0],
    }
    running, send = with_depth_camera(
        (DEPTH, ALIGNMENT), **pose, **{'alignment.method': 'global', 'lidar.wait': 1.0}
    )
    info = running.robot.node.create_publisher(CameraInfo, '/tof/camera_info', QoSProfile(depth=1))
    running.wait_for(info.get_subscription_count)
    plane = np.repeat(2.0 + 8.0 * np.linspace(1.0, 0.0, 24)[:, None], 32, 1).astype(np.float32)

    def fit(second):
        send(second * SECOND, plane, 'tof')
        return running.wait_received(ALIGNMENT, second)[-1].status[0].message

    def fit_again():
        fits = running.robot.received[ALIGNMENT]
        running.send(header_ns(fits[-1]) - running.robot.begin_ns + SECOND // 1000, scan=False)
        return running.wait_received(ALIGNMENT, len(fits) + 1)[-1].status[0].message

    needed, seconds = 'needs a camera_info of its own on /tof/camera_info', iter(range(1, 50))
    running.wait_for(lambda: needed in fit(next(seconds)))  # until images arrive
    assert needed in fit_again()
    assert running.status('scans')[2]['scans.rejected.camera_info'] == '1'
    assert not running.robot.received[DEPTH]
    camera = running.robot.camera_info(SECOND, 30.0, (32, 24))
    camera.header.frame_id = 'tof'
    info.publish(camera)
    running.wait_for(lambda: fit_again().startswith('fitted'))  # until it has arrived
    metres = to_depth(running.wait_received(DEPTH)[0])
    assert metres[24].mean() == pytest.approx(ROWS[24] + 0.1, rel=0.03)


def test_an_unknown_ground_is_a_reason_and_no_metres(bench, install_tf2):
    def unknown(*_frames_and_time):
        raise LookupError('base_footprint is not known')

    install_tf2(lambda: SimpleNamespace(lookup_transform=unknown, clear=lambda: None))
    heard = (DEPTH, RELATIVE, ALIGNMENT)
    running = bench({'sparse_source': 'ground'}, hear=heard, connect=False)
    inputs = running.robot.image, running.robot.info
    running.wait_for(lambda: all(item.get_subscription_count() for item in inputs))
    running.send(SECOND, scan=False)
    running.wait_received(RELATIVE)
    status = running.wait_received(ALIGNMENT)[0].status[0]
    assert 'no transform camera_optical <- base_footprint' in status.message
    assert 'publish it or set ground.height' in status.message
    assert not running.robot.received[DEPTH]


def test_each_of_several_sources_has_its_own_line_and_may_be_missing(bench):
    sources = {'sparse_source': 'pointcloud,radar,ground', 'alignment.method': 'global'}
    running = bench(sources, hear=(DEPTH,))
    radar = running.robot.node.create_publisher(PointCloud2, '/radar', QoSProfile(depth=5))
    running.wait_for(radar.get_subscription_count)
    running.node.refresh_inputs()
    running.wait_for(radar.get_subscription_count)
    running.deliver('scan', running.robot.scan_of_plane(SECOND), radar)
    running.send(SECOND)
    running.wait_received(DEPTH)
    _, text, values = running.status('scans.pointcloud')
    assert (text, values['scans.pointcloud.used']) == ('/velodyne_points', '1')
    assert int(values['points']) > 100
    assert values['scans.pointcloud.received'] == '1'
    # The extrinsics are those of the first source.
    level, text, values = running.status('scans.radar')
    assert (level, values['scans.radar.missing']) == (1, '1')
    assert 'rotation_xyzw, with this sensor first in sparse_source' in text
    level, text, values = running.status('scans.ground')
    assert level == 1
    assert 'base_footprint' in text
    assert (values['scans.ground.missing'], values['points']) == ('1', '0')


@pytest.mark.parametrize(
    ('topic', 'expected'),
    [
        ('/camera/image_rect', True),
        ('/camera/image_rect_color', True),
        ('/rectified/image', True),
        ('/camera/image_raw', False),
        ('/direct/image', False),
    ],
)
def test_rectified_images_are_known_by_a_word_of_their_topic(topic, expected):
    assert is_rectified_name(topic) is expected
