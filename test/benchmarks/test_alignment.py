# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The benchmark of alignment: tables, JSON, image, wrong input."""

import json
import re

from alignment import BENCHMARK
import cv2
import numpy as np
import pytest


@pytest.mark.slow  # every method in every case
def test_it_prints_both_tables_and_costs_and_draws_fields(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        v, u = np.mgrid[0:96, 0:128]
        depth = 1500 + 3000 * (v < 40) + 800 * (u > 70) + rng.integers(0, 20, (96, 128))
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / 'depth_mm.png'), depth.astype(np.uint16))
    call = ['--data', str(tmp_path), '--runs', '1']
    assert BENCHMARK.run([*call, '--out', str(tmp_path / 'out')]) == 0
    text = capsys.readouterr().out
    lines = [re.split(r'\s{2,}', line) for line in text.splitlines()]
    assert cv2.imread(str(tmp_path / 'out' / 'alignment.png')).std() > 10
    found = json.loads((tmp_path / 'out' / 'alignment.json').read_text())
    assert len(found['patterns']) == 8
    assert found['scenes'] == 2
    methods = next(cells for cells in lines if cells[0] == 'errors')[2:-4]
    assert {'disparity', '5 nearest', 'local'} <= set(methods)
    for case in (*found['patterns'], *found['draws']):
        row = next(cells for cells in lines if cells[:2] == [case['kind'], case['pattern']])
        shown = dict(zip(methods, row[2:], strict=False))
        for method in methods:
            error = case['abs_rel'].get(method)
            assert shown[method] == ('-' if error is None else f'{error:.4f}')
        assert row[-1] == str(case['refused'])
    for name, ms in found['cost_ms'].items():
        assert f'{name}: {ms:.2f} ms' in text


def test_a_folder_without_depth_is_an_error_in_one_line(tmp_path, capsys):
    assert BENCHMARK.run(['--data', str(tmp_path)]) == 1
    assert 'depth_mm.png' in capsys.readouterr().err
