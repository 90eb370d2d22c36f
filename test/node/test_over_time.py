# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The node over time: a LiDAR that stops, clocks that jump, a vehicle that moves, only noise."""

from types import SimpleNamespace

from marigold_ros.frame import Prediction
from marigold_ros.message_codec import encode_image, header_ns, to_depth
from marigold_ros.node.diagnostic_keys import values_of
from marigold_ros.node.loading import load
from marigold_ros.node.ros_helpers import image_message, to_stamp
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

SECOND = 1_000_000_000
START = 100 * SECOND
DEPTH, ALIGNMENT = 'depth/image_rect', 'alignment'
HEARD = (DEPTH, 'uncertainty/image', ALIGNMENT)
# Of the images of noise.
WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
FRAMES, POINTS, PERIOD = 40, 1200, SECOND // 10


def serve(running, stamps, silent):
    """Send images, without scans where ``silent`` says so; the state of each and its sigma."""
    states, sigmas = [], []
    for stamp in stamps:
        before = {topic: len(running.robot.received[topic]) for topic in HEARD}
        running.send(stamp, scan=not silent(stamp), info=False)
        said = running.wait_received('alignment', before['alignment'] + 1)[-1]
        states.append(values_of(said.status[0])['state'])
        if states[-1] != 'none':
            count = before['uncertainty/image'] + 1
            sigmas.append(
                np.median(to_depth(running.wait_received('uncertainty/image', count)[-1]))
            )
    return states, sigmas


def test_a_lost_lidar_is_held_over_then_withdrawn(bench):
    running = bench({'alignment.method': 'global', 'alignment.hold_limit': 1.0}, hear=HEARD)
    running.deliver('info', running.robot.camera_info(START))
    stamps = [START + tick * SECOND // 4 for tick in range(20)]
    gone = (START + SECOND, START + 4 * SECOND)
    states, sigmas = serve(running, stamps, lambda stamp: gone[0] <= stamp < gone[1])
    assert states == 4 * ['fitted'] + 4 * ['held'] + 8 * ['none'] + 4 * ['fitted']
    assert (np.diff(sigmas[3:8]) > 0).all()
    assert sigmas[8] < 0.2 * sigmas[7]
    # The same again from the start: what the end of the loop knew is not held over.
    # The first image that comes back is refused.
    running.send(START - SECOND // 10, scan=False, info=False)
    states, _ = serve(running, stamps[:4], lambda stamp: stamp < START + SECOND // 2)
    assert states == 2 * ['none'] + 2 * ['fitted']
    assert running.count('clock_jumps') >= 1
    assert len(running.robot.received['depth/image_rect']) == 4 + 4 + 4 + 2


def test_a_change_of_the_clock_is_a_jump_and_many_do_not_flood_the_console(running, capfd):
    for jumps, use_sim_time in enumerate((True, False, True, False), start=1):
        running.configure(use_sim_time=use_sim_time)
        running.node.publish_diagnostics()
        assert running.count('clock_jumps') == jumps
    assert capfd.readouterr().err.count('ROS time jumped') == 1


def set_clock(running, clock, seconds):
    clock.publish(Clock(clock=to_stamp(seconds * SECOND)))
    running.wait_for(lambda: running.node.get_clock().now().nanoseconds == seconds * SECOND)


def test_ros_time_that_jumps_back_empties_buffers(bench, install_tf2):
    transforms = []
    install_tf2(lambda: SimpleNamespace(clear=transforms.clear))
    running = bench({'use_sim_time': True, 'lidar.fixed_frame': 'odom'})
    clock = running.robot.node.create_publisher(Clock, '/clock', QoSProfile(depth=1))
    running.wait_for(lambda: clock.get_subscription_count() == 1)
    for seconds, jumps in ((100, 0), (101, 0), (99, 1), (102, 1), (10, 1)):
        if seconds == 10:
            running.node.stop()  # deaf from now on
        transforms[:] = ['of now']
        set_clock(running, clock, seconds)
        if seconds == 99:
            running.wait_for(lambda: transforms == [])
        assert running.count('clock_jumps') == jumps
        assert transforms == ([] if seconds == 99 else ['of now'])


def test_publishers_that_contradict_each_other_are_named(bench):
    running = bench({'use_sim_time': True, 'compute_without_listeners': True})
    kinds = {'/clock': Clock, '/camera/image_raw': Image}
    clock, others = [
        running.robot.node.create_publisher(kind, topic, QoSProfile(depth=5))
        for topic, kind in kinds.items()
    ]
    running.robot.node.create_publisher(Clock, '/clock', QoSProfile(depth=5))
    for topic in kinds:
        running.wait_for(lambda t=topic: running.node.count_publishers(t) == 2)
    running.wait_for(lambda: others.get_subscription_count() == 1)
    running.node.refresh_inputs()
    running.send(100 * SECOND)
    running.deliver('image', running.robot.image_message(300 * SECOND), others)
    assert running.status('frames')[1].endswith('; /camera/image_raw has 2 publishers')
    for seconds in (100, 90):
        set_clock(running, clock, seconds)
    running.wait_for(lambda: running.count('clock_jumps') == 1)
    assert 'time jumped, and /clock has several publishers' in running.status('frames')[1]


def test_a_camera_info_from_before_a_clock_jump_gives_way_to_the_last_one(running):
    new_focal = {100: 60.0, 500: 90.0}  # tenths of a second; some drivers publish changes only
    for number, tenth in enumerate((100, 500, 501, 200, 201), 1):
        stamp = tenth * SECOND // 10
        if tenth in new_focal:
            running.deliver('info', running.robot.camera_info(stamp, new_focal[tenth]))
        running.send(stamp, info=False)
        running.wait_quiet(number)
    assert running.count('clock_jumps') == 1
    # The scan at 20 s is refused, as it is out of order alone.
    infos = running.wait_received('depth/camera_info', 4)
    assert [info.k[0] for info in infos] == [60.0, 90.0, 90.0, 90.0]


def test_images_with_the_stamp_of_the_one_before_are_not_fitted_to_its_scan(running):
    running.send(SECOND)
    for count in (2, 3):
        running.send(SECOND, scan=False)
        frames = running.wait_quiet(count)
    assert (frames['frames.served'], frames['frames.rejected.stamp']) == (1, 2)
    assert 'that of the image before' in running.status('frames')[1]


@pytest.fixture
def planted_tf2(install_tf2, moved):
    """A tf2_ros that has the camera go a metre a second along its optical axis."""
    asked = []

    class Buffer:
        def lookup_transform(self, target_frame, source_frame, time):
            assert (target_frame, source_frame) == ('odom', 'camera_optical')
            return moved(z=time.nanoseconds / SECOND)

        def lookup_transform_full(
            self, target_frame, target_time, source_frame, source_time, fixed_frame
        ):
            asked.append((target_frame, source_frame, fixed_frame))
            return moved(z=(source_time.nanoseconds - target_time.nanoseconds) / SECOND)

        def clear(self):
            pass

    install_tf2(Buffer)
    return asked


@pytest.mark.parametrize(('fixed', 'nearer'), [('odom', 0.5), ('', 0.0)])
def test_a_fixed_frame_compensates_motion_of_old_scans(
    bench, planted_tf2, monkeypatch, fixed, nearer
):
    settings = {'alignment.method': 'global', 'lidar.max_dt': 1.0, 'lidar.wait': 0.0}
    running = bench({**settings, 'lidar.fixed_frame': fixed}, hear=HEARD)
    finished, finish = [], FramePipeline.finish
    monkeypatch.setattr(
        FramePipeline,
        'finish',
        lambda self, frame, prediction: finished.append(frame) or finish(self, frame, prediction),
    )
    running.deliver('scan', running.robot.scan_of_plane(START))
    running.deliver('info', running.robot.camera_info(START))
    running.send(START + SECOND // 2, scan=False, info=False)
    running.wait_received('depth/image_rect')
    # EXTRINSICS have the LiDAR 0.1 m before the camera.
    assert finished[0].inputs[0].T_cam_lidar[2, 3] == pytest.approx(0.1 - nearer)
    place = finished[0].T_world_camera
    assert (place is None) if not fixed else place[2, 3] == 100.5
    assert set(planted_tf2) == ({('camera_optical', 'camera_optical', 'odom')} if fixed else set())
    _, _, values = running.status('transform')
    assert values['fixed_frame'].startswith(fixed or 'none')
    assert values['not_moved'] == '0'


def test_with_a_fixed_frame_a_scan_of_the_camera_is_placed_after_the_prediction_too(
    bench, planted_tf2, monkeypatch
):
    running = bench({'lidar.wait': 0.0, 'lidar.fixed_frame': 'odom'}, hear=HEARD)
    predicted, predict = [], FramePipeline.predict
    monkeypatch.setattr(
        FramePipeline,
        'predict',
        lambda self, frame: predicted.append(frame) or predict(self, frame),
    )
    scan = running.robot.scan_of_plane(START)
    scan.header.frame_id = 'camera_optical'
    running.deliver('scan', scan)
    running.deliver('info', running.robot.camera_info(START))
    running.send(START, scan=False, info=False)
    running.wait_received(ALIGNMENT)
    assert predicted[0].inputs == ()


def true_depth(v):
    """Depth of a slanted wall in metres, 4 m in the last row and 6 m in the first."""
    return 6.0 - 2.0 * v / (HEIGHT - 1)


def send_noise(running, rng, stamp):
    """Send an image of noise with exact points on the wall; everything has one stamp."""
    robot, size = running.robot, (WIDTH, HEIGHT)
    v, u = rng.integers(0, HEIGHT, POINTS), rng.integers(0, WIDTH, POINTS)
    running.deliver('scan', robot.scan_at(stamp, u, v, true_depth(v), FOCAL, size))
    running.deliver('info', robot.camera_info(stamp, FOCAL, size))
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    running.deliver('image', image_message(robot.header(stamp), encode_image(noise, 'rgb8')))


class NoiseModel:
    """Answers with noise, a map that no fit can use."""

    def __init__(self):
        self._rng = np.random.default_rng(3)

    def predict(self, rgb, **_options):
        return Prediction(self._rng.random(rgb.shape[:2], dtype=np.float32))


@pytest.mark.slow
@pytest.mark.parametrize('model', ['noise', 'tiny'])
def test_every_frame_of_noise_is_metric_by_its_points_and_none_is_wrong(bench, model):
    load_model = load if model == 'tiny' else lambda config: NoiseModel()
    running = bench(hear=(DEPTH, ALIGNMENT), load_model=load_model)
    rng = np.random.default_rng(7)
    for k in range(FRAMES):
        send_noise(running, rng, SECOND + k * PERIOD)
        running.wait_quiet(k + 1)
    for topic in (DEPTH, ALIGNMENT):
        running.wait_received(topic, FRAMES)
    for message in running.robot.received['alignment']:
        values = values_of(message.status[0])
        assert values['state'] == 'fitted'
        # On a wall the map of a real model, bent to so many points, is as good as they are.
        assert values['led_by'] == 'points' or model == 'tiny'
    truth = true_depth(np.arange(HEIGHT)[:, None])
    stamps = []
    for message in running.robot.received['depth/image_rect']:
        stamps.append(header_ns(message))
        depth = to_depth(message)
        assert np.isfinite(depth).mean() > 0.9
        assert np.nanmedian(np.abs(depth / truth - 1)) < 0.02
    assert stamps == [SECOND + k * PERIOD for k in range(FRAMES)]
