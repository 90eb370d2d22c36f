# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The verdict says what the intervals show, and no more."""

import math

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.evaluation.results.verdict import judge, outcome, OUTCOMES, usable_range
import pytest

NAMES = ('abs_rel', 'rmse', 'mae', 'p50_abs_error')


def a_bin(start, abs_rel, *interval):
    found = {'from': start, 'to': start + 10.0, 'n': 100, 'abs_rel': abs_rel}
    return {**found, 'abs_rel_interval': list(interval)} if interval else found


def paired(difference, half):
    return {'difference': difference, 'interval': [difference - half, difference + half]}


def results(differences=(-0.1, -0.1, -0.1, -0.1), by_range=(), n_frames=40, metric=40):
    own = dict.fromkeys(NAMES, 0.3)
    linear = {name: 0.3 - difference for name, difference in zip(NAMES, differences, strict=True)}
    compared = {
        name: paired(difference, 0.05) for name, difference in zip(NAMES, differences, strict=True)
    }
    parts = by_range or [a_bin(0.0, 0.05, 0.04, 0.06), a_bin(10.0, 0.2, 0.1, 0.3)]
    far = dict.fromkeys(NAMES, 9.0)
    return {
        'frames': {'read': 40, 'metric': metric, 'dropped': 0},
        'protocols': {
            'heldout': {
                'macro': own,
                'n_frames': n_frames,
                'by_range': list(parts),
                'by_region': {
                    'top': {'abs_rel': 0.4, 'n': 50},
                    'left': {'abs_rel': 0.2, 'n': 40},
                    'right': {'abs_rel': 9.0, 'n': 0},
                },
            }
        },
        'baselines': {'linear': linear, 'plane': far, 'global': dict.fromkeys(NAMES, 0.0)},
        'baselines_paired': {'linear': compared},
        'latency_ms': {'total': {'p95': 125.0}},
        'provenance': {
            'scoring': {'baselines_protocol': 'heldout'},
            'checkpoint': {'name': 'tiny'},
        },
    }


def test_a_run_that_is_better_throughout_is_green():
    found = judge(results(), 0.1, demonstration=True)
    assert found['grade'] == 'green'
    assert found['title'] == 'Good: usable, and better than the best baseline'
    assert found['usable_range']['to'] == 10.0
    assert found['speed'] == {'hertz': 8.0, 'dropped': 0}
    assert found['weakest'] == {'condition': 'the top third of the image', 'abs_rel': 0.4}
    words = found['text']
    assert words['range'].startswith('within 10 % to about 10 m: AbsRel 0.200 from 10 to 20 m')
    assert words['speed'].startswith('fast enough for 8.0 Hz')
    assert words['model'].startswith('tiny is a small demonstration model')
    assert 'better in AbsRel (0.300, linear 0.400)' in words['baselines']


@pytest.mark.parametrize(
    ('differences', 'grade'),
    [((-0.1,) * 4, 'green'), ((-0.1, 0.1, -0.1, -0.1), 'amber'), ((0.1,) * 4, 'red')],
)
def test_images_fitted_to_the_truth_are_graded_by_baselines_alone(differences, grade):
    found = results(differences, by_range=[a_bin(0.0, 0.9, 0.8, 1.0)], metric=0)
    found['protocols'] = {'oracle': found['protocols']['heldout']}
    found['provenance']['scoring']['baselines_protocol'] = 'oracle'
    found = judge(found)
    assert found['grade'] == grade
    assert found['fitted_to_truth']
    assert 'a bound' in found['text']['fit']
    assert not judge(results())['fitted_to_truth']
    assert 'fit' not in judge(results())['text']


def test_the_model_itself_with_one_scale_is_no_baseline():
    compared = judge(results())['against_baselines']
    assert {values['baseline'] for values in compared.values()} == {'linear'}


@pytest.mark.parametrize(
    ('changed', 'title', 'words'),
    [
        (
            {'differences': (-0.1, 0.1, -0.1, -0.01)},
            'Mixed: worse than the best baseline in RMSE',
            'worse in RMSE',
        ),
        (
            {'differences': (-0.01, -0.1, -0.1, -0.1)},
            'Mixed: not shown to be better than the best baseline in AbsRel',
            'no difference shown in AbsRel',
        ),
        (
            {'differences': (0.1, -0.1, -0.1, -0.1)},
            'Poor: worse than the best baseline in AbsRel',
            'worse in AbsRel',
        ),
        ({'metric': 37}, 'Mixed: metric depth in only 92% of the frames', 'better in AbsRel'),
        ({'metric': 19}, 'Poor: metric depth in only 48% of the frames', 'better in AbsRel'),
        (
            {'by_range': [a_bin(0.0, 0.09, 0.05, 0.12)]},
            'Mixed: the nearest 10 m are not shown to be within 10 %',
            'better in AbsRel',
        ),
        (
            {'by_range': [a_bin(0.0, 0.11, 0.05, 0.12)]},
            'Poor: mean error above 10 % in the nearest 10 m',
            'better in AbsRel',
        ),
        (
            {'by_range': [a_bin(0.0, 0.11, 0.05, 0.12)], 'metric': 19},
            'Poor: mean error above 10 % in the nearest 10 m; metric depth in only 48% of the '
            'frames',
            'better in AbsRel',
        ),
    ],
)
def test_what_is_not_better_is_not_green_and_the_title_says_why(changed, title, words):
    found = judge(results(**changed))
    assert found['title'] == title
    assert found['grade'] == {'Mixed': 'amber', 'Poor': 'red'}[title.partition(':')[0]]
    assert words in found['text']['baselines']


def test_few_frames_are_no_verdict():
    found = judge(results(n_frames=7))
    assert found['grade'] == 'unknown'
    assert found['title'] == 'Unknown: too few independent frames to tell'
    assert '7 scored frames are too few to tell; about 20 are needed' in found['text']['range']
    assert 'baselines' not in found['text']


def test_correlated_frames_without_any_interval_are_no_verdict():
    few = results(by_range=[a_bin(0.0, 0.05)])
    few['baselines_paired']['linear'] = dict.fromkeys(NAMES, paired(-0.1, math.nan))
    found = judge(few)
    assert (found['grade'], found['title']) == (
        'unknown',
        'Unknown: too few independent frames to tell',
    )
    assert found['text']['range'].endswith('0 to 10 m, too few independent frames to tell')
    assert found['text']['baselines'].startswith('too few independent frames to tell in AbsRel')
    # What is known without an interval is said all the same.
    few['frames']['metric'] = 19
    assert judge(few)['title'].startswith('Poor: metric depth in only 48% of the frames; ')


def test_a_run_without_scores_says_so():
    empty = {**results(), 'protocols': {}, 'baselines': {}, 'latency_ms': {}}
    found = judge(empty)
    assert (found['grade'], found['against_baselines'], found['weakest']) == ('unknown', {}, {})
    assert found['text'] == {'range': 'no frame could be scored'}


def test_the_range_ends_before_the_first_bin_that_is_not_shown_to_be_usable():
    good = [a_bin(10.0 * i, 0.05, 0.04, 0.06) for i in range(3)]
    assert usable_range({'by_range': good}, 0.1) == {'limit': 0.1, 'to': 30.0, 'next': None}
    few = usable_range({'by_range': [*good[:2], a_bin(20.0, 0.01), *good[2:]]}, 0.1)
    assert (few['to'], few['next']['from']) == (20.0, 20.0)
    assert usable_range({'by_range': good}, 0.06)['to'] is None


def test_the_weakest_corruption_is_named_where_they_were_measured():
    strengths = [0, 1, 2, 3, 4, 5]
    curves = {
        'fog': {'heldout': {'abs_rel': [0.1, 0.1, 0.1, 0.15, 0.9, 0.9]}},
        'rain': {'heldout': {'abs_rel': [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]}},
        'night': {'heldout': {'abs_rel': [0.1, 0.1, 0.1, math.nan, 0.2, 0.2]}},
    }
    found = judge({**results(), 'robustness': {'strengths': strengths, 'corruptions': curves}})
    assert found['weakest'] == {'condition': 'rain at strength 3', 'abs_rel': 0.2}


@given(st.floats(-1, 1), st.floats(0, 1))
def test_an_outcome_needs_an_interval_without_zero(middle, half):
    found = outcome(middle - half, middle + half)
    assert found in OUTCOMES
    if found != 'no difference shown':
        assert abs(middle) > half
        assert (found == 'better') == (middle < 0)
