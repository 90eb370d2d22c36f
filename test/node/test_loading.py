# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What is loaded with the model, so that the first images need not wait for it."""

from dataclasses import replace
import logging

from marigold_ros import pipeline
from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.evaluation.results.results import ran_by
from marigold_ros.frame import Frame, Prediction, SparseDepth, SparseInput
from marigold_ros.geometry.sky import sky_mask
from marigold_ros.models.fusion import load as fusion_load
from marigold_ros.models.runtime.disk_cache import cache_folder, remember_size
from marigold_ros.node import loading
from marigold_ros.node.loading import Loader
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import build
import numpy as np
import pytest

SHAPE = (240, 320)


class Plane:
    """Answers with a plane, and in one step; ``predict_guided`` says that points may guide it."""

    predict_guided = None

    def check_options(self, options):
        if options.denoising_steps not in (None, 1):
            raise ConfigurationError('planes take one step')

    def predict(self, rgb, **_settings):
        rows = np.linspace(1.0, 0.0, rgb.shape[0], dtype=np.float32)[:, None]
        return Prediction(np.repeat(rows, rgb.shape[1], axis=1))


class Grids:
    """A fusion network that notes the sizes of its grids."""

    def __init__(self):
        self.sizes = set()

    def __call__(self, channels):
        self.sizes.add(channels.shape)
        return np.zeros((3, *channels.shape[1:]), np.float32)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [({'profile': 'quality'}, 'one step'), ({'guidance': 'points'}, 'Plane has none')],
)
def test_settings_that_the_model_refuses_are_refused_with_it(settings, words, monkeypatch):
    monkeypatch.delattr(Plane, 'predict_guided')
    loader = Loader(lambda config: Plane(), logging.getLogger('test'))
    loader.load(NodeConfig())
    with pytest.raises(ConfigurationError, match=words):
        loader.load(build(NodeConfig, settings))


def test_the_description_of_a_model_is_text_by_dotted_names():
    model, loader = Plane(), Loader(lambda config: model, logging.getLogger('test'))
    model.description = {'name': 'plane', 'runtime': {'backend': 'openvino', 'warm_up': ''}}
    loader.load(NodeConfig())
    named = {'runtime.backend': 'openvino', 'runtime.warm_up': ''}
    assert loader.description == {'name': 'plane', 'device': '', **named}
    assert ran_by(loader.description) == {'backend': 'openvino'}


@pytest.mark.parametrize(
    ('backend', 'parameters', 'words'),
    [
        ('torch', 1, 'by torch in float32; OpenVINO would be faster: pip install openvino'),
        ('openvino', 1, 'by openvino in float32, and by torch while that compiles'),
        ('openvino', 950_000_000, 'images of a new size wait until it has compiled'),
    ],
)
def test_the_log_says_how_a_model_runs_and_what_is_faster(
    backend, parameters, words, monkeypatch, caplog
):
    monkeypatch.setattr(loading, 'find_spec', lambda _name: None)  # OpenVINO is not installed
    model = Plane()
    how = {'device': 'cpu', 'dtype': 'float32', 'runtime': {'backend': backend}}
    model.description = {**how, 'parameters': parameters}
    with caplog.at_level(logging.INFO):
        Loader(lambda config: model, logging.getLogger('test')).load(NodeConfig())
    assert words in caplog.text


@pytest.fixture
def network(monkeypatch):
    network = Grids()
    monkeypatch.setattr(fusion_load, 'fusion_of', lambda model, name: network)
    return network


def loaded(folder, **settings):
    """Load a plane with a node's settings, after a run with images of ``SHAPE``."""
    config = build(NodeConfig, {'runtime.cache_dir': str(folder), **settings})
    remember_size(cache_folder(str(folder)), config.model.model, SHAPE)
    Loader(lambda config: Plane(), logging.getLogger('test')).load(config)
    return config


@pytest.mark.parametrize('guidance', ['none', 'points'])
@pytest.mark.parametrize('count', [150, 20_000])
def test_fusion_is_ready_for_images_as_in_the_last_run(tmp_path, network, count, guidance):
    config = loaded(tmp_path, guidance=guidance)
    ready, network.sizes = network.sizes, set()
    rng = np.random.default_rng(0)
    v, u = np.divmod(rng.choice(SHAPE[0] * SHAPE[1], count, replace=False), SHAPE[1])
    points = SparseDepth(u, v, (9.0 - v / 60.0).astype(np.float32))
    frame = Frame(
        rgb=rng.integers(0, 256, (*SHAPE, 3), np.uint8),
        inputs=(SparseInput('pointcloud', sparse=points),),
    )
    settings = replace(config.pipeline, guidance='none')  # which a plane cannot follow
    assert FramePipeline(Plane(), settings, network).process(frame).metric is not None
    assert network.sizes
    assert network.sizes <= ready


def test_without_points_nothing_is_fused_beforehand(tmp_path, network):
    loaded(tmp_path, sparse_source='none')
    assert not network.sizes


def test_the_sky_is_ready_too(tmp_path, network, monkeypatch):
    found = []

    def noted(*arguments):
        found.append(sky_mask(*arguments))
        return found[-1]

    monkeypatch.setattr(pipeline, 'sky_mask', noted)
    loaded(tmp_path)
    assert all(sky.any() for sky in found)
    assert found
