# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A planted metric scale is found, stored and applied; one that does not hold is refused."""

from __future__ import annotations

from dataclasses import replace
import json
import math
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.errors import CheckpointError
from marigold_ros.frame import Camera, Frame, Prediction, SparseDepth, UNBOUNDED
from marigold_ros.geometry.camera.rectification import focal_share
from marigold_ros.models import EMBEDDED, load_model
from marigold_ros.models.metric_scale import (
    FILE,
    MetricScale,
    read_metric_scale,
    write_metric_scale,
)
from marigold_ros.pipeline import FramePipeline
from marigold_ros.spaces import from_metres
from marigold_training.adapt.judge import MEAN_MAP
from marigold_training.adapt.metric import block_ratios, fit_scale, judge_metric, JudgedBlock
import numpy as np
import pytest

CONFIG = AlignmentConfig()
CAMERA = Camera(np.array([[60.0, 0, 48], [0, 60.0, 32], [0, 0, 1]]), 96, 64)
ENDS = {'depth': (1.0, 60.0), 'log': (0.0, 4.0), 'disparity': (0.02, 0.5)}


def images(space: str, count: int = 6, factor: float = 1.0, seed: int = 0):
    """Return maps at points and their depth: the planted scale, with a tenth of outliers."""
    rng = np.random.default_rng(seed)
    low, high = ENDS[space]
    for _ in range(count):
        relative = rng.uniform(0.05, 0.95, 400)
        value = low + (high - low) * relative
        z = factor * {'depth': value, 'log': np.exp(value), 'disparity': 1 / value}[space]
        z = z * np.exp(rng.normal(0, 0.02, 400))
        z[:40] *= 3.0
        yield relative, z


@pytest.mark.parametrize('space', ENDS)
def test_a_planted_scale_is_found_among_outliers(space):
    found = fit_scale(list(images(space)), space, 1.0, CONFIG)
    relative = np.linspace(0.05, 0.95, 50)
    low, high = ENDS[space]
    metres = found.metres(relative)
    expected = low + (high - low) * relative
    np.testing.assert_allclose(from_metres(metres, space), expected, rtol=0.08, atol=0.01)


@given(st.floats(0.5, 2.0))
def test_the_ratio_of_a_block_is_the_planted_one(factor):
    scale = MetricScale('log', 4.0, 0.0, 1.0, 0.1, 80.0)
    blocks = {'train': images('log'), 'judge': images('log', factor=factor, seed=1)}
    expected = {'train': 1.0, 'judge': factor}
    assert block_ratios(scale, blocks) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize('space', ENDS)
def test_spread_is_carried_over_to_metres(space):
    low, high = ENDS[space]
    scale = MetricScale(space, high - low, low, 1.0, 0.1, 80.0)
    relative = np.full((2, 2), 0.5, np.float32)
    given = Prediction(relative, np.full((2, 2), 0.01, np.float32), space, (0.1, 0.9))
    found = scale.apply(given)
    step = scale.metres(relative + 0.005) - scale.metres(relative - 0.005)
    assert found.space == 'metric'
    assert found.censored == UNBOUNDED  # a bound of the map is none of metres
    assert found.relative.dtype == found.spread.dtype == np.float32
    np.testing.assert_allclose(found.spread, np.abs(step), rtol=0.02)
    assert scale.apply(found) is found


@pytest.mark.parametrize('space', ENDS)
def test_metres_are_between_a_millimetre_and_the_limit(space):
    scale = MetricScale(space, 1.0, 0.0, 1.0, 0.1, 80.0)
    ends = sorted(scale.metres(np.array([-1e6, 1e6])))
    np.testing.assert_allclose(ends, [1e-3, 80.0], rtol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """Folder of the embedded checkpoint, with a metric scale."""
    for path in (EMBEDDED / 'tiny').iterdir():
        (tmp_path / path.name).symlink_to(path)
    scale = MetricScale('log', 3.0, 1.0, focal_share(CAMERA), 0.12, 80.0)
    write_metric_scale(tmp_path, scale)
    return tmp_path


def test_a_checkpoint_with_a_scale_is_metric_without_lidar(folder):
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    model, relative = load_model(str(folder), 'cpu'), load_model('tiny', 'cpu').predict(rgb)
    assert model.space == model.description['space'] == 'metric'
    model.notes.append('of the relative model')
    *_, noted, of_scale = model.description['notes']
    assert noted == 'of the relative model'
    assert '12.0%' in of_scale
    assert model.description['metric_scale']['abs_rel'] == 0.12
    expected = np.exp(3.0 * relative.relative + 1.0)
    metric = model.predict(rgb).relative
    np.testing.assert_allclose(metric, expected.clip(max=80.0), rtol=1e-4)
    longer = replace(CAMERA, K=np.diag([1.5, 1.5, 1.0]) @ CAMERA.K)
    for camera, factor in ((CAMERA, 1.0), (longer, 1.5)):
        result = FramePipeline(
            model, PipelineConfig(alignment=replace(CONFIG, method='global'))
        ).process(Frame(rgb, camera=camera))
        assert result.metric is not None
        np.testing.assert_allclose(result.metric, factor * metric, rtol=1e-4)
    # Without points no fusion network is asked.
    result = FramePipeline(model, fusion=SimpleNamespace()).process(Frame(rgb, camera=CAMERA))
    np.testing.assert_allclose(result.metric, metric, rtol=1e-4)
    np.testing.assert_allclose(result.sigma, 0.12 * metric, rtol=1e-4)
    streams = [model.new_stream()]
    assert np.array_equal(model.predict_together([rgb], streams)[0].relative, metric)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'scale': 0.0}, 'has scale 0.0'),
        ({'focal_share': -1.0}, 'has focal_share -1.0'),
        ({'max_depth': 0}, 'has max_depth 0'),
        ({'abs_rel': -0.1}, 'has abs_rel -0.1'),
        ({'space': 'metric'}, 'space'),
        ({'more': 1}, 'more'),
    ],
)
def test_a_damaged_scale_is_refused(folder, change, words):
    (folder / FILE).write_text(json.dumps({**json.loads((folder / FILE).read_text()), **change}))
    with pytest.raises(CheckpointError, match=words):
        read_metric_scale(folder)


def test_whole_numbers_of_any_size_are_metres(folder):
    scale = {**json.loads((folder / FILE).read_text()), 'max_depth': 10**20}
    (folder / FILE).write_text(json.dumps(scale))
    assert np.isfinite(read_metric_scale(folder).metres(np.linspace(0, 1, 3))).all()


def recording(factor: float):
    """Return blocks, a model that reads the planted depth from the image, and judged frames."""
    rng = np.random.default_rng(0)

    def one(k: float):
        relative = rng.uniform(0.05, 0.95, (64, 96)).astype(np.float32)
        u, v = rng.integers(0, 96, 500), rng.integers(0, 64, 500)
        z = (k * np.exp(4.0 * relative[v, u])).astype(np.float32)
        return relative, SparseDepth(u, v, z)

    class Pairs(list):
        def read_lidar(self, index):
            relative, points = self[index]
            return SimpleNamespace(rgb=relative, points=points, visible=np.ones(500, bool))

    model = SimpleNamespace(space='log', predict=lambda rgb: Prediction(rgb, None, 'log'))
    judged = []
    for number in range(6):
        relative, points = one(factor)
        frame = SimpleNamespace(
            camera=CAMERA, rgb=np.zeros((64, 96, 3), np.uint8), stamp_ns=number * 10**8
        )
        predictions = {'after': Prediction(relative, None, 'log')}
        judged.append(SimpleNamespace(frame=frame, lidar=points, predictions=predictions))
    return model, {'train': Pairs(one(1.0) for _ in range(4))}, judged


def test_a_scale_is_installed_where_blocks_agree_and_refused_where_not():
    mean_map = np.full((8, 12), 2.0, np.float32)
    for factor, installed in ((1.05, True), (1.3, False)):
        model, blocks, judged = recording(factor)
        found = judge_metric(model, blocks, JudgedBlock(judged, 0.5, mean_map), 'after', CONFIG)
        assert (found.scale is not None) == installed
        assert found.table.means()['without LiDAR']['abs_rel'] == pytest.approx(
            1 - 1 / factor, abs=0.01
        )
        if not installed:
            assert 'differ by 30%, more than 15%' in found.reasons[0]
        else:
            assert found.scale.abs_rel == pytest.approx(1 - 1 / factor, abs=0.01)
            assert 'true over predicted depth: train 1.00, judge 1.05' in found.reasons[0]
        flat = np.mean([np.abs(math.exp(2) / one.lidar.z - 1).mean() for one in judged])
        assert found.table.means()[MEAN_MAP]['abs_rel'] == pytest.approx(flat, rel=1e-5)
