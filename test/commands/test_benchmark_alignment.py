# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command benchmark alignment: tables, JSON, image, wrong input."""

import json

import cv2
from marigold_ros.__main__ import main
import numpy as np


def test_it_prints_both_tables_and_costs_and_draws_fields(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        v, u = np.mgrid[0:96, 0:128]
        depth = 1500 + 3000 * (v < 40) + 800 * (u > 70) + rng.integers(0, 20, (96, 128))
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / 'depth_mm.png'), depth.astype(np.uint16))
    call = ['benchmark', 'alignment', '--data', str(tmp_path), '--runs', '1']
    assert main([*call, '--out', str(tmp_path / 'out')]) == 0
    text = capsys.readouterr().out
    for word in ('500 random', '4 rows', 'barycentric', '5 nearest', 'near', '50 % wrong', 'ms'):
        assert word in text
    assert cv2.imread(str(tmp_path / 'out' / 'alignment.png')) is not None
    found = json.loads((tmp_path / 'out' / 'alignment.json').read_text())
    assert len(found['patterns']) == 8
    assert found['scenes'] == 2


def test_a_folder_without_depth_is_an_error_in_one_line(tmp_path, capsys):
    assert main(['benchmark', 'alignment', '--data', str(tmp_path)]) == 1
    assert 'depth_mm.png' in capsys.readouterr().err
