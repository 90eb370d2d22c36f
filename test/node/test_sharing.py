# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""One model for several cameras: who waits is answered together, and keeps its own state."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
import gc
import logging
import threading
import weakref

from marigold_ros.config import ModelConfig, NodeConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.frame import Prediction
from marigold_ros.node import loading
from marigold_ros.node.loading import Loader, ModelPool, SharedModel
from marigold_ros.settings import build
import numpy as np
import pytest


class Counter:
    """A camera's state: how many images it has seen."""

    def __init__(self):
        self.seen = 0

    def reset(self):
        self.seen = 0


FAILING = 13  # seed


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


def test_a_reset_of_one_camera_leaves_the_others_alone(networks, monkeypatch):
    monkeypatch.setattr(loading, 'WINDOW', 0.0)
    shared = SharedModel(networks)
    front, left = shared.for_camera(), shared.for_camera()
    for camera in (front, left):
        camera.predict(image(0))
    front.reset()
    assert [int(c.predict(image(0)).relative[0, 0]) for c in (front, left)] == [100, 200]
    assert front.space == 'depth'


def test_a_model_compiled_for_one_image_is_not_batched(networks, patient):
    networks.takes_any_batch = False
    shared = SharedModel(networks)
    cameras = [shared.for_camera(), shared.for_camera()]
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(c.predict, image(i)) for i, c in enumerate(cameras)]
        assert values(answers) == [100, 101]
    assert sorted(networks.calls) == [[0], [1]]


def test_equal_settings_share_a_model_until_the_last_camera():
    loaded = []

    def load(config):
        model = Networks()
        loaded.append(weakref.ref(model))
        return model

    pool = ModelPool(load)
    front, left = pool.load('front', NodeConfig()), pool.load('left', NodeConfig())
    other = pool.load('rear', NodeConfig(model=ModelConfig(model='another')))
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
