# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A loopback node with a planted model, and a robot that sends a plane to it over real DDS."""

from contextlib import ExitStack
import sys
import threading
from types import ModuleType, SimpleNamespace
import warnings

from marigold_ros.config import NodeConfig
from marigold_ros.frame import Camera, Prediction
from marigold_ros.settings import as_values
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
from marigold_ros.message_codec import (  # noqa: E402
    camera_info_fields,
    encode_cloud,
    encode_image,
    header_ns,
)
from marigold_ros.node.diagnostic_keys import values_of  # noqa: E402
from marigold_ros.node.health import Health  # noqa: E402
from marigold_ros.node.interface.parameters import values_of as values_of_node  # noqa: E402
from marigold_ros.node.interface.publishers import TOPICS  # noqa: E402
from marigold_ros.node.ros_helpers import (  # noqa: E402
    cloud_message,  # noqa: E402
    image_message,
    info_message,
    to_stamp,
)
from rclpy.parameter import Parameter  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from synthetic_messages import mounting_parameters  # noqa: E402

WIDTH, HEIGHT, FOCAL = 64, 48, 60.0
OPTICAL, LIDAR = 'camera_optical', 'velodyne'
SECOND = 1_000_000_000
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
    """
    Sends a plane, and keeps what the node answers.

    All stamps count from ``begin_ns``, and answers to what was sent before it are dropped.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.received, self.begin_ns = {}, 0
        self.hear('diagnostics')

    image = property(lambda self: self.publishers['image'])
    info = property(lambda self: self.publishers['info'])
    lidar = property(lambda self: self.publishers['scan'])

    def hear(self, output):
        """Subscribe to an output, or the diagnostics; messages gather in ``received``."""
        self.received[output] = []

        def keep(message):
            if header_ns(message) >= self.begin_ns:
                self.received[output].append(message)

        topic = '/diagnostics' if output == 'diagnostics' else output
        self.subscribe(topic, TOPICS.get(output, DiagnosticArray), keep)

    def header(self, stamp_ns, frame=OPTICAL):
        return Header(stamp=to_stamp(self.begin_ns + stamp_ns), frame_id=frame)

    def image_message(self, stamp_ns):
        """Return an image of the plane."""
        rgb = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        return image_message(self.header(stamp_ns), encode_image(rgb, 'rgb8'))

    def camera_info(self, stamp_ns, focal=FOCAL, size=(WIDTH, HEIGHT), **changes):
        """Return the camera_info of images of a size (width, height), or of some with changes."""
        K = np.array([[focal, 0.0, size[0] / 2], [0.0, focal, size[1] / 2], [0.0, 0.0, 1.0]])
        fields = camera_info_fields(Camera(K, *size)) | changes
        return info_message(self.header(stamp_ns), fields)

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
        return self.scan_at(stamp_ns, u.ravel(), v.ravel(), plane(v.ravel() / (HEIGHT - 1)))

    def scan_at(self, stamp_ns, u, v, z, focal=FOCAL, size=(WIDTH, HEIGHT)):
        """Return a scan of points at pixels (u, v) of an image, z metres away."""
        x, y = ((pixel - side / 2) / focal * z for pixel, side in zip((u, v), size, strict=True))
        camera = np.stack([x, y, z], axis=1) - EXTRINSICS['extrinsics.translation']
        return self.cloud(stamp_ns, np.stack([camera[:, 2], -camera[:, 0], -camera[:, 1]], axis=1))


def plane(down):
    """Return the depth of the planted plane, metres, at a share of the image from its top."""
    return 2.0 + 8.0 * (1.0 - down)


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
        for topic in hear:
            self.robot.hear(topic)
        if autostart:
            self.start()
            if connect:
                self.wait_connected(len(hear))

    def configure(self, **changes):
        """Change parameters, with __ for the dot; returns whether all were accepted."""
        given = [Parameter(name.replace('__', '.'), value=v) for name, v in changes.items()]
        return all(result.successful for result in self.node.set_parameters(given))

    def start_anew(self):
        """Forget what the last test sent, received and changed, but for the last camera_info."""
        self.wait_idle()
        defaults, now = as_values(NodeConfig()), values_of_node(self.node)
        changed = [name for name in now if now[name] != defaults[name] and name not in EXTRINSICS]
        self.node.set_parameters([Parameter(name, value=defaults[name]) for name in changed])
        assert self.call(Trigger, 'reset').success
        self.robot.begin_ns += 10_000 * SECOND
        for messages in self.robot.received.values():
            messages.clear()
        vars(self.node.health).update(vars(Health()))
        self.model.calls, self.model.started = 0, threading.Semaphore(0)

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


class Shared:
    """The node that tests of a module share, while no test starts one of its own beside it."""

    def __init__(self):
        self.running = None

    def started(self):
        """Start the node, whose robot hears every output, or reset it."""
        if self.running is None:
            self.running = Bench(hear=TOPICS)
        self.running.start_anew()
        return self.running

    def close(self):
        if self.running is not None:
            self.running.__exit__()
        self.running = None


@pytest.fixture(scope='module')
def shared():
    shared = Shared()
    yield shared
    shared.close()


@pytest.fixture
def running(shared):
    """Return the module's node, reset and with its default parameters."""
    return shared.started()


@pytest.fixture
def bench(shared):
    """Create benches; all are closed after the test."""
    shared.close()  # it would answer on the same topics
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Bench(*arguments, **options))


@pytest.fixture
def install_tf2(monkeypatch):
    """Give a function that installs a tf2_ros with this class of buffer."""

    def install(buffer):
        module = ModuleType('tf2_ros')
        module.TransformException, module.Buffer = LookupError, buffer
        module.TransformListener = lambda buffer, node, spin_thread: SimpleNamespace(
            unregister=lambda: None
        )
        monkeypatch.setitem(sys.modules, 'tf2_ros', module)

    return install


@pytest.fixture
def moved():
    """Give a function that returns the TransformStamped of a translation."""

    def stamped(x=0.0, z=0.0, stamp_ns=0):
        move, turn = SimpleNamespace(x=x, y=0.0, z=z), SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
        pose = SimpleNamespace(translation=move, rotation=turn)
        return SimpleNamespace(header=Header(stamp=to_stamp(stamp_ns)), transform=pose)

    return stamped


@pytest.fixture
def new_robot():
    """Return the class Robot, for a node in another process."""
    return Robot
