# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Parts of results.json: robustness, hashes of bags, numbers that are not finite."""

import json
import math
import os
import subprocess

from marigold_ros.commands.terminal.output import summary
from marigold_ros.errors import number
from marigold_ros.evaluation.report.tables import warnings_list
from marigold_ros.evaluation.results.results import (
    describe_bag,
    robustness,
    to_json,
    trained_on,
    write_per_frame,
    write_results,
)
from marigold_ros.evaluation.scoring.protocol_scores import ProtocolScores
import numpy as np
import pytest


def test_what_is_not_finite_becomes_null_in_json():
    value = {'a': math.nan, 'b': [np.float32(np.inf), np.int64(3)], 'c': np.bool_(True), 'd': ()}
    assert json.loads(to_json(value)) == {'a': None, 'b': [None, 3], 'c': True, 'd': []}


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        *((0.0, '0.00'), (12.345, '12.35'), (0.005001, '0.01'), (None, '–'), (math.inf, '–')),
        *((0.0034, '0.0034'), (-0.0012, '-0.0012'), (0.00412, '0.0041')),
        *((-5.3e-16, '0.00'), (1e-9, '1e-09')),
    ],
)
def test_a_figure_reads_as_zero_only_where_it_is(value, text):
    assert number(value, 2) == text


def test_a_name_that_is_no_utf_8_is_escaped_in_both_files(tmp_path):
    name = os.fsdecode(b'model_\xff')
    write_results(tmp_path, {'models': {name: 1}})
    write_per_frame(
        tmp_path, [{'index': 0, f'{name}:total_ms': 1.5}, {'index': 1, 'rms': math.nan}]
    )
    assert json.loads((tmp_path / 'results.json').read_text()) == {'models': {name: 1}}
    text = (tmp_path / 'per_frame.csv').read_text()
    assert text == 'index,model_\\udcff:total_ms,rms\n0,1.5,\n1,,\n'


def test_the_hash_of_a_bag_follows_its_content(tmp_path, monkeypatch):
    bag = tmp_path / 'bag'
    bag.mkdir()
    for name in ('bag_0.mcap', 'bag_1.mcap'):
        (bag / name).write_bytes(b'one')
    first = describe_bag(bag)
    assert (first['name'], first['bytes']) == ('bag', 6)
    listing = subprocess.check_output('sha256sum * | sha256sum', shell=True, cwd=bag, text=True)
    assert first['sha256'] == listing.split()[0]
    monkeypatch.chdir(bag)
    assert describe_bag('.') == first
    (bag / 'results.json').write_text('of an evaluation with --out BAG')
    assert describe_bag(bag) == first
    (bag / 'bag_0.mcap').write_bytes(b'two')
    assert describe_bag(bag)['sha256'] != first['sha256']


def test_a_bag_has_the_name_of_a_link_to_it(tmp_path):
    (tmp_path / 'd0c5a7').write_bytes(b'one')
    (tmp_path / 'bag.mcap').symlink_to('d0c5a7')
    assert describe_bag(tmp_path / 'bag.mcap')['name'] == 'bag.mcap'


@pytest.mark.parametrize('record', ['README.md', 'results.json'])
def test_bags_that_a_model_was_trained_on_are_found_under_any_name(record, tmp_path):
    bags = []
    for name in ('drive', 'other'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'data.mcap').write_text(name)
        bags.append(describe_bag(tmp_path / name))
    bags[0]['name'] = 'renamed'
    digits = 12 if record == 'README.md' else 64
    (tmp_path / record).write_text(f'- bags: drive ({bags[0]["sha256"][:digits]})')
    assert trained_on(tmp_path, bags) == ['renamed']
    assert trained_on('', bags) == []
    (tmp_path / record).write_text('- bag other: 12 images, 50% of the batches\n')
    assert trained_on(tmp_path, bags) == ['other']


def unscored():
    """Return results of three frames of which none was scored."""
    return {
        'frames': {'read': 3, 'processed': 3, 'metric': 3, 'dropped': 0, 'rejected': {}},
        'protocols': {},
        'baselines': {},
        'provenance': {'scoring': {'first_not_metric': '', 'oracle': {'rule': 'own', 'text': ''}}},
        'calibration': {'text': ''},
        'temporal': {'scale_drift': {'ratio': math.nan}},
        'surfaces': {},
        'verdict': {
            'grade': 'unknown',
            'title': 'Unknown: too few independent frames to tell',
            'text': {'range': 'no metric depth could be scored'},
        },
    }


def test_errors_of_corrupted_runs_stand_beside_the_clean_one():
    def run(error):
        return {'truth': {'macro': {'abs_rel': error}, 'n_frames': 3}}

    corrupted = {('fog', 1): run(0.2), ('fog', 2): run(0.3), ('fog', 4): {}, ('rain', 5): run(0.9)}
    found = robustness(run(0.1), corrupted)
    assert found['strengths'] == [0, 1, 2, 3, 4, 5]
    fog = found['corruptions']['fog']['truth']
    assert fog['abs_rel'][:3] == [0.1, 0.2, 0.3]
    assert np.isnan(fog['abs_rel'][3:]).all()
    assert fog['n_frames'] == [3, 3, 3, 0, 0, 0]
    assert found['corruptions']['rain']['truth']['abs_rel'][-1] == 0.9
    results = {**unscored(), 'robustness': found}
    text = summary(results, 'out')
    assert text.splitlines()[:2] == [
        'verdict: Unknown: too few independent frames to tell',
        '  range     no metric depth could be scored',
    ]
    assert 'drift' not in text
    (fog_line,) = (line for line in text.splitlines() if line.startswith('fog'))
    assert fog_line.split()[:4] == ['fog', '(truth)', '0.100', '0.200']


def test_a_wrong_mounting_is_named_with_what_scores_do_not_show():
    results = {**unscored(), 'calibration': {'text': 'LiDAR is rolled 4.2° to the right'}}
    known = 'LiDAR is rolled 4.2° to the right; held-out points share it'
    for text in (summary(results, 'out'), warnings_list(results)):
        assert text.lower().count(f'calibration: {known}'.lower()) == 1
    results['provenance']['bags'] = [{'name': 'drive'}, {'name': 'other'}]
    results['calibration']['bag'] = 'other'
    assert f'calibration: other: {known}' in summary(results, 'out')
    for nothing in ({'text': ''}, None):
        results = {**results, 'calibration': nothing}
        assert 'alibration' not in summary(results, 'out') + warnings_list(results)


def test_a_warning_of_one_frame_is_in_the_singular():
    results = unscored()
    results['provenance'] |= {'warnings': {'dark': 1, 'late': 2}}
    page = warnings_list(results)
    assert '>Warning (1 frame): dark<' in page
    assert '>Warning (2 frames): late<' in page
    assert 'warning (1 frame): dark\nwarning (2 frames): late' in summary(results, 'out')


def test_small_figures_and_differences_do_not_read_as_zero_on_the_terminal():
    scores = ProtocolScores(80.0)
    scores.add(np.full(9, 9.9998), np.full(9, 10.0), np.zeros(9, int))
    results = {**unscored(), 'protocols': {'truth': scores.summary()}}
    results['baselines'] = {
        'plane': results['protocols']['truth']['macro'] | {'median_abs_rel': 0.0}
    }
    paired = {'n_frames': 3, 'difference': -0.0001, 'interval': [-0.0002, 0.03]}
    results['baselines_paired'] = {'plane': {'abs_rel': paired}}
    text = summary(results, 'out')
    assert 'difference -0.0001, -0.0002 to +0.030' in text
    assert text.count(' -0.0002 ') == 3  # of the interval, and the bias of both
    assert '-0.000 ' not in text


def test_the_near_field_without_any_point_is_a_dash_on_the_terminal():
    scores = ProtocolScores(80.0)
    scores.add(np.full(9, 44.0), np.full(9, 55.0), np.zeros(9, int))
    text = summary({**unscored(), 'protocols': {'truth': scores.summary()}}, 'out')
    assert 'truth, below 15 m –; from 50 m 0.200' in text
    assert 'truth: depth at' not in text
    found = scores.summary()
    found['macro']['coverage'] = 0.5
    text = summary({**unscored(), 'protocols': {'truth': found}}, 'out')
    assert 'truth: depth at 50.0% of the points, elsewhere the nearest fit point' in text
