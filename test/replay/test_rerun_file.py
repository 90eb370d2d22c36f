# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Recordings for the viewer of rerun, read back by its SDK."""

import sys

from marigold_ros.__main__ import main
from marigold_ros.config import PointsConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.frame import Alignment, Camera, FrameResult
from marigold_ros.replay.rerun_file import MOST_POINTS, RerunFile
import numpy as np
import pytest

chunk = pytest.importorskip('rerun.chunk', reason='needs the extra rerun')

K = np.array([[90.0, 0, 60], [0, 90, 40], [0, 0, 1]])
STAMP_NS = 1_700_000_000_123_456_789


def result_of(metric, sigma, state='fitted', size=(80, 120)):
    rng = np.random.default_rng(0)
    return FrameResult(
        relative=rng.random(size, np.float32),
        space='log',
        alignment=Alignment(
            *(state, None, 2.0, 0.5, 'log'),
            n_points=100,
            n_inliers=90,
            rms=np.nan,
            age_ns=1_500_000_000,
            shares={'map': 0.25},
        ),
        metric=metric,
        sigma=sigma,
        spread=None,
        camera=Camera(K, size[1], size[0]),
        rgb=rng.integers(0, 256, (*size, 3), np.uint8),
        sparse=None,
        stamp_ns=STAMP_NS,
        timings_ms={},
    )


def read_back(path):
    """Return the last value of each column by entity and component, and the entities."""
    values, entities = {}, set()
    for part in chunk.RrdReader(path).stream():
        entities.add(part.entity_path)
        batch = part.to_record_batch()
        for name in batch.schema.names:
            column = batch.column(name)
            # Python's datetime has no nanoseconds.
            column = column.cast('int64') if str(column.type).startswith('timestamp') else column
            values[part.entity_path, name] = column[-1].as_py()
    return values, entities


def value(values, entity, component):
    (found,) = (v for (e, name), v in values.items() if e == entity and component in name)
    return found


def test_depth_sigma_cloud_and_numbers_are_read_back(tmp_path):
    metric = np.full((80, 120), 4.0, np.float32)
    metric[:40] = np.nan
    result = result_of(metric, metric * np.float32(0.1))
    with RerunFile(tmp_path / 'a.rrd', PointsConfig(flying_angle=90.0)) as file:
        file.add(result, {'heldout_abs_rel': 0.25, 'total_ms': 12.0, 'state': 'fitted'})
    values, entities = read_back(tmp_path / 'a.rrd')
    shown = {'/camera', '/camera/image', '/depth', '/sigma', '/relative', '/cloud'}
    assert shown <= entities
    depth = np.frombuffer(bytes(value(values, '/depth', 'buffer')[0]), np.float16)
    np.testing.assert_array_equal(depth.reshape(80, 120), np.nan_to_num(metric))
    points = np.array(value(values, '/cloud', 'positions'))
    assert points.shape == (40 * 120, 3)
    np.testing.assert_allclose(points[:, 2], 4.0)
    assert value(values, '/error/heldout_abs_rel', 'scalars') == [0.25]
    assert value(values, '/time/total_ms', 'scalars') == [12.0]
    fit = {'scale': 2.0, 'shift': 0.5, 'points': 100, 'inliers': 90, 'map_share': 0.25}
    for name, number in {**fit, 'age_s': 1.5}.items():
        assert value(values, f'/fit/{name}', 'scalars') == [number]
    assert value(values, '/sigma_share/median', 'scalars') == [pytest.approx(0.1)]
    assert '/fit/rms' not in entities  # not finite
    assert value(values, '/depth', 'stamp') == STAMP_NS


def test_a_frame_without_metres_clears_the_last_depth(tmp_path):
    metric = np.full((80, 120), 4.0, np.float32)
    with RerunFile(tmp_path / 'a.rrd', PointsConfig()) as file:
        file.add(result_of(metric, metric), {})
        file.add(result_of(None, None, 'none'), {})
    values, _ = read_back(tmp_path / 'a.rrd')
    for entity in ('/depth', '/sigma', '/cloud'):
        assert value(values, entity, 'is_recursive') == [False]


def test_a_large_cloud_is_thinned(tmp_path):
    size = (480, 640)
    metric = np.full(size, 4.0, np.float32)
    with RerunFile(tmp_path / 'a.rrd', PointsConfig(flying_angle=90.0)) as file:
        file.add(result_of(metric, metric, size=size), {})
    values, _ = read_back(tmp_path / 'a.rrd')
    count = len(value(values, '/cloud', 'positions'))
    assert 0.5 * MOST_POINTS < count <= MOST_POINTS


def test_evaluate_writes_its_frames(short_drive, tmp_path):
    path, out = tmp_path / 'drive.rrd', tmp_path / 'out'
    assert main(['evaluate', str(short_drive), '--out', str(out), '--rerun', str(path)]) == 0
    values, entities = read_back(path)
    assert {'/camera/image', '/depth', '/sigma', '/cloud', '/error/heldout_abs_rel'} <= entities
    assert len(value(values, '/cloud', 'positions')) > 1000


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    for path in (tmp_path, tmp_path / 'file' / 'a.rrd'):
        with (
            pytest.raises(ConfigurationError, match='cannot be written.*choose another'),
            RerunFile(path, PointsConfig()),
        ):
            pass


def test_without_the_sdk_the_command_is_named(short_drive, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    out = tmp_path / 'out'
    for command in (['evaluate', str(short_drive), '--rerun', 'a.rrd'], ['demo', '--rerun']):
        assert main([*command, '--out', str(out)]) == 1
        assert 'pip install rerun-sdk' in capsys.readouterr().err
    assert not out.exists()
