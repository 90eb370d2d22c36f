# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The command compare on what evaluate wrote."""

import csv
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys

from marigold_ros.__main__ import main
from marigold_ros.commands.compare import text_of
from marigold_ros.config import AlignmentConfig, PipelineConfig
from marigold_ros.replay.evaluate_bags import evaluate_bag
from marigold_ros.replay.replay_plan import ReplayOptions
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def folders(short_drive, ramp, tmp_path_factory):
    """Results: the global fit, the local one, and the local one to other lines."""
    base = tmp_path_factory.mktemp('compare')
    for name, method, every in (('a', 'global', 8), ('b', 'local', 8), ('c', 'local', 4)):
        config = PipelineConfig(alignment=AlignmentConfig(method=method))
        options = ReplayOptions(config, fit_every=every)
        evaluate_bag(short_drive, ramp, options, base / name)
    return base


def compare(folders, *runs_and_options):
    given = [str(folders / x) if (folders / x).is_dir() else x for x in runs_and_options]
    return main(['compare', *given])


def test_settings_that_differ_come_first_and_a_better_fit_is_best(folders, capsys):
    assert compare(folders, 'a', 'b') == 0
    out = capsys.readouterr().out
    lines = [' '.join(line.split()) for line in out.splitlines()]
    assert lines[:2] == ['differs in a b', 'alignment.method global local']
    assert '3 frames of drive in all runs' in lines
    assert 'not counted' not in out  # as each run has all scores
    heads = lines.index('heldout, 3 frames') + 1
    assert lines[heads].startswith('rank and name AbsRel RMSE, m MAE, m median error, m')
    boards = lines[heads + 1 :]
    assert next(line for line in boards if ' b 0.' in line).endswith('best')
    # Three frames have no interval.
    row = next(line for line in boards if ' a 0.' in line)
    assert re.search(r' a 0\.\d+= .* too few independent frames', row)


@pytest.mark.parametrize(
    ('names', 'value'),
    [
        (('provenance', 'checkpoint'), 'x'),
        (('provenance', 'options', 'alignment.max_depth'), {}),
        (('provenance', 'scoring', 'oracle'), -1),
        (('provenance', 'bags', 0, 'sha256'), 10**300),
        (('frames',), []),
    ],
)
def test_results_of_a_stranger_end_in_one_sentence(folders, tmp_path, capsys, names, value):
    results = json.loads((folders / 'a' / 'results.json').read_text())
    *inner, last = names
    where = results
    for name in inner:
        where = where[name]
    where[last] = value
    shutil.copytree(folders / 'a', tmp_path / 'stranger')
    (tmp_path / 'stranger' / 'results.json').write_text(json.dumps(results))
    code = compare(folders, 'a', str(tmp_path / 'stranger'))
    said = capsys.readouterr().err
    assert (code, said.startswith('error: '), said.count('\n')) in {(1, True, 1), (0, False, 0)}


def test_the_means_are_those_of_results_json(folders, capsys):
    assert compare(folders, 'a', 'b', '--json') == 0
    found = json.loads(capsys.readouterr().out)
    assert found['frames'] == 3
    for side in 'ab':
        results = json.loads((folders / side / 'results.json').read_text())
        for protocol, board in found['protocols'].items():
            rows = {(row['kind'], row['name']): row['metrics'] for row in board['rows']}
            for metric, values in rows['run', side].items():
                if metric == 'total_ms':
                    continue
                macro = results['protocols'][protocol]['macro'][metric]
                assert values['mean'] == pytest.approx(macro, rel=1e-5, abs=1e-6)
            for name, macro in results['baselines'].items():
                if protocol == 'heldout' and name != 'global':
                    for metric, values in rows['baseline', name].items():
                        assert values['mean'] == pytest.approx(macro[metric], rel=1e-5, abs=1e-6)


def test_runs_of_another_split_share_what_was_scored_alike(folders, capsys):
    runs = 'a', 'b', str(folders / 'c' / 'results.json')
    assert compare(folders, *runs) == compare(folders, *runs, '--json') == 0
    text, _, data = capsys.readouterr().out.partition('{')
    found = json.loads(f'{{{data}')
    assert found['protocols'].keys() == {'truth', 'oracle'}
    reason = 'heldout is left out: fit_every is 8 in a, 8 in b, 4 in c.'
    assert reason in found['left_out']
    assert reason in text.splitlines()
    board = found['protocols']['truth']
    board['bags'] = [{**board, 'bag': 'hall'}]
    shown = text_of(found).splitlines()
    first = shown.index('truth, 3 frames of hall')
    size = 1 + len(board['rows'])  # with the heads
    assert shown[first + 1 :][:size] == shown[first - size : first]


def test_the_page_shows_a_leaderboard_and_curves_and_names_as_text(folders, capsys, tmp_path):
    evil = tmp_path / '<img src=x onerror=alert(1)>'
    shutil.copytree(folders / 'b', evil)
    page = tmp_path / 'page.html'
    assert compare(folders, 'a', str(evil), '--page', str(page)) == 0
    html = page.read_text()
    assert '<img src=x' not in html
    assert '<figcaption>a, AbsRel 0.' in html
    assert '. &lt;img src=x onerror=alert(1)&gt;</b><span>best</span>' in html
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', html, re.S)[1])
    curves = data['charts']['heldout']['curves']
    assert [len(curve['values']) for curve in curves] == [3, 3]
    assert np.mean(curves[0]['values']) > np.mean(curves[1]['values'])


def test_a_page_that_a_full_disk_cuts_off_leaves_the_one_before(
    folders, tmp_path, capsys, full_disk
):
    (tmp_path / 'page.html').write_text('before')
    with full_disk(8192):
        assert compare(folders, 'a', 'b', '--page', str(tmp_path / 'page.html')) == 1
    assert capsys.readouterr().err.count('\n') == 1
    assert [path.read_text() for path in tmp_path.iterdir()] == ['before']


def test_the_tables_are_written_where_asked(folders, capsys, tmp_path):
    table, latex = tmp_path / 'table.csv', tmp_path / 'table.tex'
    assert compare(folders, 'a', 'b', '--csv', str(table), '--latex', str(latex)) == 0
    with table.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['name'] for row in rows if row['kind'] == 'run'} == {'a', 'b'}
    assert {row['checkpoint'] for row in rows if row['kind'] == 'run'} == {'ramp'}
    assert latex.read_text().count('begin{tabular}') == 1
    line = '"$0" -m marigold_ros compare "$1" "$2" --csv /dev/stdout | cat'
    command = ['sh', '-c', line, sys.executable, folders / 'a', folders / 'b']
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith('protocol,bag,rank')


def test_no_output_replaces_a_file_of_a_run_or_another_output(folders, capsys, tmp_path):
    results, page = folders / 'a' / 'results.json', str(tmp_path / 'page')
    before = results.read_bytes()
    for outputs in (['--latex', str(results)], ['--page', page, '--csv', page]):
        assert compare(folders, 'a', 'b', *outputs) == 2
        assert 'would replace' in capsys.readouterr().err
    assert compare(folders, 'a', 'b', '--page', '') == 1
    assert results.read_bytes() == before


def test_results_that_cannot_be_compared_are_one_line(folders, capsys, tmp_path):
    assert compare(folders, 'b', str(tmp_path)) == 1
    assert compare(folders, 'b') == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert 'give a folder that evaluate wrote' in lines[0]
    assert 'is one run; give two or more' in lines[1]


@pytest.mark.parametrize(
    ('name', 'old', 'new', 'words'),
    [
        ('results.json', '"schema": 1', '"schema": 2', 'schema 2, not 1'),
        ('per_frame.csv', '\n0,', '\nx,', 'changed: results.json and per_frame.csv are damaged'),
        ('per_frame.csv', '\n', ' ' * 50_000_000, 'has more than 50 MB'),
    ],
)
def test_one_run_that_cannot_be_read_is_named(folders, capsys, tmp_path, name, old, new, words):
    folder = shutil.copytree(folders / 'a', tmp_path / 'changed')
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    assert compare(folders, 'b', str(folder), '--page', str(tmp_path / 'page.html')) == 1
    assert words in capsys.readouterr().err
