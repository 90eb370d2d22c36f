# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images, scans and camera_info go in over DDS; what comes out."""

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.bags.frames import frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.topics import is_rectified_name
from marigold_ros.bags.writer import BagWriter
from marigold_ros.config import LidarConfig
from marigold_ros.frame import Prediction
from marigold_ros.message_codec import (
    encode_depth,
    header_ns,
    to_camera,
    to_depth,
    to_organised,
)
from marigold_ros.models.runtime.disk_cache import cache_folder, known_sizes
from marigold_ros.node.interface.messages import image_message
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

SECOND = 1_000_000_000
EVERYTHING = (
    ('depth/image_rect', Image),
    ('depth/camera_info', CameraInfo),
    ('depth/image_rect/compressedDepth', CompressedImage),
    ('depth/color', Image),
    ('depth/color/compressed', CompressedImage),
    ('relative/image', Image),
    ('relative/camera_info', CameraInfo),
    ('uncertainty/image', Image),
    ('uncertainty/camera_info', CameraInfo),
    ('points', PointCloud2),
    ('alignment', DiagnosticArray),
    ('alignment/points', PointCloud2),
)
DEPTH, RELATIVE = EVERYTHING[0], EVERYTHING[5]


def test_every_output_carries_stamp_and_frame_of_the_image(bench):
    running = bench(hear=EVERYTHING)
    stamp = 5 * SECOND + 123
    running.send(stamp)
    for topic, _ in EVERYTHING:
        message = running.wait_received(topic)[0]
        assert header_ns(message) == stamp, topic
        assert message.header.frame_id == 'camera_optical', topic
    assert running.wait_quiet(1)['frames.served'] == 1
    # For the next start, which compiles for this size before the first image.
    depth = running.wait_received('depth/image_rect')[0]
    assert known_sizes(cache_folder(''), 'tiny') == [(depth.height, depth.width)]


def test_depth_is_the_planted_plane_and_the_cloud_agrees(bench):
    running = bench({'alignment.method': 'global'}, hear=EVERYTHING)
    running.send(SECOND)
    image = running.wait_received('depth/image_rect')[0]
    depth = to_depth(image)
    rows = np.linspace(1.0, 0.0, 48)[:, None]
    assert image.encoding == '32FC1'
    np.testing.assert_allclose(depth, np.repeat(2.0 + 8.0 * rows, 64, 1), rtol=0.02)
    cloud = to_organised(running.wait_received('points')[0], ('x', 'y', 'z'))
    assert cloud.shape == (48, 64, 3)
    np.testing.assert_array_equal(cloud[..., 2], depth)
    camera = to_camera(running.wait_received('depth/camera_info')[0])
    expected = (np.arange(64) - camera.K[0, 2]) / camera.K[0, 0] * depth[10]
    np.testing.assert_allclose(cloud[10, :, 0], expected, rtol=1e-5)


@pytest.mark.parametrize('source', ['pointcloud', 'depth_image'])
def test_output_at_the_models_size_has_a_camera_that_fits(bench, source):
    running = bench(
        {'alignment.method': 'global', 'output_resolution': 'processing', 'sparse_source': source},
        hear=EVERYTHING,
        connect=source == 'pointcloud',
        remap=('-r', 'sparse_depth:=/tof/depth'),
    )
    running.model.processing_size = lambda height, width, _chosen: (height // 2, width // 2)
    rows = np.linspace(1.0, 0.0, 48)
    if source == 'depth_image':
        sparse = running.robot.node.create_publisher(Image, '/tof/depth', QoSProfile(depth=5))
        robot = running.robot
        running.wait_for(
            lambda: all(p.get_subscription_count() for p in (sparse, robot.image, robot.info))
        )
        plane = np.repeat(2.0 + 8.0 * rows[:, None], 64, 1).astype(np.float32)
        sparse.publish(image_message(robot.header(SECOND), encode_depth(plane)))
    running.send(SECOND, scan=source == 'pointcloud')
    depth = to_depth(running.wait_received('depth/image_rect')[0])
    assert depth.shape == (24, 32)
    # Scaled intrinsics are half a pixel off the pixel centres, see rescale: a row is 0.17 m.
    np.testing.assert_allclose(depth[:, 5], 2.0 + 8.0 * rows.reshape(24, 2).mean(1), atol=0.17)
    camera = to_camera(running.wait_received('depth/camera_info')[0])
    assert (camera.height, camera.width, camera.K[0, 0]) == (24, 32, 30.0)
    assert to_organised(running.wait_received('points')[0], ('x',)).shape == (24, 32, 1)


def test_the_cloud_has_normals_where_they_are_asked_for(bench):
    running = bench({'points.normals': True, 'points.stride': 2}, hear=EVERYTHING)
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


def test_alignment_reports_scale_shift_and_points(bench):
    running = bench({'alignment.method': 'global'}, hear=EVERYTHING)
    stamp = 1_700_000_000_123_456_789
    running.send(stamp)
    status = running.wait_received('alignment')[0].status[0]
    values = {pair.key: pair.value for pair in status.values}
    assert ' '.join(values) == (
        'scale shift inliers points rms condition state reason led_by map_share map_reason '
        'scan_stamp image_stamp age image_coverage nearest farthest calibration'
    )
    assert values['state'] == 'fitted'
    assert values['scan_stamp'] == values['image_stamp'] == str(stamp)
    assert float(values['scale']) == pytest.approx(8.0, rel=0.02)
    assert float(values['shift']) == pytest.approx(2.0, rel=0.05)
    points = to_organised(running.wait_received('alignment/points')[0], ('z', 'inlier'))
    assert points.shape[1] == int(values['points'])
    assert points[..., 1].sum() == int(values['inliers'])
    assert points[..., 0].min() >= 2.0


def test_a_useless_map_is_reported_and_depth_goes_on(bench):
    class Constant:
        name, device = 'constant', 'cpu'

        def predict(self, rgb, **_options):
            return Prediction(np.full(rgb.shape[:2], 0.5, np.float32))

    running = bench(hear=EVERYTHING, load_model=lambda config: Constant())
    running.send(SECOND)
    depth = to_depth(running.wait_received('depth/image_rect')[0])
    rows = np.linspace(10.0, 2.0, depth.shape[0])[2:-2]
    assert np.abs(depth[2:-2] / rows[:, None] - 1).mean() < 0.02
    level, text, values = running.status('alignment')
    assert (level, values['state'], values['led_by']) == (1, 'fitted', 'points')
    assert (values['scale'], values['map_share']) == ('nan', '0')
    assert 'constant' in values['map_reason']
    assert values['map_reason'] in text


def test_without_a_scan_there_is_relative_depth_and_no_metres(bench):
    running = bench(hear=EVERYTHING)
    running.send(SECOND, scan=False)
    running.wait_received('relative/image')
    running.wait_quiet(1)
    running.send(2 * SECOND, scan=False)
    running.wait_received('relative/image', 2)
    for topic in ('depth/image_rect', 'depth/camera_info', 'uncertainty/image', 'points'):
        assert running.robot.received[topic] == []
    level, text, values = running.status('alignment')
    assert level == 1
    assert values['state'] == 'none'
    assert values['reason'] in text


def test_a_scan_that_comes_after_its_image_is_waited_for(bench):
    running = bench({'lidar.wait': 2.0}, hear=(DEPTH,))
    running.send(SECOND, scan=False)
    assert running.model.started.acquire(timeout=30)
    running.robot.lidar.publish(running.robot.scan_of_plane(SECOND + 3_000_000))
    running.wait_received('depth/image_rect')
    assert running.node.health.scan_ns == SECOND + 3_000_000


def test_an_uncalibrated_camera_leaves_relative_depth(bench):
    running = bench(hear=EVERYTHING)
    running.deliver('info', running.robot.camera_info(SECOND, focal=0.0))
    running.send(SECOND, info=False)
    running.wait_received('relative/image')
    assert running.wait_quiet(1)['frames.served'] == 1
    assert running.robot.received['depth/image_rect'] == []
    level, text, values = running.status('infos')
    assert level == 1
    assert 'uncalibrated' in text
    assert values['infos.rejected.calibration'] == '1'


def test_a_camera_info_of_another_size_is_diagnosed(bench):
    running = bench(hear=EVERYTHING)
    info = running.robot.camera_info(SECOND)
    info.width = 640
    running.deliver('info', info)
    running.send(SECOND, info=False)
    running.wait_received('relative/image')
    assert running.wait_quiet(1)['frames.served'] == 1
    assert 'they must agree' in running.status('infos')[1]


def test_an_unknown_distortion_leaves_relative_depth(bench):
    running = bench(hear=EVERYTHING)
    info = running.robot.camera_info(SECOND)
    info.distortion_model, info.d = 'barrel', [0.1, 0.2]
    running.deliver('info', info)
    running.send(SECOND, info=False)
    running.wait_received('relative/image')
    assert running.wait_quiet(1)['frames.served'] == 1
    assert "distortion model is 'barrel'" in running.status('infos')[1]


def test_a_distorted_image_gives_rectified_depth_and_camera_info(bench):
    running = bench({'alignment.method': 'global'}, hear=EVERYTHING)
    info = running.robot.camera_info(SECOND)
    info.distortion_model, info.d = 'plumb_bob', [0.05, 0.0, 0.0, 0.0, 0.0]
    running.deliver('info', info)
    running.send(SECOND, info=False)
    rectified = running.wait_received('depth/camera_info')[0]
    assert not any(rectified.d)
    assert list(rectified.k) == pytest.approx(list(info.k))


def test_missing_extrinsics_mean_no_metres_and_a_reason(bench):
    unset = dict.fromkeys(('extrinsics.translation', 'extrinsics.rotation_xyzw'))
    running = bench(unset, hear=(DEPTH, RELATIVE))
    running.send(SECOND)
    running.wait_received('relative/image')
    assert running.wait_quiet(1)['frames.served'] == 1
    assert running.robot.received['depth/image_rect'] == []
    level, text, _ = running.status('transform')
    assert level == 1
    assert 'camera_optical <- velodyne' in text
    assert 'extrinsics' in text


def test_a_parameter_changed_between_frames_serves_the_next_one(bench):
    running = bench(hear=(DEPTH,))
    running.send(SECOND)
    assert running.wait_received('depth/image_rect')[0].encoding == '32FC1'
    assert all(
        result.successful
        for result in running.node.set_parameters(
            [Parameter('depth_encoding', value='16UC1'), Parameter('frame_id', value='elsewhere')]
        )
    )
    running.send(2 * SECOND)
    message = running.wait_received('depth/image_rect', 2)[1]
    assert message.encoding == '16UC1'
    assert message.header.frame_id == 'elsewhere'
    assert 1.9 < np.nanmin(to_depth(message)) < 2.1


def test_a_depth_image_gives_the_same_depth_live_and_replayed(bench, tmp_path):
    running = bench(
        {'sparse_source': 'depth_image'},
        hear=(DEPTH,),
        connect=False,
        remap=('-r', 'sparse_depth:=/tof/depth'),
    )
    publisher = running.robot.node.create_publisher(Image, '/tof/depth', QoSProfile(depth=5))
    running.wait_for(
        lambda: all(
            p.get_subscription_count()
            for p in (publisher, running.robot.image, running.robot.info)
        )
    )
    sparse = np.full((48, 64), np.nan, np.float32)
    rows = np.arange(0, 48, 4)
    sparse[rows, ::4] = (2.0 + 8.0 * (1.0 - rows / 47.0))[:, None]
    message = image_message(running.robot.header(SECOND), encode_depth(sparse, '16UC1'))
    publisher.publish(message)
    running.send(SECOND, scan=False)
    depth = to_depth(running.wait_received('depth/image_rect')[0])
    assert depth[24].mean() == pytest.approx(2.0 + 8.0 * (1.0 - 24 / 47.0), rel=0.05)
    np.testing.assert_array_equal(replayed(running, message, tmp_path / 'bag').metric, depth)


def test_a_depth_camera_of_its_own_frame_and_size_needs_its_camera_info(bench):
    running = bench(
        {
            'sparse_source': 'depth_image',
            'alignment.method': 'global',
            'lidar.wait': 1.0,
            'extrinsics.translation': [0.0, 0.0, 0.1],
            'extrinsics.rotation_xyzw': [0.0, 0.0, 0.0, 1.0],
        },
        hear=(DEPTH, EVERYTHING[10]),
        connect=False,
        remap=('-r', 'sparse_depth:=/tof/depth'),
    )
    robot, node = running.robot, running.robot.node
    depth = node.create_publisher(Image, '/tof/depth', QoSProfile(depth=5))
    info = node.create_publisher(CameraInfo, '/tof/camera_info', QoSProfile(depth=1))
    publishers = depth, info, robot.image, robot.info
    running.wait_for(lambda: all(p.get_subscription_count() for p in publishers))
    # Half the size, and 0.1 m in front.
    rows = 2.0 + 8.0 * np.linspace(1.0, 0.0, 24)
    plane = np.repeat(rows[:, None], 32, 1).astype(np.float32)
    camera = robot.camera_info(SECOND, 30.0)
    camera.header.frame_id, camera.width, camera.height = 'tof', 32, 24
    camera.k = [30.0, 0.0, 16.0, 0.0, 30.0, 12.0, 0.0, 0.0, 1.0]
    camera.p = [30.0, 0.0, 16.0, 0.0, 0.0, 30.0, 12.0, 0.0, 0.0, 0.0, 1.0, 0.0]

    def fit(second):
        depth.publish(image_message(robot.header(second * SECOND, 'tof'), encode_depth(plane)))
        running.send(second * SECOND, scan=False)
        return running.wait_received('alignment', second)[-1].status[0].message

    assert 'needs a camera_info of its own on /tof/camera_info' in fit(1)
    assert not robot.received['depth/image_rect']
    info.publish(camera)
    seconds = iter(range(2, 50))  # until it has arrived
    running.wait_for(lambda: fit(next(seconds)).startswith('fitted'))
    metres = to_depth(running.wait_received('depth/image_rect')[0])
    assert metres[24].mean() == pytest.approx(2.1 + 8.0 * (1.0 - 24 / 47.0), rel=0.03)


def test_an_unknown_ground_is_a_reason_and_no_metres(bench):
    heard = (DEPTH, RELATIVE, EVERYTHING[10])
    running = bench({'sparse_source': 'ground'}, hear=heard, connect=False)
    inputs = running.robot.image, running.robot.info
    running.wait_for(lambda: all(item.get_subscription_count() for item in inputs))
    running.send(SECOND, scan=False)
    running.wait_received('relative/image')
    status = running.wait_received('alignment')[0].status[0]
    assert 'base_footprint' in status.message
    assert 'ground.height' in status.message
    assert not running.robot.received['depth/image_rect']


def test_each_of_several_sources_has_its_own_line_and_may_be_missing(bench):
    running = bench(
        {'sparse_source': 'pointcloud,ground', 'alignment.method': 'global'}, hear=(DEPTH,)
    )
    running.send(SECOND)
    running.wait_received('depth/image_rect')
    _, text, values = running.status('scans.pointcloud')
    assert (text, values['scans.pointcloud.used']) == ('/velodyne_points', '1')
    assert int(values['points']) > 100
    assert values['scans.pointcloud.received'] == '1'
    level, text, values = running.status('scans.ground')
    assert level == 1
    assert 'base_footprint' in text
    assert (values['scans.ground.missing'], values['points']) == ('1', '0')


def replayed(running, sparse, path):
    """Replay offline what was sent to a node."""
    sent = {
        '/camera/image': running.robot.image_message(SECOND),
        '/camera/camera_info': running.robot.camera_info(SECOND),
        '/tof/depth': sparse,
    }
    with BagWriter(path) as bag:
        for topic, message in sent.items():
            msgtype = f'sensor_msgs/msg/{type(message).__name__}'
            bag.write_raw(topic, msgtype, serialize_message(message), SECOND)
    with BagReader(path) as reader:
        (item,) = frames(reader, reader.choose_topics(lidar='/tof/depth'), LidarConfig())
    assert item.warning == ''
    return FramePipeline(type(running.model)()).process(item.frame)


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
