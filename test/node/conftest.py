# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A node with a planted model in this process, and a robot that talks to it over real DDS."""

from __future__ import annotations

import threading
import time
import warnings

from marigold_ros.frame import Prediction
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 or its wheels')
with warnings.catch_warnings():
    # The parser behind rclpy's type support imports sre_parse, which Python 3.11 calls deprecated.
    warnings.simplefilter('ignore', DeprecationWarning)
    import rosidl_generator_py  # noqa: F401

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from marigold_ros.message_codec import encode_cloud, encode_image  # noqa: E402
from marigold_ros.node.depth_node import DepthNode  # noqa: E402
from marigold_ros.node.distro import spin, threaded_executor  # noqa: E402
from marigold_ros.node.interface.messages import image_message, to_stamp  # noqa: E402
from marigold_ros.node.ros_helpers import cloud_message  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
OPTICAL, LIDAR = 'camera_optical', 'velodyne'
# The LiDAR's x forward, y left, z up in the optical frame's z forward, x right, y down.
EXTRINSICS = {
    'extrinsics.translation': [0.0, -0.2, 0.1],
    'extrinsics.rotation_xyzw': [0.5, -0.5, 0.5, 0.5],
}


class PlantedModel:
    """Answers with a tilted plane; ``gate`` lets a test hold a frame in work."""

    name, device = 'planted', 'cpu'

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Semaphore(0)
        self.calls = 0

    def predict(self, rgb, **_options):
        self.calls += 1
        self.started.release()
        self.gate.wait(10)
        height, width = rgb.shape[:2]
        rows = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None]
        return Prediction(np.repeat(rows, width, axis=1))


def wait_for(condition, seconds=30.0, what='the condition'):
    """Wait until a condition holds; its value is returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f'{what} did not come true within {seconds} s')


class Robot:
    """Publishes what a robot would, and keeps what the node answers."""

    def __init__(self, context, name='robot'):
        self.node = rclpy.create_node(name, context=context)
        reliable = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self.image = self.node.create_publisher(Image, '/camera/image_raw', reliable)
        self.info = self.node.create_publisher(CameraInfo, '/camera/camera_info', reliable)
        self.lidar = self.node.create_publisher(PointCloud2, '/velodyne_points', reliable)
        self.received = {}
        self.hear('/diagnostics', DiagnosticArray, 'diagnostics')

    def hear(self, topic, kind, name=None):
        """Subscribe to an output; messages gather in ``received``."""
        name = name or topic
        self.received[name] = []
        full = topic if topic.startswith('/') else f'/marigold_depth/{topic}'
        self.node.create_subscription(kind, full, self.received[name].append, QoSProfile(depth=50))

    def header(self, stamp_ns, frame=OPTICAL):
        return Header(stamp=to_stamp(stamp_ns), frame_id=frame)

    def image_message(self, stamp_ns):
        """Make an image of the plane."""
        rgb = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        return image_message(self.header(stamp_ns), encode_image(rgb, 'rgb8'))

    def camera_info(self, stamp_ns, focal=FOCAL):
        """Make its camera_info; focal 0 is an uncalibrated camera."""
        message = CameraInfo(header=self.header(stamp_ns), width=WIDTH, height=HEIGHT)
        K = [focal, 0.0, WIDTH / 2, 0.0, focal, HEIGHT / 2, 0.0, 0.0, 1.0 if focal else 0.0]
        message.k = K if focal else [0.0] * 9
        message.r = [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0] if focal else [0.0] * 9
        if focal:
            message.p = [focal, 0, WIDTH / 2, 0, 0, focal, HEIGHT / 2, 0, 0, 0, 1.0, 0]
        return message

    def cloud(self, stamp_ns, points):
        """Make a cloud in the LiDAR's frame."""
        structured = np.zeros((1, len(points)), [(axis, '<f4') for axis in 'xyz'])
        for column, axis in enumerate('xyz'):
            structured[axis] = points[:, column]
        return cloud_message(self.header(stamp_ns, LIDAR), encode_cloud(structured))

    def scan_of_plane(self, stamp_ns):
        """
        Make a scan that sees the planted plane: depth 2 to 10 m from the last row to the first.

        Rows and relative depth run together, so that scale is 8 and shift is 2.
        """
        v, u = np.meshgrid(np.arange(2, HEIGHT, 3), np.arange(1, WIDTH, 3), indexing='ij')
        z = 2.0 + 8.0 * (1.0 - v / (HEIGHT - 1))
        camera = np.stack(
            [(u - WIDTH / 2) / FOCAL * z, (v - HEIGHT / 2) / FOCAL * z, z], axis=-1
        ).reshape(-1, 3)
        camera -= np.array(EXTRINSICS['extrinsics.translation'])
        lidar = np.stack([camera[:, 2], -camera[:, 0], -camera[:, 1]], axis=1)
        return self.cloud(stamp_ns, lidar)


class Bench:
    """A running node with its robot."""

    def __init__(
        self, parameters=None, hear=(), autostart=True, connect=True, load_model=None, remap=()
    ):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.model = PlantedModel()
        arguments = ['--ros-args']
        for rule in ('image:=/camera/image_raw', 'lidar:=/velodyne_points', *remap):
            arguments += ['-r', rule]
        overrides = {**EXTRINSICS, **(parameters or {})}
        self.node = DepthNode(
            load_model=load_model or (lambda config: self.model),
            context=self.context,
            cli_args=arguments,
            parameter_overrides=[
                Parameter(name, value=value)
                for name, value in overrides.items()
                if value is not None
            ],
        )
        self.robot = Robot(self.context)
        for topic, kind in hear:
            self.robot.hear(topic, kind)
        self.executors, self.threads = [], []
        for node, make in (
            (self.node, lambda: threaded_executor(self.context, 3)),
            (self.robot.node, lambda: SingleThreadedExecutor(context=self.context)),
        ):
            executor = make()
            executor.add_node(node)
            thread = threading.Thread(target=spin, args=(executor,), daemon=True)
            thread.start()
            self.executors.append(executor)
            self.threads.append(thread)
        if autostart:
            self.node.autostart()
            assert self.node.exit_code == 0
            if connect:
                self.wait_connected(len(hear))

    def wait_connected(self, heard=0):
        """Wait until node and robot know each other."""
        wait_for(
            lambda: all(
                p.get_subscription_count()
                for p in (self.robot.image, self.robot.info, self.robot.lidar)
            ),
            what='the connection of the inputs',
        )
        wait_for(
            lambda: sum(self.node._outputs.listeners().values()) >= heard,
            what='the connection of the outputs',
        )
        # After this the subscriptions are reliable and stay as they are.
        self.node._inputs.refresh_qos()
        wait_for(
            lambda: all(
                p.get_subscription_count() == 1
                for p in (self.robot.image, self.robot.info, self.robot.lidar)
            )
        )

    def send(self, stamp_ns, scan=True, info=True):
        """
        Publish scan and camera_info of one moment, and once they are there, the image.

        DDS keeps no order between topics, so what is sent must have arrived before the image.
        """
        for wanted, publisher, message, counter in (
            (scan, self.robot.lidar, self.robot.scan_of_plane, 'scans.received'),
            (info, self.robot.info, self.robot.camera_info, 'infos.received'),
        ):
            if wanted is True:
                self.arrive(publisher, message(stamp_ns), counter)
        self.arrive(self.robot.image, self.robot.image_message(stamp_ns), 'frames.received')

    wait_for = staticmethod(wait_for)

    def arrive(self, publisher, message, counter):
        """Publish a message and wait until the node counted it."""
        before = self.count(counter)
        publisher.publish(message)
        wait_for(lambda: self.count(counter) > before, what=f'the arrival in {counter}')

    def count(self, name):
        return self.node.health.counters.snapshot().get(name, 0)

    def wait_received(self, topic, n=1, seconds=30.0):
        """Wait until an output has come n times; the messages."""
        return wait_for(
            lambda: len(self.robot.received[topic]) >= n and self.robot.received[topic],
            seconds,
            f'message {n} on {topic}',
        )

    def wait_quiet(self, received):
        """Wait until so many images came in and none is in work; the counters."""
        wait_for(
            lambda: (
                self.count('frames.received') >= received and self.count('frames.in_flight') == 0
            ),
            what=f'{received} images received and done',
        )
        return self.node.health.counters.snapshot('frames.')

    def status(self, part):
        """Wait for diagnostics newer than this call; the part's level, message and values."""
        before = len(self.robot.received['diagnostics'])
        self.node._publish_diagnostics()
        message = self.wait_received('diagnostics', before + 1)[-1]
        for status in message.status:
            if status.name == f'/marigold_depth: {part}':
                values = {pair.key: pair.value for pair in status.values}
                return int.from_bytes(status.level, 'little'), status.message, values
        raise AssertionError(f'no status {part} in {[s.name for s in message.status]}')

    def call(self, kind, name, **fields):
        """Call one of the node's services; the response."""
        client = self.robot.node.create_client(kind, f'/marigold_depth/{name}')
        # Node and robot share a participant, so this takes milliseconds; a starved machine's more.
        wait_for(client.service_is_ready, 30.0, f'the service {name}')
        future = client.call_async(kind.Request(**fields))
        wait_for(future.done, what=f'the answer of {name}')
        return future.result()

    def close(self):
        self.model.gate.set()
        self.node.stop()
        for executor in self.executors:
            executor.shutdown(timeout_sec=1.0)
        # A thread that still spins when the context goes ends with an error.
        for thread in self.threads:
            thread.join(30)
        self.context.try_shutdown()
        self.robot.node.destroy_node()
        self.node.destroy_node()


@pytest.fixture
def bench():
    """Make benches; all are closed after the test."""
    made = []

    def make(*arguments, **options):
        made.append(Bench(*arguments, **options))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture(name='wait_for')
def give_wait_for():
    """Give the function that waits for a condition."""
    return wait_for


@pytest.fixture
def new_robot():
    """Give the class Robot, for a node in another process."""
    return Robot
