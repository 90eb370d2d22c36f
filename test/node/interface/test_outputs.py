# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Every output is what the pipeline gives without ROS, read by upstream's own rules; where it goes.

Bytes are read here with struct and NumPy, as the plugins of image_transport, depth_image_proc and
RViz read them, and not with the codec that wrote them.
"""

from functools import partial
import struct
import time
from types import SimpleNamespace

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from loopback_node import INPUTS, REMAP, wait_for
from marigold_ros.evaluation.report.drawing import colourise_depth
from marigold_ros.geometry.postprocess import confidence
from marigold_ros.live_run.process import own_context, own_node, running_node, spinning
from marigold_ros.message_codec import header_ns, to_depth
from marigold_ros.models import load_model, use_threads
from marigold_ros.node.interface.publishers import colour_depth, TOPICS
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger
from synthetic_messages import mounting_parameters, views

STAMP = 1_700_000_000_123_456_789
OWN = {f'/marigold_depth/{name}' for name in TOPICS}


class Heard:
    """The last message of each output."""

    def __init__(self, node):
        self.messages = {}
        for name, kind in TOPICS.items():
            topic, note = f'/robot/marigold_depth/{name}', partial(self.messages.__setitem__, name)
            node.create_subscription(kind, topic, note, QoSProfile(depth=5))

    def whole(self, stamp):
        """Whether every output has this stamp."""
        stamps = [header_ns(message) for message in self.messages.values()]
        return len(stamps) == len(TOPICS) and set(stamps) == {stamp}


@pytest.fixture(scope='module')
def view():
    return views(3)[0]


@pytest.fixture(scope='module', params=['raw', pytest.param('compressed', marks=pytest.mark.slow)])
def served(request, view, tmp_path_factory):
    """Outputs of a node in another process for one frame, and the pipeline's own answer."""
    transport = request.param
    role = 'image' if transport == 'raw' else 'compressed'
    parameters = {'image_transport': transport, 'points.sigma': True, **mounting_parameters()}
    parameters['runtime.backend'] = 'torch'  # as the pipeline beside it
    # One remap serves both transports; the shipped file holds in any namespace.
    arguments = ['--ros-args', '--params-file', 'config/depth.yaml', '-r', '__ns:=/robot']
    arguments += REMAP
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={str(value).lower() if value is True else value}']
    log = tmp_path_factory.mktemp('outputs') / 'node.log'
    with own_context() as context, own_node('robot', context) as robot:
        heard = Heard(robot)
        publishers = {
            name: robot.create_publisher(INPUTS[name][1], INPUTS[name][0], QoSProfile(depth=5))
            for name in (role, 'info', 'scan')
        }
        with running_node(arguments, log) as process, spinning(robot):
            reset = robot.create_client(Trigger, '/robot/marigold_depth/reset')
            _send(publishers, view, STAMP - 1, heard, process, patience=1.0)
            assert reset.wait_for_service(30)
            forgotten = reset.call_async(Trigger.Request())
            wait_for(forgotten.done, 30.0, 'the reset')
            _send(publishers, view, STAMP, heard, process, patience=60.0)
            assert process.stop() == []
    use_threads(0)
    result = FramePipeline(load_model()).process(view.frame(role))
    return heard.messages, result


def _send(publishers, view, stamp, heard, process, patience):
    """Send a frame, anew after some seconds: connections come to stand one by one."""
    deadline = time.monotonic() + 90
    while not heard.whole(stamp):
        assert time.monotonic() < deadline, set(TOPICS) - set(heard.messages)
        for name in ('scan', 'info', *publishers):
            publishers[name].publish(view.message(name, stamp))
        again = time.monotonic() + patience
        while not heard.whole(stamp) and time.monotonic() < again:
            process.check()
            time.sleep(0.01)


def pixels(message, kind):
    """Rows of an uncompressed image, by step."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows.view(kind)


def test_confidence_is_that_of_depth_and_sigma(served):
    messages, result = served
    shown = np.nan_to_num(to_depth(messages['confidence/image']))
    np.testing.assert_array_equal(shown, confidence(result.alignment.metric, result.sigma))
    assert 0 <= shown.min() < shown.max() <= 100


@pytest.mark.parametrize(
    ('topic', 'field'),
    [
        ('relative/image', 'relative'),
        ('depth/image_rect', 'metric'),
        ('uncertainty/image', 'sigma'),
    ],
)
def test_images_are_the_pipelines_to_the_bit(served, topic, field):
    messages, result = served
    message = messages[topic]
    assert message.encoding == '32FC1'
    assert message.step == 4 * message.width
    assert message.is_bigendian == 0
    np.testing.assert_array_equal(pixels(message, '<f4'), getattr(result, field))


def test_the_rectified_image_is_published_with_its_camera(served):
    messages, result = served
    image, info = messages['rgb/image_rect'], messages['rgb/camera_info']
    assert image.encoding == 'rgb8'
    shown = pixels(image, np.uint8).reshape(image.height, image.width, 3)
    np.testing.assert_array_equal(shown, result.rgb)
    np.testing.assert_array_equal(info.k, result.camera.K.ravel())


def test_depth_has_what_depth_image_proc_asks_for(served):
    # It subscribes to image_rect and to the sibling camera_info, takes 32FC1 for metres with NaN
    # for nothing and K from P, and wants both with one stamp, frame and size.
    messages, result = served
    image, info = messages['depth/image_rect'], messages['depth/camera_info']
    assert (info.height, info.width) == (image.height, image.width)
    assert info.header == image.header
    P = np.array(info.p).reshape(3, 4)
    np.testing.assert_array_equal(P[:, :3], result.camera.K)
    assert not P[:, 3].any()
    v, u = np.argwhere(np.isfinite(result.metric))[100]
    z = pixels(image, '<f4')[v, u]
    point = np.array([(u - P[0, 2]) * z / P[0, 0], (v - P[1, 2]) * z / P[1, 1], z])
    np.testing.assert_allclose(cloud_of(messages['points'])['xyz'][v, u], point, rtol=1e-5)


def fields_of(message):
    """Fields (H, W) of a cloud of float32, by their offsets."""
    data = np.frombuffer(message.data, np.uint8).reshape(message.height, message.row_step)
    data = data[:, : message.width * message.point_step]
    data = data.reshape(message.height, message.width, message.point_step)
    return {
        field.name: data[..., field.offset : field.offset + 4].copy().view('<f4')[..., 0]
        for field in message.fields
    }


def cloud_of(message):
    """Points, colours and sigma of a cloud."""
    fields = fields_of(message)
    colour = fields['rgb'].view('<u4')
    return {
        'xyz': np.stack([fields[axis] for axis in 'xyz'], axis=-1),
        # RViz and PCL: the bits of the float are 0x00RRGGBB.
        'rgb': np.stack([colour >> shift & 0xFF for shift in (16, 8, 0)], axis=-1),
        'sigma': fields['sigma'],
    }


def test_cloud_is_organised_and_coloured_with_no_extra_point(served, view):
    messages, result = served
    message = messages['points']
    assert (message.height, message.width) == result.metric.shape
    assert message.row_step == message.width * message.point_step
    assert not message.is_dense
    cloud = cloud_of(message)
    valid = np.isfinite(cloud['xyz'][..., 2])
    assert 0.5 < valid.mean() < 1.0
    np.testing.assert_array_equal(np.isfinite(cloud['xyz']).all(-1), valid)
    np.testing.assert_array_equal(cloud['xyz'][valid][:, 2], result.metric[valid])
    np.testing.assert_array_equal(cloud['rgb'][valid], result.rgb[valid])
    np.testing.assert_array_equal(cloud['sigma'][valid], result.sigma[valid])


def test_compressed_depth_is_read_by_the_plugins_rule(served):
    # compressed_depth_image_transport: 12 bytes (int32, float A, float B), then a PNG of inverse
    # depth; depth is A / (png - B), 0 is nothing.
    messages, result = served
    message = messages['depth/image_rect/compressedDepth']
    assert message.format == '32FC1; compressedDepth png'
    data = bytes(message.data)
    _, a, b = struct.unpack_from('<iff', data)
    inverse = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED)
    assert inverse.dtype == np.uint16
    with np.errstate(divide='ignore'):
        depth = np.where(inverse > 0, a / (inverse.astype(np.float64) - b), np.nan)
    expected = np.where(result.metric < 100.0, result.metric, np.nan)
    np.testing.assert_array_equal(np.isfinite(depth), np.isfinite(expected))
    known = np.isfinite(depth)
    # Half a step of the quantisation, whose depth grows with the square of depth.
    step = expected[known] ** 2 / a
    assert np.all(np.abs(depth[known] - expected[known]) <= 0.51 * step + 1e-5)


def test_colours_run_from_bright_to_dark_and_unknown_is_grey(served):
    messages, result = served
    message = messages['depth/color']
    assert message.encoding == 'bgr8'
    bgr = pixels(message, np.uint8).reshape(message.height, message.width, 3).astype(int)
    unknown = ~np.isfinite(result.metric)
    assert (bgr[unknown] == bgr[unknown][0, 0]).all()
    assert np.ptp(bgr[~unknown], axis=-1).all()
    jpeg = cv2.imdecode(
        np.frombuffer(bytes(messages['depth/color/compressed'].data), np.uint8), cv2.IMREAD_COLOR
    )
    assert np.abs(jpeg.astype(int) - bgr).mean() < 12
    near, far = np.nanpercentile(result.metric, (2, 98))
    light = bgr.sum(axis=-1)[~unknown]
    depth = result.metric[~unknown]
    assert light[depth < near].mean() > light[depth > far].mean()


def test_alignment_reports_the_fit_and_its_points(served):
    messages, result = served
    (status,) = messages['alignment'].status
    assert isinstance(messages['alignment'], DiagnosticArray)
    assert status.name == '/robot/marigold_depth: alignment'
    values = {pair.key: pair.value for pair in status.values}
    assert values['state'] == 'fitted'
    assert float(values['scale']) == pytest.approx(result.alignment.scale, rel=1e-5)
    assert float(values['shift']) == pytest.approx(result.alignment.shift, rel=1e-5)
    assert int(values['inliers']) == result.alignment.n_inliers
    points = fields_of(messages['alignment/points'])
    x, y, z, inlier = (points[name].ravel() for name in ('x', 'y', 'z', 'inlier'))
    assert len(x) == len(result.sparse)
    K = result.camera.K
    np.testing.assert_allclose(x * K[0, 0] / z + K[0, 2], result.sparse.u, atol=1e-2)
    np.testing.assert_allclose(y * K[1, 1] / z + K[1, 2], result.sparse.v, atol=1e-2)
    np.testing.assert_array_equal(inlier > 0, result.alignment.inlier)


def test_relative_depth_has_a_camera_and_is_not_called_depth(served):
    messages, result = served
    relative = pixels(messages['relative/image'], '<f4')
    assert relative.min() >= 0
    assert relative.max() <= 1
    np.testing.assert_allclose(
        np.array(messages['relative/camera_info'].k).reshape(3, 3), result.camera.K
    )


def topics(running):
    """Topics of the node's outputs, without those of every lifecycle node."""
    found = running.node.get_publisher_names_and_types_by_node('marigold_depth', '/')
    others = ('/diagnostics', '/parameter_events', '/rosout', '/marigold_depth/transition_event')
    return {topic for topic, _ in found} - set(others)


def test_outputs_are_below_the_node(bench):
    assert topics(bench()) == OWN


def test_a_remapped_image_takes_camera_info_and_compressed_form_along(bench):
    rules = {
        'depth/image_rect': '/front/depth/image',
        'depth/color': 'colours',
        'uncertainty/image': '/front/sigma/image',
    }
    remap = [word for name, to in rules.items() for word in ('-r', f'~/{name}:={to}')]
    moved = {topic for topic in OWN if '/depth/' in topic or '/uncertainty/' in topic}
    assert topics(bench(remap=remap)) == (OWN - moved) | {
        '/front/depth/image',
        '/front/depth/camera_info',
        '/front/depth/image/compressedDepth',
        '/colours',
        '/colours/compressed',
        '/front/sigma/image',
        '/front/sigma/camera_info',
    }


def test_no_camera_info_goes_to_where_the_node_reads_one(bench):
    # Beside the raw image, as image_proc publishes its own: the node would hear itself, and take
    # the next images for rectified ones.
    parameters = {'sparse_source': 'pointcloud, depth_image'}
    rules = {
        '~/rgb/image_rect': '/camera/image_rect',
        '~/depth/image_rect': '/depth_camera/image_dense',
        'sparse_depth': '/depth_camera/image',
    }
    remap = [word for rule in rules.items() for word in ('-r', ':='.join(rule))]
    running = bench(parameters, connect=False, remap=remap)
    found = topics(running)
    assert {'/camera/image_rect', '/depth_camera/image_dense'} <= found
    assert {'/marigold_depth/rgb/camera_info', '/marigold_depth/depth/camera_info'} <= found
    assert not {'/camera/camera_info', '/depth_camera/camera_info'} & found


def test_what_is_remapped_itself_stays_there(bench):
    remap = ['-r', '~/depth/image_rect:=/front/depth', '-r', '~/depth/camera_info:=/front/k']
    assert {'/front/k', '/front/depth/compressedDepth'} <= topics(bench(remap=remap))


def test_qos_overrides_of_a_moved_topic_win(bench):
    moved = '/front/camera_info'
    running = bench(
        {f'qos_overrides.{moved}.publisher.reliability': 'best_effort'},
        remap=['-r', '~/depth/image_rect:=/front/depth'],
    )
    (info,) = running.node.get_publishers_info_by_topic(moved)
    assert info.qos_profile.reliability.name == 'BEST_EFFORT'


def test_clouds_come_at_their_rate_though_images_come_a_bit_early(running, monkeypatch):
    assert running.configure(points__max_rate=5.0)
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr('marigold_ros.node.interface.publishers.time', clock)
    for index in range(11):  # ten images a second, for one
        now = 1000.0 + 0.1 * index - 1e-4 * (index % 3)
        running.send(index * 100_000_000)
        running.wait_received('depth/image_rect', index + 1)
        running.wait_idle()
    assert len(running.wait_received('points', 5)) <= 6


def test_colours_are_those_of_reports():
    depth = np.geomspace(0.1, 500.0, 12, dtype=np.float32).reshape(3, 4)  # and beyond the scale
    depth[1, 1], depth[2, 0] = np.nan, np.inf
    reported = colourise_depth(depth, 0.5, 80.0)[..., ::-1].astype(int)
    np.testing.assert_allclose(colour_depth(depth, 0.5, 80.0), reported, atol=4)  # a shade of 256
