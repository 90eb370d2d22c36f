# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Loading is measured for every layout, with and without latents."""

from __future__ import annotations

import time

from marigold_ros.errors import ConfigurationError
import measure_loading as loading
from measure_loading import Loading, loading_table, measure_layouts, measure_recipe
import pytest
import yaml


def test_waiting_is_the_share_of_data_that_workers_miss():
    slow = Loading('x', 0.05)  # 20 images/s a worker
    assert slow.waiting(2, 80.0) == pytest.approx(0.5)
    assert slow.waiting(4, 80.0) == slow.waiting(5, 80.0) == 0.0


def test_every_layout_is_measured_and_latents_come_faster(monkeypatch):
    # Threads that other tests left count in the time of the process.
    monkeypatch.setattr(time, 'process_time', time.thread_time)
    monkeypatch.setattr(loading, 'SIZE', (96, 128))
    monkeypatch.setattr(loading, 'MADE', 2)
    rows = measure_layouts(16)
    assert len(rows) == 6
    for images, latents in zip(rows[::2], rows[1::2], strict=True):
        assert latents.name == f'{images.name}, latents'
        assert 0.0 < latents.seconds < images.seconds
    table = loading_table(rows, workers=2, rate=59.0)
    assert table.count('\n') == 7
    assert 'waiting at 59/s, 2 workers' in table


def test_the_sources_of_a_recipe_are_measured(toy, tmp_path):
    path = tmp_path / 'toy.yaml'
    path.write_text(yaml.safe_dump({**toy, 'stages': [], 'augment': {'colour': 1.0}}))
    rows = measure_recipe(path, tmp_path / 'data', 4)
    assert [row.name for row in rows] == [
        'synthetic mixed 32x48, 32x48',
        'synthetic mixed 32x48, 32x48, latents',
    ]


def test_a_recipe_without_images_of_depth_is_named(tmp_path):
    path = tmp_path / 'fusion.yaml'
    path.write_text('{name: a, network: fusion, sources: [], stages: []}')
    with pytest.raises(ConfigurationError, match=r'fusion\.yaml is of the fusion network'):
        measure_recipe(path, tmp_path, 1)


@pytest.mark.parametrize('option', ['--rate=0', '--workers=-1', '--pictures=1'])
def test_numbers_that_measure_nothing_are_refused(monkeypatch, capsys, option):
    monkeypatch.setattr('sys.argv', ['measure_loading.py', option])
    with pytest.raises(SystemExit, match='2'):
        loading.main()
    value = option.partition('=')[2]
    assert f"'{value}' is not a" in capsys.readouterr().err
