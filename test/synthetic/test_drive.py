# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The synthetic drive: its bag is complete, consistent in itself, and repeatable."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from marigold_ros.bags.reader import BagReader
from marigold_ros.bags.transforms import pose_matrix
from marigold_ros.errors import ConfigurationError
from marigold_ros.message_codec import to_camera, to_organised, to_points, to_rgb
from marigold_ros.synthetic.drive.drive import (
    CAMERA_FRAME,
    CAMERA_INFO,
    IMAGE,
    LIDAR,
    LIDAR_FRAME,
    ODOMETRY,
    quaternion_xyzw,
    simulate_drive,
    START_NS,
    TRANSFORMS,
    TRUTH,
    write_drive,
)
from marigold_ros.synthetic.drive.journey import draw_journey, STREET_SPEED
from marigold_ros.synthetic.raycast.surfaces import is_free
import numpy as np
import pytest

SMALL = {'frames': 3, 'width': 320, 'height': 240}
TOPICS = {
    IMAGE: ('sensor_msgs/msg/Image', 3),
    CAMERA_INFO: ('sensor_msgs/msg/CameraInfo', 3),
    TRUTH: ('sensor_msgs/msg/Image', 3),
    LIDAR: ('sensor_msgs/msg/PointCloud2', 3),
    TRANSFORMS: ('tf2_msgs/msg/TFMessage', 1),
    ODOMETRY: ('tf2_msgs/msg/TFMessage', 12),
}


@pytest.fixture(scope='module', params=['street', 'room'])
def bag(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('drive') / request.param
    return write_drive(path, seed=1, kind=request.param, **SMALL)


def messages(path):
    """All messages of a bag by topic, as (message, log time)."""
    found = {topic: [] for topic in TOPICS}
    with BagReader(path) as reader:
        for topic, message, log_ns in reader.messages(list(TOPICS)):
            found[topic].append((message, log_ns))
    return found


def raw_depth(message):
    """Decode by hand, so that the codec is not its own oracle."""
    return np.frombuffer(bytes(message.data), '<f4').reshape(message.height, message.width)


def as_camera_sees(points_lidar, T_cam_lidar, K, depth):
    """Depth of LiDAR points beside the truth at their pixels: two (M,) arrays in metres."""
    points = points_lidar.astype(float) @ T_cam_lidar[:3, :3].T + T_cam_lidar[:3, 3]
    points = points[points[:, 2] > 0.2]
    u, v = np.rint((points[:, :2] / points[:, 2:]) * K[[0, 1], [0, 1]] + K[:2, 2]).astype(int).T
    inside = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
    truth = depth[v[inside], u[inside]]
    finite = np.isfinite(truth)
    return points[inside, 2][finite], truth[finite]


def test_all_topics_are_there(bag):
    with BagReader(bag) as reader:
        assert {t: (i.msgtype, i.count) for t, i in reader.topics.items()} == TOPICS


def test_stamps_run_at_the_rate_and_scans_follow_their_image(bag):
    found = messages(bag)
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m, _ in found[IMAGE]]
    assert stamps == [START_NS + i * 100_000_000 for i in range(3)]
    for topic, delay in ((CAMERA_INFO, 0), (TRUTH, 0), (LIDAR, 3_000_000)):
        for (message, log_ns), stamp in zip(found[topic], stamps, strict=True):
            header = message.header.stamp
            assert header.sec * 10**9 + header.nanosec == stamp + delay == log_ns


def test_lidar_projected_with_the_bag_transform_meets_the_truth(bag):
    found = messages(bag)
    with BagReader(bag) as reader:
        T_cam_lidar = reader.static_transforms().lookup(CAMERA_FRAME, LIDAR_FRAME)
    camera = to_camera(found[CAMERA_INFO][0][0])
    for (cloud, _), (truth, _) in zip(found[LIDAR], found[TRUTH], strict=True):
        assert cloud.header.frame_id == LIDAR_FRAME
        z, expected = as_camera_sees(to_points(cloud), T_cam_lidar, camera.K, raw_depth(truth))
        assert len(z) > 1000
        error = np.abs(z - expected)
        assert np.median(error) < 0.05
        assert np.median(error / expected) < 0.01
        tolerance = 0.1 + 0.03 * expected  # an edge within one pixel, at grazing angles
        assert np.mean(error < tolerance) > 0.75
        # Parallax puts points behind what the camera sees, hardly ever in front of it.
        assert np.mean(z < expected - tolerance) < 0.03
        # A wrong transform would be noticed.
        T_wrong = T_cam_lidar.copy()
        T_wrong[1, 3] += 0.3
        z, expected = as_camera_sees(to_points(cloud), T_wrong, camera.K, raw_depth(truth))
        assert np.median(np.abs(z - expected) / expected) > 0.01


def test_lidar_sees_past_things_that_block_the_camera():
    drive = simulate_drive(seed=0, kind='room', **SMALL)
    hidden = 0
    for frame in drive.frames:
        points = np.stack([frame.points[axis] for axis in 'xyz'], axis=1)
        z, truth = as_camera_sees(points, drive.mounting.T_cam_lidar, drive.camera.K, frame.depth)
        hidden += int((z > truth + 0.5).sum())
    assert hidden > 20


def test_odometry_takes_the_vehicle_from_its_start_to_the_pose_of_the_images(bag):
    drive = simulate_drive(3, seed=1, kind=bag.name, width=64, height=48, lidar_beams=4)
    places = {}
    for message, stamp_ns in messages(bag)[ODOMETRY]:
        (one,) = message.transforms
        assert (one.header.frame_id, one.child_frame_id) == ('odom', 'base_link')
        move, turn = one.transform.translation, one.transform.rotation
        places[stamp_ns] = pose_matrix((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
    T_world_cam = [frame.T_world_cam for frame in drive.frames]
    for number, T in enumerate(T_world_cam):
        seen = places[START_NS + number * 100_000_000] @ drive.mounting.T_base_cam
        expected = drive.mounting.T_base_cam @ np.linalg.inv(T_world_cam[0]) @ T
        np.testing.assert_allclose(seen, expected, atol=1e-6)
    assert places[START_NS + 200_000_000][0, 3] > 0.01  # forwards is x


def test_truth_is_depth_in_metres_with_plus_infinity_for_sky(bag):
    street = bag.name == 'street'
    for message, _ in messages(bag)[TRUTH]:
        assert message.encoding == '32FC1'
        depth = raw_depth(message)
        assert not np.isnan(depth).any()
        assert (depth > 0).all()
        assert np.isposinf(depth).any() == street
        assert depth[np.isfinite(depth)].max() <= (120 if street else 50)


def test_clouds_carry_ring_and_intensity(bag):
    for message, _ in messages(bag)[LIDAR]:
        assert [field.name for field in message.fields] == ['x', 'y', 'z', 'intensity', 'ring']
        ring, intensity = to_organised(message, ('ring', 'intensity')).reshape(-1, 2).T
        assert set(ring) <= set(range(32))
        assert len(set(ring)) > 15
        assert intensity.min() >= 0


def test_images_show_the_scene(bag):
    for message, _ in messages(bag)[IMAGE]:
        assert message.encoding == 'rgb8'
        assert message.header.frame_id == CAMERA_FRAME
        assert to_rgb(message).std() > 10


def test_colours_stay_on_their_surfaces():
    drive = simulate_drive(seed=1, **SMALL)
    first, _, last = drive.frames
    K, depth = drive.camera.K, first.depth
    v, u = np.nonzero(np.isfinite(depth))
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(len(u))])
    T = np.linalg.inv(last.T_world_cam) @ first.T_world_cam
    points = T[:3, :3] @ (rays * depth[v, u]) + T[:3, 3:]
    moved = np.rint(points[:2] / points[2] * K[[0, 1], [0, 1]][:, None] + K[:2, 2:]).astype(int)
    inside = (points[2] > 0.5) & (moved >= 0).all(axis=0)
    inside &= (moved[0] < 320) & (moved[1] < 240)
    again = np.where(inside, last.depth[moved[1] * inside, moved[0] * inside], np.nan)
    same = np.abs(again - points[2]) < 0.02 * points[2]
    assert same.mean() > 0.5
    before = first.rgb[v[same], u[same]].astype(float)
    after = last.rgb[moved[1][same], moved[0][same]].astype(float)
    stayed = first.rgb[moved[1][same], moved[0][same]].astype(float)
    assert np.median(np.abs(after - before)) < 8
    # Without following the surface the same pixels differ more.
    assert np.abs(after - before).mean() < 0.7 * np.abs(after - stayed).mean()


@pytest.mark.parametrize('kind', ['street', 'room'])
@pytest.mark.parametrize('seed', range(4))
def test_the_way_is_free_and_smooth(kind, seed):
    duration = 4.0
    scene, mounting, pose = draw_journey(np.random.default_rng(seed), kind, duration)
    times = np.linspace(0, duration, 57)
    for mounted in (mounting.T_base_cam, mounting.T_base_lidar):
        places = np.array([(pose(t) @ mounted)[:3, 3] for t in times])
        assert is_free(scene, places, margin=0.1).all()
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(times)
        assert steps.max() < 1.1 * STREET_SPEED
        assert np.abs(np.diff(steps)).max() < 0.5
    travelled = np.linalg.norm(pose(duration)[:3, 3] - pose(0.0)[:3, 3])
    assert travelled > 0.2
    assert mounting.T_cam_lidar[1, 3] == pytest.approx(-0.5, abs=0.1)


def test_a_seed_gives_the_same_messages_and_another_does_not(tmp_path):
    small = {'frames': 3, 'width': 96, 'height': 64, 'lidar_beams': 8}
    paths = [
        write_drive(tmp_path / name, seed=seed, **small)
        for name, seed in (('a', 5), ('b', 5), ('c', 6))
    ]
    contents = []
    for path in paths:
        with BagReader(path) as reader:
            contents.append([(t, bytes(data), ns) for t, _, data, ns in reader.raw(list(TOPICS))])
    assert len(contents[0]) == 25
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_size_rate_and_beams_are_as_asked():
    drive = simulate_drive(frames=2, rate=5.0, seed=2, width=64, height=48, lidar_beams=4)
    first, second = drive.frames
    assert second.stamp_ns - first.stamp_ns == 200_000_000
    assert first.rgb.shape == (48, 64, 3)
    assert first.points['ring'].max() <= 3


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'frames': 0}, 'frames is 0; choose a value in'),
        ({'width': 8}, 'width is 8'),
        ({'height': 9999}, 'height is 9999'),
        ({'lidar_beams': 1}, 'lidar_beams is 1'),
        ({'rate': 0.0}, 'rate is 0'),
        ({'rate': float('nan')}, 'rate is nan'),
        ({'kind': 'forest'}, "scene kind is 'forest'; choose one of"),
    ],
)
def test_arguments_out_of_range_are_refused_before_writing(tmp_path, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        write_drive(tmp_path / 'bag', **arguments)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_quaternions_and_rotations_map_both_ways(numbers):
    norm = np.linalg.norm(numbers)
    assume(norm > 0.1)
    T = pose_matrix((0, 0, 0), np.array(numbers) / norm)
    q = quaternion_xyzw(T[:3, :3])
    assert np.linalg.norm(q) == pytest.approx(1.0)
    assert q[3] >= 0
    np.testing.assert_allclose(pose_matrix((0, 0, 0), q), T, atol=1e-9)
