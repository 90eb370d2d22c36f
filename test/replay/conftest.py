# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What tests of replays share."""

import csv
from itertools import cycle
import json

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import LidarConfig
from marigold_ros.frame import Prediction, UNBOUNDED
import numpy as np
import pytest


class Truth:
    """A model whose log depth is the truth, image by image, again and again."""

    def __init__(self, truths):
        self.description = {'name': 'truth', 'path': '/nowhere', 'space': 'log'}
        self._answers = cycle([np.log(np.minimum(truth, 80.0)) / 4.4 for truth in truths])

    def predict(self, rgb, **options):
        return Prediction(next(self._answers).astype(np.float32), None, 'log', UNBOUNDED)


@pytest.fixture(scope='session')
def truth_of():
    """Return a function that makes a model of the truth of a bag."""

    def model(bag):
        with BagReader(bag) as reader:
            items = bag_frames(reader, reader.choose_topics(), LidarConfig())
            return Truth([item.truth for item in items])

    return model


@pytest.fixture(scope='session')
def rows_of():
    """Return a function that reads per_frame.csv in a folder."""
    return _rows


def _rows(folder):
    with (folder / 'per_frame.csv').open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture
def figures():
    """Return a function that reads the results in a folder, as far as they can be repeated."""
    return _figures


def _figures(folder):
    """All that does not depend on the hour."""
    results = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
    for name in ('rate', 'latency_ms', 'fps', 'memory'):
        results.pop(name)
    for other in results.get('models', {}).values():
        other.pop('latency_ms')
    if results['verdict'].pop('speed')['hertz'] is not None:
        results['verdict']['text'].pop('speed')
    for name in ('created', 'load'):
        results['provenance'].pop(name)
    return results, [
        {key: value for key, value in row.items() if not key.endswith('total_ms')}
        for row in _rows(folder)
    ]
