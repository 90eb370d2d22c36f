# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Several cameras in one process: a node each, in its own namespace, and one model for all."""

from loopback_node import wait_for
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Prediction
from marigold_ros.live_run.process import spinning
from marigold_ros.message_codec import encode_image
from marigold_ros.node.distro import threaded_executor
from marigold_ros.node.interface.messages import image_message
from marigold_ros.node.main import make_nodes
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

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
