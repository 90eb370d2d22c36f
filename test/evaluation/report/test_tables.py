# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Cards and tables show the figures of results.json in the places that their heads name."""

import re

from marigold_ros.evaluation.report.tables import (
    accuracy_bars,
    accuracy_table,
    headline,
    latency_table,
    provenance_tables,
    region_table,
    warnings_list,
)
import pytest

METRICS = ('abs_rel', 'rmse', 'mae', 'bias', 'delta1', 'silog', 'coverage')


def cells(html, tag='td'):
    """Texts of the cells of each row."""
    rows = (re.findall(rf'<{tag}[^>]*>(.*?)</{tag}>', row) for row in html.split('<tr')[1:])
    return [row for row in rows if row]


@pytest.fixture
def results(some):
    """Results of one model, in which no two figures are equal."""
    found = {**some.results(), 'models': {}}
    scores = {**found['protocols']['heldout'], 'n_frames': 31, 'n_points': 1017}
    scores['macro'] = {name: 0.1 + 0.1 * i for i, name in enumerate(METRICS)}
    scores['micro'] = dict.fromkeys(METRICS, 0.9)
    found['protocols'] = {'heldout': scores}
    macro = {name: 0.2 + 0.1 * i for i, name in enumerate(METRICS)}
    found['baselines'] = {'linear': {**macro, 'median_abs_rel': 0.055}}
    found['frames'] |= {
        'read': 40,
        'metric': 33,
        'dropped': 3,
        'rejected': {'step': 1, 'shape': 4},
    }
    return found


def test_the_table_of_accuracy_has_means_over_frames_and_differences(results):
    own, linear = cells(accuracy_table(results))
    places = {'median': 0.03, **results['protocols']['heldout']['macro']}
    assert [float(cell) for cell in own[1:9]] == pytest.approx(list(places.values()))
    assert own[9:] == ['', '31', '1017']
    assert own[0] == 'this model, metric, fitted to every 8th scan line, scored at those between'
    assert [float(cell) for cell in linear[1:3]] == [0.055, 0.2]
    assert linear[9:] == ['-0.031, -0.050 to -0.012', '40', '']
    (heads,) = cells(accuracy_table(results), 'th')
    assert (heads[1:3], heads[9:]) == (['median', 'AbsRel'], ['difference', 'frames', 'points'])


def test_the_cards_count_images_and_give_shares_in_percent(results):
    results['latency_ms']['round_trip'] = {'p50': 900.0}
    text = headline(results)
    parts = re.findall(r'label">(.*?)</span><b>(.*?)</b><span class="more">(.*?)<', text)
    cards = {label: (figure, more) for label, figure, more in parts}
    assert cards['mean relative error (AbsRel)'][0] == '0.100'
    assert cards['median relative error'][0] == '0.030'
    assert cards['RMSE'] == ('0.20 m', 'MAE 0.30 m')
    assert cards['within 25 % of the truth'][0] == '50.0 %'
    expected = '70.0 %', 'nominal 68 %; within 2 sigma: 90.0 %'
    assert cards['errors within 1 sigma'] == expected
    assert cards['metric frames'] == ('33 of 40', '3 dropped, 5 rejected')
    assert cards['time per frame (median)'][0] == '50 ms'
    results['provenance']['topics']['dataset'] = 'folder'
    assert '31 of 40</b><span class="more">5 rejected<' in headline(results)


def test_bars_have_the_mean_of_the_model_and_grey_those_of_baselines(results):
    html = accuracy_bars(results)
    found = re.findall(r'name( own)?">(.*?)<.*?figure.*?">(.*?)<', html)
    assert found == [(' own', 'this model', '0.100'), ('', 'LiDAR interpolated in depth', '0.200')]
    results['baselines'] = {'linear': {'abs_rel': None}, 'global': {'abs_rel': 0.3}}
    results['baselines_paired']['global'] = results['baselines_paired']['linear']
    results['models'] = {'other': {**results}}
    # Of several models the fit of scale and shift alone, which is of a model, leads.
    labels = re.findall(r'name own">(.*?)<', accuracy_bars(results))
    alone = [f'{name}, one scale and shift' for name in ('this model', 'other')]
    assert labels == [*alone, 'this model', 'other']
    assert 'name">' not in accuracy_bars(results)


def test_the_error_by_part_of_the_image_is_abs_rel(results):
    assert cells(region_table(results)) == [['left', '0.110'], ['plain', '0.120']]


def test_warnings_say_of_how_many_frames_and_why_the_first_has_no_depth(results):
    results['provenance']['warnings'] = {'no scan <near>': 2, 'dark': 1}
    results['provenance']['scoring']['first_not_metric'] = 'too few points'
    texts = re.findall(r'"warning">(.*?)</p>', warnings_list(results))
    assert texts[0] == 'First frame without metric depth: too few points'
    assert texts[-2:] == ['Warning (2 frames): no scan &lt;near&gt;', 'Warning (1 frame): dark']


def test_bars_of_time_are_medians_before_the_95th_percentile(results):
    values = {'p50': 40.0, 'p95': 80.0, 'p99': 90.0, 'max': 100.0, 'mean': 50.0, 'n': 7}
    results['latency_ms'] = {'total': values, 'predict': {**values, 'p95': 60.0, 'n': 9}}
    html = latency_table(results)
    widths = re.findall(r'class="(tail|fill)" width="([\d.]+)%"', html)
    assert widths == [('tail', '100.00'), ('fill', '50.00'), ('tail', '75.00'), ('fill', '50.00')]
    assert 'of 9 images that were timed' in html
    assert cells(html)[0] == ['total', '40.0', '80.0', '90.0', '100.0', '50.0']


def test_settings_of_bags_are_not_among_those_of_images(results):
    results['provenance']['options'] = {'lidar.max_dt': 0.1, 'seed': 5}
    results['provenance']['note'] = ''
    assert [row for row in cells(provenance_tables(results)) if row[0] == 'lidar.max_dt']
    results['provenance']['topics']['dataset'] = 'folder'
    rows = dict(row for row in cells(provenance_tables(results)) if len(row) == 2)
    assert rows['seed'] == '5'
    assert rows['note'] == '–'
    assert rows['scoring.baselines_protocol'] == 'heldout'
    assert not {'lidar.max_dt', 'scoring.fit_every', 'scoring.held_out'} & set(rows)
