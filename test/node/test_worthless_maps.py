# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Images without content: the model's map is worthless, and the points alone give the depth."""

from marigold_ros.frame import Prediction
from marigold_ros.message_codec import encode_image, header_ns, to_depth
from marigold_ros.node.diagnostic_keys import values_of
from marigold_ros.node.loading import load
from marigold_ros.node.ros_helpers import image_message
import numpy as np
import pytest

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
FRAMES, POINTS = 40, 1200
FIRST, PERIOD = 1_000_000_000, 100_000_000
DEPTH, ALIGNMENT = 'depth/image_rect', 'alignment'


def true_depth(v):
    """Depth of a slanted wall in metres, 4 m in the last row and 6 m in the first."""
    return 6.0 - 2.0 * v / (HEIGHT - 1)


def send(running, rng, stamp):
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
        send(running, rng, FIRST + k * PERIOD)
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
    assert stamps == [FIRST + k * PERIOD for k in range(FRAMES)]
