# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command compare on what evaluate wrote."""

import json
import re
import shutil

from marigold_ros.__main__ import main
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest


@pytest.fixture(scope='module')
def folders(short_drive, ramp, tmp_path_factory):
    """Results: the global fit, the local one, and the local one to other lines."""
    base = tmp_path_factory.mktemp('compare')
    for name, method, every in (('a', 'global', 8), ('b', 'local', 8), ('c', 'local', 4)):
        config = PipelineConfig(alignment=AlignmentConfig(method=method))
        options = ReplayOptions(config, fit_every=every)
        evaluate_bag([short_drive] * 3, ramp, options, base / name)
    return base


def test_a_better_fit_is_shown_as_better(folders, capsys):
    assert main(['compare', str(folders / 'a'), str(folders / 'b')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'A: a (checkpoint ramp)'
    assert lines[2] == '9 frames paired; only in A: 0, only in B: 0'
    abs_rel = next(line for line in lines if line.startswith('  abs_rel'))
    assert 'B is better by' in abs_rel


def test_the_means_are_those_of_results_json(folders, capsys):
    assert main(['compare', str(folders / 'a'), str(folders / 'b'), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['frames'] == {'paired': 9, 'only_a': 0, 'only_b': 0}
    for side in 'ab':
        results = json.loads((folders / side / 'results.json').read_text())
        for protocol, scores in found['protocols'].items():
            for metric, values in scores['metrics'].items():
                macro = results['protocols'][protocol]['macro'][metric]
                assert values[side] == pytest.approx(macro, rel=1e-5, abs=1e-6)


def test_the_page_shows_curves_and_verdicts_and_names_as_text(folders, capsys, tmp_path):
    evil = tmp_path / '<img src=x onerror=alert(1)>'
    shutil.copytree(folders / 'b', evil)
    page = tmp_path / 'page.html'
    assert main(['compare', str(folders / 'a'), str(evil), '--page', str(page)]) == 0
    html = page.read_text()
    assert '<img' not in html
    assert '&lt;img src=x onerror=alert(1)&gt; against a</h1>' in html
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', html, re.S)[1])
    curves = data['charts']['heldout']['curves']
    assert [len(curve['values']) for curve in curves] == [9, 9]
    assert np.mean(curves[0]['values']) > np.mean(curves[1]['values'])
    assert 'B is better by' in html
    capsys.readouterr()
    nowhere = str(tmp_path / 'none' / 'page.html')
    assert main(['compare', str(folders / 'a'), str(evil), '--page', nowhere]) == 1
    assert 'cannot be written' in capsys.readouterr().err


def test_results_that_cannot_be_compared_are_one_line(folders, capsys, tmp_path):
    assert main(['compare', str(folders / 'b'), str(folders / 'c')]) == 1
    assert main(['compare', str(folders / 'b'), str(tmp_path)]) == 1
    (tmp_path / 'results.json').write_text('{"schema": 1}')
    (tmp_path / 'per_frame.csv').write_text('index\n')
    assert main(['compare', str(tmp_path), str(folders / 'b')]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert 'fit_every is 8 in A and 4 in B' in lines[0]
    assert 'give a folder that evaluate wrote' in lines[1]
    assert 'damaged or of another program' in lines[2]
