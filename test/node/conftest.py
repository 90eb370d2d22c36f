# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A loopback node with a planted model, and a robot that sends a plane to it over real DDS."""

from contextlib import ExitStack
import threading
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
import loopback_node  # noqa: E402
from loopback_node import LoopbackNode, wait_for  # noqa: E402
from marigold_ros.message_codec import encode_cloud, encode_image  # noqa: E402
from marigold_ros.node.health.diagnostic_keys import values_of  # noqa: E402
from marigold_ros.node.interface.messages import image_message, to_stamp  # noqa: E402
from marigold_ros.node.ros_helpers import cloud_message  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from synthetic_messages import mounting_parameters  # noqa: E402

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
OPTICAL, LIDAR = 'camera_optical', 'velodyne'
# The LiDAR's x forward, y left, z up in the optical frame's z forward, x right, y down.
EXTRINSICS = mounting_parameters()


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


class Robot(loopback_node.Robot):
    """Sends a plane, and keeps what the node answers."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.received = {}
        self.hear('/diagnostics', DiagnosticArray, 'diagnostics')

    image = property(lambda self: self.publishers['image'])
    info = property(lambda self: self.publishers['info'])
    lidar = property(lambda self: self.publishers['scan'])

    def hear(self, topic, kind, name=None):
        """Subscribe to an output; messages gather in ``received``."""
        name = name or topic
        self.received[name] = []
        self.subscribe(topic, kind, self.received[name].append)

    def header(self, stamp_ns, frame=OPTICAL):
        return Header(stamp=to_stamp(stamp_ns), frame_id=frame)

    def image_message(self, stamp_ns):
        """Return an image of the plane."""
        rgb = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        return image_message(self.header(stamp_ns), encode_image(rgb, 'rgb8'))

    def camera_info(self, stamp_ns, focal=FOCAL):
        """Return its camera_info; focal 0 is an uncalibrated camera."""
        message = CameraInfo(header=self.header(stamp_ns), width=WIDTH, height=HEIGHT)
        K = [focal, 0.0, WIDTH / 2, 0.0, focal, HEIGHT / 2, 0.0, 0.0, 1.0 if focal else 0.0]
        message.k = K if focal else [0.0] * 9
        message.r = [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0] if focal else [0.0] * 9
        if focal:
            message.p = [focal, 0, WIDTH / 2, 0, 0, focal, HEIGHT / 2, 0, 0, 0, 1.0, 0]
        return message

    def cloud(self, stamp_ns, points):
        """Return a cloud in the LiDAR's frame."""
        structured = np.zeros((1, len(points)), [(axis, '<f4') for axis in 'xyz'])
        for column, axis in enumerate('xyz'):
            structured[axis] = points[:, column]
        return cloud_message(self.header(stamp_ns, LIDAR), encode_cloud(structured))

    def scan_of_plane(self, stamp_ns):
        """
        Return a scan of the planted plane: depth 2 to 10 m from the last row to the first.

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


class Bench(LoopbackNode):
    """A loopback node with a planted model, and what tests ask of it."""

    wait_for = staticmethod(wait_for)

    def __init__(
        self, parameters=None, hear=(), autostart=True, connect=True, load_model=None, remap=()
    ):
        self.model = PlantedModel()
        super().__init__(
            {**EXTRINSICS, **(parameters or {})},
            load_model=load_model or (lambda config: self.model),
            remap=remap,
            robot=Robot,
        )
        for topic, kind in hear:
            self.robot.hear(topic, kind)
        if autostart:
            self.start()
            if connect:
                self.wait_connected(len(hear))

    def send(self, stamp_ns, scan=True, info=True):
        """
        Publish scan and camera_info of one moment, and once they are there, the image.

        DDS keeps no order between topics, so what is sent must have arrived before the image.
        """
        if scan:
            self.deliver('scan', self.robot.scan_of_plane(stamp_ns))
        if info:
            self.deliver('info', self.robot.camera_info(stamp_ns))
        self.deliver('image', self.robot.image_message(stamp_ns))

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
        self.node.publish_diagnostics()
        message = self.wait_received('diagnostics', before + 1)[-1]
        for status in message.status:
            if status.name == f'/marigold_depth: {part}':
                return int.from_bytes(status.level, 'little'), status.message, values_of(status)
        raise AssertionError(f'no status {part} in {[s.name for s in message.status]}')

    def call(self, kind, name, **fields):
        """Call one of the node's services; the response."""
        client = self.robot.node.create_client(kind, f'/marigold_depth/{name}')
        # Node and robot share a participant, so this takes milliseconds; a starved machine's more.
        wait_for(client.service_is_ready, 30.0, f'the service {name}')
        future = client.call_async(kind.Request(**fields))
        wait_for(future.done, what=f'the answer of {name}')
        return future.result()

    def __exit__(self, *error):
        self.model.gate.set()
        super().__exit__(*error)


@pytest.fixture
def bench():
    """Create benches; all are closed after the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Bench(*arguments, **options))


@pytest.fixture
def new_robot():
    """Return the class Robot, for a node in another process."""
    return Robot
