# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The kinds of sparse depth: what each reads, refuses, and that a new one needs a line only."""

from functools import partial
from types import SimpleNamespace

from marigold_ros.bags.topics import choose_topics, TopicInfo
from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError, InputError
from marigold_ros.frame import Camera, SparseInput
from marigold_ros.message_codec import camera_info_fields, encode_cloud, encode_depth, encode_image
from marigold_ros.point_kinds import PointKind
from marigold_ros.sparse_sources import (
    needs_extrinsics,
    source_names,
    source_of_topic,
    SPARSE_SOURCES,
    SparseReading,
    SparseSource,
)
import numpy as np
import pytest


def message(fields, frame_id='sensor'):
    return SimpleNamespace(header=SimpleNamespace(frame_id=frame_id), **vars(fields))


def cloud_message(values, frame_id):
    fields = vars(encode_cloud(values))
    keys = ('name', 'offset', 'datatype', 'count')
    described = [
        SimpleNamespace(**dict(zip(keys, field, strict=True))) for field in fields['fields']
    ]
    return message(SimpleNamespace(**{**fields, 'fields': described}), frame_id)


def cloud(*names):
    return cloud_message(np.ones((1, 2), [(name, '<f4') for name in names]), 'sensor')


def test_a_cloud_is_read_with_its_ring_where_asked():
    source = SPARSE_SOURCES['pointcloud']
    with_ring = cloud('x', 'y', 'z', 'ring')
    assert source.read(with_ring).ring is None
    ringed = source.read(with_ring, ring=True)
    assert (ringed.ring.tolist(), ringed.ring.dtype) == ([1, 1], np.int32)
    np.testing.assert_array_equal(ringed.input.points_lidar, np.ones((2, 3)))
    reading = source.read(cloud('x', 'y', 'z'), ring=True)
    assert (reading.input.points_lidar.shape, reading.ring) == ((2, 3), None)
    assert (reading.frame_id, reading.input.source) == ('sensor', 'pointcloud')


@pytest.mark.parametrize(('silent', 'kept'), [(300, 1000), (21, 1000), (20, 1020), (1, 1001)])
def test_rays_without_a_return_at_the_largest_range_are_no_points(silent, kept):
    rng = np.random.default_rng(0)
    rays = rng.normal(size=(1000 + silent, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    distance = np.append(rng.uniform(1.0, 30.0, 1000), np.full(silent, 30.0))
    points = (rays * distance[:, None]).astype(np.float32)
    found = SPARSE_SOURCES['pointcloud'].read(landmarks(points)).input.points_lidar
    np.testing.assert_array_equal(found, points[:kept])


def test_points_in_a_frame_far_from_the_sensor_are_all_returns():
    rng = np.random.default_rng(0)
    wall = rng.uniform([1012.0, -5.0, -2.0], [1012.0, 5.0, 2.0], (1000, 3))
    near = rng.uniform([1002.0, -5.0, -2.0], [1012.0, 5.0, -2.0], (1000, 3))
    points = np.concatenate([wall, near]).astype(np.float32)
    found = SPARSE_SOURCES['pointcloud'].read(landmarks(points)).input.points_lidar
    np.testing.assert_array_equal(found, points)


def test_of_clouds_those_of_lidars_come_first_and_coloured_ones_last():
    plain = 'x', 'y', 'z'
    clouds = ('/Velodyne_points', plain), ('/points', (*plain, 'ring')), ('/points', plain)
    coloured = [('/ouster/points', (*plain, colour)) for colour in ('rgb', 'rgba')]
    rank = SPARSE_SOURCES['pointcloud'].rank
    ranks = [rank(topic, cloud(*names)) for topic, names in (*clouds, *coloured)]
    assert ranks[0] == ranks[1] < ranks[2] < ranks[3] == ranks[4]


def test_a_cloud_without_z_is_refused_by_its_header():
    source = SPARSE_SOURCES['pointcloud']
    for refuse in source.check, partial(source.rank, '/points'):
        with pytest.raises(InputError, match='no field z; it has x, y') as caught:
            refuse(cloud('x', 'y'))
        assert caught.value.cause == 'fields'


def test_a_scan_and_a_depth_image_are_read():
    limits = {'range_min': 0.0, 'range_max': 9.0, 'angle_min': 0.0, 'angle_increment': 0.5}
    scan = SPARSE_SOURCES['scan'].read(message(SimpleNamespace(ranges=[1.0, 2.0], **limits)))
    assert (scan.frame_id, scan.input.source) == ('sensor', 'scan')
    assert scan.input.points_lidar.shape == (2, 3)
    depth = SPARSE_SOURCES['depth_image'].read(message(encode_depth(np.full((2, 3), 4.0))))
    assert (depth.frame_id, depth.input.source) == ('sensor', 'depth_image')
    np.testing.assert_array_equal(depth.input.sparse_image, np.full((2, 3), 4.0, np.float32))


def camera_info(K, width, height, frame_id='tof'):
    fields = camera_info_fields(Camera(np.eye(3), width, height))
    fields |= {'k': K.ravel(), 'p': np.c_[K, np.zeros(3)].ravel()}
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    return message(SimpleNamespace(**fields, roi=roi, binning_x=0, binning_y=0), frame_id)


def depth_of(frame_id, info=None, rectified=False, size=(4, 6)):
    given = SparseInput('depth_image', sparse_image=np.ones((2, 3), np.float32))
    reading = SparseReading(frame_id, given)
    return reading.with_camera('camera', size, info, '/tof/camera_info', rectified)


@pytest.mark.parametrize('frame_id', ['camera', ''])  # as the image, where it has none
def test_a_registered_depth_image_needs_no_camera(frame_id):
    assert depth_of(frame_id, size=(2, 3)).sparse_camera is None
    points = SparseReading('lidar', SparseInput('scan', np.ones((2, 3))))
    assert points.with_camera('camera', (4, 6), None, '', True).sparse_camera is None


@pytest.mark.parametrize(('frame_id', 'size'), [('tof', (2, 3)), ('camera', (4, 6)), ('', (4, 6))])
def test_a_depth_image_is_registered_by_its_frame_and_its_size(frame_id, size):
    with pytest.raises(InputError, match='needs a camera_info of its own on /tof'):
        depth_of(frame_id, size=size)


@pytest.mark.parametrize(
    ('info', 'expected'),
    [
        ((np.eye(3), 6, 2), 'is for 6x2'),
        ((np.eye(3), 3, 4), 'is for 3x4'),
        ((np.eye(3), 3, 2, 'rgb'), "is for 3x2 px in frame 'rgb'"),
        ((np.zeros((3, 3)), 3, 2), '/tof/camera_info: focal lengths'),
    ],
)
def test_a_depth_image_of_another_camera_without_its_camera_info_is_refused(info, expected):
    with pytest.raises(
        InputError, match=f"3x2 px in frame 'tof', the image 6x4.*{expected}"
    ) as found:
        depth_of('tof', camera_info(*info))
    assert found.value.cause == 'camera_info'
    assert '/tof/camera_info' in str(found.value)


def test_a_depth_image_of_another_camera_has_the_camera_of_its_camera_info():
    K = np.array([[2.0, 0, 1], [0, 2, 0.5], [0, 0, 1]])
    info = camera_info(K, 3, 2)
    camera = depth_of('tof', info).sparse_camera
    np.testing.assert_array_equal(camera.K, K)
    assert (camera.height, camera.width) == (2, 3)
    info.p[0] = info.p[5] = 3.0
    info.d[0] = 0.1
    assert depth_of('tof', info).sparse_camera.distortion[0] == 0.1
    found = depth_of('tof', info, rectified=True)
    rectified = found.sparse_camera
    assert found.is_rectified
    np.testing.assert_array_equal(rectified.K, [[3, 0, 1], [0, 3, 0.5], [0, 0, 1]])
    assert not any(rectified.distortion)


def landmarks(points, sigma=None):
    names = ['x', 'y', 'z', *(['sigma'] if sigma is not None else [])]
    values = np.zeros((1, len(points)), [(name, '<f4') for name in names])
    for axis, name in enumerate('xyz'):
        values[name] = points[:, axis]
    if sigma is not None:
        values['sigma'] = sigma
    return cloud_message(values, 'map')


def test_landmarks_bring_their_deviation_where_they_have_one():
    points = np.random.default_rng(0).uniform(-5, 5, (40, 3))
    points[7], sigma = np.nan, np.where(np.arange(40) % 2, 0.3, np.nan)
    read, known = SPARSE_SOURCES['landmarks'].read, np.arange(40) != 7
    assert read(landmarks(points)).input.points_sigma is None
    found = read(landmarks(points, sigma))
    np.testing.assert_allclose(found.input.points_lidar, points[known], rtol=1e-5)
    np.testing.assert_allclose(found.input.points_sigma, sigma[known], rtol=1e-6)
    assert (found.frame_id, found.input.source) == ('map', 'landmarks')


@pytest.mark.parametrize('count', [3, 60])
@pytest.mark.parametrize('metres', [0.01, 1.0])  # whatever the scale of the odometry
def test_landmarks_on_one_line_are_refused_in_any_frame(metres, count):
    rng, read = np.random.default_rng(0), SPARSE_SOURCES['landmarks'].read
    along = np.linspace(-3, 40, count)[:, None] * np.array([0.4, -0.2, 0.9]) + [100.0, 5, -3]
    along += rng.normal(0, 0.1, along.shape)
    with pytest.raises(InputError, match=f'{count} landmarks lie on one line') as caught:
        read(landmarks(metres * along))
    assert caught.value.cause == 'line'
    for fine in metres * along[:2], metres * rng.normal(along, 1.0):
        assert len(read(landmarks(fine)).input.points_lidar) == len(fine)


def test_a_radar_has_a_wide_deviation_and_no_sure_pixels():
    found = SPARSE_SOURCES['radar'].read(landmarks(np.array([[3.0, 0, 4], [0, 0, 20]])))
    np.testing.assert_allclose(found.input.points_sigma, [1.5, 6.0], rtol=1e-5)
    assert found.input.kind is PointKind.RADAR
    assert (found.frame_id, found.input.source) == ('map', 'radar')


def test_sources_are_listed_with_commas():
    assert source_names('pointcloud, ground') == ('pointcloud', 'ground')
    assert source_names('none') == ()
    assert needs_extrinsics('ground,scan')
    assert needs_extrinsics('depth_image,radar')
    assert not any(map(needs_extrinsics, ('none', 'ground', 'depth_image', 'ground,depth_image')))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('pointcloud,sonar', "no source 'sonar'; choose one of none, pointcloud"),
        ('radar,ground,radar', 'names radar twice'),
        ('none,ground', 'none excludes'),
        ('pointcloud,', "no source ''"),
        ('', "no source ''"),
    ],
)
def test_a_wrong_list_of_sources_is_refused(text, expected):
    with pytest.raises(ConfigurationError, match=expected):
        NodeConfig(sparse_source=text)


@pytest.mark.parametrize('name', SPARSE_SOURCES)
def test_every_kind_is_a_parameter_value_of_its_own_type(name):
    assert NodeConfig(sparse_source=name).sparse_source == name
    source = SPARSE_SOURCES[name]
    assert source_of_topic(f'/a/{source.topic}', source.msgtype) == name


def test_a_new_kind_needs_a_function_and_a_line(monkeypatch):
    def read_range(message, ring=False):
        points = np.array([[message.range, 0, 0]])
        return SparseReading(message.header.frame_id, SparseInput('sonar', points))

    sonar = SparseSource('sonar', 'ranges of a sonar', 'sensor_msgs/msg/Range', read_range)
    monkeypatch.setitem(SPARSE_SOURCES, 'sonar', sonar)
    bag = {
        '/image': TopicInfo('sensor_msgs/msg/Image', 1),
        '/sonar': TopicInfo('sensor_msgs/msg/Range', 1),
    }
    first = {'/image': message(encode_image(np.zeros((2, 3, 3), np.uint8), 'rgb8'))}
    assert choose_topics(bag, first.get, {}).lidar == '/sonar'
    assert choose_topics(bag, first.get, {'lidar': '/sonar'}).lidar == '/sonar'
