# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What bags give by themselves adds up to what they give together."""

from dataclasses import replace

from marigold_ros.bags.frames import bag_frames
from marigold_ros.bags.reader import BagReader
from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.evaluation.scoring.merging import merged
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.frame import Prediction
from marigold_ros.pipeline import FramePipeline
import numpy as np
import pytest

CONFIG = PipelineConfig()


@pytest.fixture(scope='module')
def items(short_drive):
    with BagReader(short_drive) as reader:
        return list(bag_frames(reader, reader.choose_topics(), LidarConfig()))


def finish(frame, prediction):
    """Put a frame into metres that knows nothing of the last one."""
    return FramePipeline(None, CONFIG).finish(frame, prediction)


def scored(items):
    scorer = Scorer(CONFIG.alignment, finish)
    for item in items:
        height, width = item.frame.rgb.shape[:2]
        ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None]
        prediction = Prediction(np.repeat(ramp, width, axis=1))
        result = finish(item.frame, prediction)
        timings_ms = {'total': 1.0 + item.stamp_ns % 7}
        scorer.add(item, prediction, replace(result, timings_ms=timings_ms))
    return scorer


def assert_alike(mine, theirs, where=''):
    """Equal but for rounding, all the way down."""
    assert type(mine) is type(theirs), where
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), where
        for key, value in mine.items():
            assert_alike(value, theirs[key], f'{where}.{key}')
    elif isinstance(mine, (list, tuple)):
        assert len(mine) == len(theirs), where
        for number, pair in enumerate(zip(mine, theirs, strict=True)):
            assert_alike(*pair, f'{where}[{number}]')
    elif isinstance(mine, float):
        assert mine == pytest.approx(theirs, rel=1e-9, nan_ok=True), where
    else:
        assert mine == theirs, where


def without_neighbours(figures):
    """Leave out what a frame has from those before it, which another bag does not give."""
    names = ('mean_map', 'flicker', 'drift', 'temporal')
    return {
        name: without_neighbours(value) if isinstance(value, dict) else value
        for name, value in figures.items()
        if not any(part in name for part in names)
    }


@pytest.fixture(scope='module')
def whole(items):
    return scored(items)


@pytest.mark.parametrize('first', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_runs_add_up_to_one(items, whole, first):
    parts = scored(items[:first]), scored(items[first:])
    total = merged(merged(Scorer(CONFIG.alignment), parts[0]), parts[1])
    assert_alike(*(without_neighbours(run.results()) for run in (total, whole)))
    assert_alike(*([without_neighbours(row) for row in run.rows] for run in (total, whole)))
    assert total.line_sources == whole.line_sources
    assert total.n_metric == whole.n_metric
    assert (total.fit_every, total.held_out) == (8, 'rings')
    shown = [
        [(name, sample.index) for name, sample in run.report_frames] for run in (total, whole)
    ]
    assert shown[0] == shown[1]


def test_counts_sums_and_lists_grow_and_settings_stay():
    mine = {'n': 2, 'sum': np.array([1.0, 2.0]), 'list': [1], 'name': 'a', 'deep': {'x': 1}}
    other = {'n': 3, 'sum': np.array([10.0, 20.0]), 'list': [2], 'name': 'a', 'new': 7}
    total = merged(mine, other)
    assert total.pop('sum').tolist() == [11.0, 22.0]
    assert total == {'n': 5, 'list': [1, 2], 'name': 'a', 'deep': {'x': 1}, 'new': 7}


def test_values_of_two_kinds_are_no_sum():
    with pytest.raises(TypeError, match='int and str'):
        merged(1, 'one')
