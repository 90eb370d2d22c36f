# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Several cameras in one process: a node each, in its own namespace, and one model for all."""

from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from functools import partial
import gc
import logging
import threading
import weakref

from loopback_node import wait_for
from marigold_ros.config import ModelConfig, NodeConfig, PipelineConfig, RuntimeConfig
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.live_run.process import spinning
from marigold_ros.message_codec import encode_image
from marigold_ros.node import loading
from marigold_ros.node.distro import threaded_executor
from marigold_ros.node.interface.launch_arguments import parameter_file
from marigold_ros.node.loading import Loader, ModelPool, SharedModel
from marigold_ros.node.main import make_nodes
from marigold_ros.node.ros_helpers import image_message
from marigold_ros.settings import build
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

FAILING = 13  # seed
CAMERAS = ['-p', 'cameras:=[front,left]']


class Plane:
    """Answers with a plane; has no streams, so that cameras take turns."""

    def predict(self, rgb, **_settings):
        rows = np.linspace(1.0, 0.0, rgb.shape[0], dtype=np.float32)[:, None]
        return Prediction(np.repeat(rows, rgb.shape[1], axis=1))


@pytest.fixture
def cameras():
    """Create the nodes of a process from ROS arguments."""
    context = rclpy.Context()
    rclpy.init(context=context)
    made = []

    def make(*arguments, load_model=lambda config: Plane()):
        made.extend(make_nodes(load_model, ['--ros-args', *arguments], context=context))
        return made

    yield make
    for node in made:
        node.stop()
        node.destroy_node()
    context.try_shutdown()


def test_without_cameras_there_is_the_one_node(cameras):
    assert [node.get_fully_qualified_name() for node in cameras()] == ['/marigold_depth']


@pytest.mark.parametrize('namespace', ['', '/robot'])
def test_each_camera_is_a_node_in_its_own_namespace(cameras, namespace):
    below = ['-r', f'__ns:={namespace}'] if namespace else []
    nodes = cameras(*below, *CAMERAS, '-r', 'image:=image_raw', '-r', 'lidar:=/velodyne')
    assert [node.get_fully_qualified_name() for node in nodes] == [
        f'{namespace}/front/marigold_depth',
        f'{namespace}/left/marigold_depth',
    ]
    for node, name in zip(nodes, ('front', 'left'), strict=True):
        assert node.resolve_topic_name('image') == f'{namespace}/{name}/image_raw'
        assert node.resolve_topic_name('lidar') == '/velodyne'
    # The node that read the parameter is gone, with the services that a manager would wait for.
    assert ('marigold_depth', namespace or '/') not in nodes[0].get_node_names_and_namespaces()


def test_cameras_inherit_parameters_and_override_them(cameras, tmp_path):
    (tmp_path / 'robot.yaml').write_text(
        '/robot/marigold_depth:\n  ros__parameters: {seed: 3, use_sim_time: true, max_rate: 5.0}\n'
        '/robot/left/marigold_depth:\n  ros__parameters: {max_rate: 2.0}\n'
        '/**:\n  ros__parameters: {cameras: [front, left]}\n'
    )
    nodes = cameras('-r', '__ns:=/robot', '--params-file', str(tmp_path / 'robot.yaml'))
    assert [node.get_parameter('max_rate').value for node in nodes] == [5.0, 2.0]
    assert [node.get_parameter('seed').value for node in nodes] == [3, 3]
    assert all(node.get_parameter('use_sim_time').value for node in nodes)


def test_arguments_of_launch_win_over_the_parameter_file_that_names_the_cameras(cameras, tmp_path):
    (tmp_path / 'robot.yaml').write_text(
        '/**:\n  ros__parameters: {cameras: [front, left], model: tiny, max_rate: 5.0}\n'
        '/robot/left/marigold_depth:\n  ros__parameters: {model: unet}\n'
    )
    given = parameter_file({'model': '2024', 'use_sim_time': True})
    (tmp_path / 'given.yaml').write_text(given)
    files = [str(tmp_path / name) for name in ('robot.yaml', 'given.yaml')]
    nodes = cameras('-r', '__ns:=/robot', '--params-file', files[0], '--params-file', files[1])
    assert [node.get_parameter('model').value for node in nodes] == ['2024', '2024']
    assert all(node.get_parameter('use_sim_time').value for node in nodes)
    assert [node.get_parameter('max_rate').value for node in nodes] == [5.0, 5.0]


def test_one_camera_can_be_led_to_a_topic_of_its_own(cameras):
    nodes = cameras(*CAMERAS, '-r', '/left/image:=/usb_cam/image_raw')
    topics = [node.resolve_topic_name('image') for node in nodes]
    assert topics == ['/front/image', '/usb_cam/image_raw']


def test_two_cameras_with_one_topic_are_refused(cameras):
    with pytest.raises(ConfigurationError, match='front and left both take their images from'):
        cameras(*CAMERAS, '-r', 'image:=/camera/image_raw')


def test_a_name_that_is_no_namespace_is_refused(cameras):
    with pytest.raises(ConfigurationError, match="'front left'"):
        cameras('-p', "cameras:=['front left']")


def test_bad_values_wait_for_configure_when_there_is_one_camera(cameras):
    (node,) = cameras('-p', 'color_min_depth:=90.0', '-p', 'autostart:=false')
    assert node.exit_code == 0


def test_all_cameras_share_the_model_loaded_once(cameras):
    loaded = []
    nodes = cameras(*CAMERAS, load_model=lambda config: loaded.append(Plane()) or loaded[-1])
    context = nodes[0].context
    robot = rclpy.create_node('robot', context=context)
    executor = threaded_executor(context, 5)
    for node in nodes:
        executor.add_node(node)
    message = image_message(
        Header(frame_id='optical'), encode_image(np.zeros((8, 12, 3), np.uint8), 'rgb8')
    )
    with spinning(robot, executor):
        for node in nodes:
            node.autostart()
            assert node.exit_code == 0
        assert len(loaded) == 1
        for node in nodes:
            space, heard = node.get_namespace(), []
            robot.create_subscription(
                Image, f'{space}/marigold_depth/relative/image', heard.append, 10
            )
            image = robot.create_publisher(Image, f'{space}/image', 10)
            for _ in range(2):  # the second time by the subscription that will stay
                wait_for(image.get_subscription_count, 30, 'the connection of the input')
                node.refresh_inputs()
            wait_for(lambda n=node: sum(n.listeners().values()), 30, 'that of the output')
            image.publish(message)
            wait_for(lambda h=heard: h, 30, f'a map of {space}')
        served = [node.health.counters.snapshot()['frames.served'] for node in nodes]
    assert served == [1, 1]
    robot.destroy_node()


class Counter:
    """A camera's state: how many images it has seen."""

    def __init__(self):
        self.seen = 0

    def reset(self):
        self.seen = 0


class Networks:
    """Answers with the image's first value and its camera's count; notes each call."""

    takes_any_batch, space = True, 'depth'
    new_stream = Counter

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_work = threading.Event()

    def predict_together(self, rgbs, streams, options):
        self.calls.append([int(rgb.flat[0]) for rgb in rgbs])
        self.at_work.set()
        assert self.gate.wait(10)
        if options.seed == FAILING:
            raise ValueError('planted')
        for stream in streams:
            stream.seen += 1
        return [
            Prediction(np.full(rgb.shape[:2], rgb.flat[0] + 100 * stream.seen, np.float32))
            for rgb, stream in zip(rgbs, streams, strict=True)
        ]


def image(value, height=2):
    return np.full((height, 3, 3), value, np.uint8)


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def patient(monkeypatch):
    """Wait for other cameras as long as a busy machine needs."""
    monkeypatch.setattr(loading, 'WINDOW', 10.0)


def values(futures):
    return [int(future.result(10).relative[0, 0]) for future in futures]


def test_cameras_that_ask_at_once_share_a_call(networks, patient):
    shared = SharedModel(networks)
    cameras = [shared.for_camera() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(c.predict, image(i)) for i, c in enumerate(cameras)]
        assert values(answers) == [100, 101, 102]
    assert [sorted(call) for call in networks.calls] == [[0, 1, 2]]


def test_images_during_a_call_are_batched_in_the_next(networks):
    shared = SharedModel(networks)
    cameras = [shared.for_camera() for _ in range(3)]
    networks.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(cameras[0].predict, image(0))
        assert networks.at_work.wait(10)
        rest = [pool.submit(cameras[i].predict, image(i)) for i in (1, 2)]
        while len(shared.waiting) < 2:
            pass
        networks.gate.set()
        assert values([first, *rest]) == [100, 101, 102]
    assert [sorted(call) for call in networks.calls] == [[0], [1, 2]]


@pytest.mark.parametrize('other', [{'height': 4}, {'seed': 1}])
def test_images_that_one_call_cannot_answer_get_their_own(networks, other):
    shared = SharedModel(networks)
    front, left = shared.for_camera(), shared.for_camera()
    settings = {name: value for name, value in other.items() if name == 'seed'}
    with ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(front.predict, image(1)),
            pool.submit(left.predict, image(2, other.get('height', 2)), **settings),
        ]
        assert values(answers) == [101, 102]
    assert sorted(networks.calls) == [[1], [2]]


def test_an_error_reaches_every_camera_of_the_call(networks, patient):
    shared = SharedModel(networks)
    cameras = [shared.for_camera(), shared.for_camera()]
    with ThreadPoolExecutor(2) as pool:
        failing = [pool.submit(c.predict, image(1), seed=FAILING) for c in cameras]
        for future in failing:
            with pytest.raises(ValueError, match='planted'):
                future.result(10)
        assert values([pool.submit(c.predict, image(1)) for c in cameras]) == [101, 101]


def test_an_error_lets_go_of_what_the_model_had_computed(networks, monkeypatch, request):
    computed = []

    def fail(_rgbs, _streams, _options):
        features = np.ones(9)
        computed.append(weakref.ref(features))
        raise MemoryError

    monkeypatch.setattr(networks, 'predict_together', fail)
    camera = SharedModel(networks).for_camera()
    request.addfinalizer(gc.enable)
    gc.disable()
    with suppress(MemoryError):
        camera.predict(image(1))
    assert computed[0]() is None


def test_a_reset_of_one_camera_leaves_the_others_alone(networks, monkeypatch):
    monkeypatch.setattr(loading, 'WINDOW', 0.0)
    shared = SharedModel(networks)
    front, left = shared.for_camera(), shared.for_camera()
    for camera in (front, left):
        camera.predict(image(0))
    front.reset()
    assert [int(c.predict(image(0)).relative[0, 0]) for c in (front, left)] == [100, 200]
    assert front.space == 'depth'


def test_guidance_by_points_waits_for_its_turn(networks):
    shared = SharedModel(networks)
    networks.predict_guided = networks.calls.append
    with ThreadPoolExecutor(1) as pool:
        with shared.turn:
            asked = pool.submit(shared.for_camera().predict_guided, 'points')
            with pytest.raises(TimeoutError):
                asked.result(0.1)
        asked.result(10)
    assert networks.calls == ['points']


def test_a_model_compiled_for_one_image_is_not_batched(networks, patient):
    networks.takes_any_batch = False
    shared = SharedModel(networks)
    cameras = [shared.for_camera(), shared.for_camera()]
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(c.predict, image(i)) for i, c in enumerate(cameras)]
        assert values(answers) == [100, 101]
    assert sorted(networks.calls) == [[0], [1]]


@pytest.mark.parametrize(
    'others',
    [
        {'model': ModelConfig(model='another')},
        {'runtime': RuntimeConfig('torch')},
        {'pipeline': PipelineConfig(guidance='points')},
    ],
)
def test_equal_settings_share_a_model_until_the_last_camera(others):
    loaded = []

    def load(config):
        model = Networks()
        loaded.append(weakref.ref(model))
        return model

    pool = ModelPool(load)
    front, left = pool.load('front', NodeConfig()), pool.load('left', NodeConfig())
    other = pool.load('rear', NodeConfig(**others))
    assert len(loaded) == 2
    del front, other
    gc.collect()
    assert loaded[0]() is not None
    assert loaded[1]() is None
    again = pool.load('front', NodeConfig())  # after a cleanup: what the left one holds serves
    assert len(loaded) == 2
    del left, again
    gc.collect()
    assert loaded[0]() is None


def test_a_camera_with_a_wrong_fusion_network_is_refused_beside_a_right_one():
    pool = ModelPool(lambda config: Networks())
    front, left = (
        Loader(partial(pool.load, name), logging.getLogger('test')) for name in ('front', 'left')
    )
    assert front.load(NodeConfig()).shared is pool.load('rear', NodeConfig()).shared
    with pytest.raises(CheckpointError, match='/no/such/folder'):
        left.load(build(NodeConfig, {'alignment.fusion': '/no/such/folder'}))
    left.load(build(NodeConfig, {'alignment.fusion': 'none'}))


def test_loading_again_reads_the_files_anew():
    loaded = []
    pool = ModelPool(lambda config: loaded.append(Networks()) or loaded[-1])
    held = [pool.load(name, NodeConfig()) for name in ('front', 'left')]
    new = pool.load('front', NodeConfig())
    assert len(loaded) == 2
    assert new.shared is pool.load('left', NodeConfig()).shared  # which takes the new one, too
    assert len(loaded) == 2
    assert held[0].shared is not new.shared
