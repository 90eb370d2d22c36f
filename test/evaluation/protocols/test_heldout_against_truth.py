# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Held-out LiDAR finds the errors that exact truth finds, on a synthetic drive with both."""

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import LidarConfig
from marigold_ros.frame import Prediction
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.synthetic.drive.drive import write_drive
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # eight images are scored


class Blurred:
    """Knows the truth, blurred by a share that grows and shrinks from frame to frame."""

    def __init__(self, truths):
        self.description = {'name': 'blurred', 'space': 'log'}
        self._truths, self._asked = truths, 0

    def predict(self, rgb, **options):
        truth = self._truths[self._asked % len(self._truths)]
        log = np.log(np.clip(np.nan_to_num(truth, nan=100.0, posinf=100.0), 0.5, 100.0))
        v, u = np.mgrid[: log.shape[0], : log.shape[1]]
        size = 0.1 + 0.05 * np.sin(self._asked)
        self._asked += 1
        log = log + size * np.sin(u / 9.0 + self._asked) * np.cos(v / 7.0)
        low, high = np.log(0.3), np.log(180.0)
        return Prediction(((log - low) / (high - low)).astype(np.float32), None, 'log')


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp('drive') / 'drive'
    write_drive(path, frames=8, width=200, height=150, rate=4.0)
    with BagReader(path) as reader:
        stream = bag_frames(reader, reader.choose_topics(), LidarConfig())
        truths = [item.truth for item in stream]
    return evaluate_bag(path, Blurred(truths))


@pytest.mark.parametrize(
    ('name', 'share'),
    [
        ('abs_rel', 0.1),
        ('mae', 0.1),
        ('rmse', 0.1),
        ('log10', 0.1),
        ('delta1', 0.02),
        ('bias', 0.3),
    ],
)
def test_heldout_and_truth_at_its_pixels_agree(results, name, share):
    heldout = results['protocols']['heldout']
    exact = heldout['at_truth']
    assert heldout['macro']['abs_rel'] > 0.02  # the planted error
    assert exact['n_points'] == pytest.approx(heldout['n_points'], rel=0.02)
    assert heldout['macro'][name] == pytest.approx(exact['macro'][name], rel=share)
    # Eight frames of a drive are too few to tell how near the mean is.
    assert 'abs_rel' not in heldout['interval']
