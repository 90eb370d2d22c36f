# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The verdict says what the intervals show, and no more."""

import math

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.evaluation.results.verdict import (
    demonstration,
    FULL_MODELS,
    judge,
    outcome,
    OUTCOMES,
    usable_range,
)
from marigold_ros.evaluation.scoring.baseline_scores import paired_difference
from marigold_ros.models.hub import as_size
from marigold_ros.models.locate import PUBLISHED
import numpy as np
import pytest
from scipy.signal import lfilter

NAMES = ('abs_rel', 'rmse', 'mae', 'p50_abs_error')


def a_bin(start, abs_rel, *interval):
    found = {'from': start, 'to': start + 10.0, 'n': 100, 'abs_rel': abs_rel}
    return {**found, 'abs_rel_interval': list(interval)} if interval else found


def paired(difference, half):
    return {
        'difference': difference,
        'interval': [difference - half, difference + half],
        'standard_error': half / 2 if half == half else 0.05,
        'n_frames': 40,
    }


def results(differences=(-0.1,) * 4, by_range=(), n_frames=40, metric=40, half=0.05):
    own = dict.fromkeys(NAMES, 0.3)
    linear = {name: 0.3 - difference for name, difference in zip(NAMES, differences, strict=True)}
    compared = {
        name: paired(difference, half) for name, difference in zip(NAMES, differences, strict=True)
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
                    'top': {'abs_rel': 0.2, 'n': 5000},
                    'left': {'abs_rel': 0.4, 'n': 4000},
                    'right': {'abs_rel': 9.0, 'n': 40},  # fewer than 1 % of such a third
                },
            }
        },
        'baselines': {'linear': linear, 'plane': far, 'global': dict.fromkeys(NAMES, 0.0)},
        'baselines_paired': {'linear': compared},
        'latency_ms': {'total': {'p50': 90.0, 'p95': 125.0}},
        'provenance': {
            'scoring': {'baselines_protocol': 'heldout'},
            'checkpoint': {'name': 'tiny'},
        },
    }


def test_a_run_that_is_better_throughout_is_green():
    found = judge(results(), 0.1, demonstration=True)
    assert found['grade'] == 'green'
    assert found['title'] == 'Good: usable, and better than the best baseline (linear)'
    assert found['needed'] is None
    assert found['text']['best'] == 'linear: LiDAR interpolated in depth'
    assert found['usable_range']['to'] == 10.0
    assert found['speed'] == {'hertz': 8.0, 'dropped': 0}
    assert found['weakest'] == {'condition': 'the left third of the image', 'abs_rel': 0.4}
    words = found['text']
    after = 'AbsRel 0.200 from 10 to 20 m (95 % interval up to 0.300)'
    assert words['range'] == f'within 10 % to about 10 m: {after}'
    assert words['speed'].startswith('fast enough for 8.0 Hz')
    assert words['model'].startswith('tiny is a small demonstration model')
    assert 'better in AbsRel (0.300, linear 0.400)' in words['baselines']


def test_a_close_range_and_a_slow_model_do_not_read_as_nothing():
    found = results(by_range=[a_bin(0.0, 0.05, 0.04, 0.06)])
    found['protocols']['heldout']['farthest'] = 0.45
    found['baselines']['linear']['mae'] = 0.1034
    found['latency_ms']['total']['p95'] = 30_000.0
    words = judge(found)['text']
    assert words['range'] == 'within 10 % to about 0.45 m, the farthest scored point'
    assert words['speed'].startswith('fast enough for 0.033 Hz')
    assert 'MAE (0.0034 m, ' in words['baselines']


def test_the_full_model_that_is_named_fits_the_device_and_is_published():
    assert 'models get depth-anything-v2-small`' in demonstration({'device': 'cpu'})
    assert 'models get marigold-depth-v1-1`' in demonstration({'device': 'cuda:0'})
    for name, facts in FULL_MODELS.values():
        item = PUBLISHED[name]
        assert facts == f'{as_size(item.size).replace(".0 MB", " MB")}, {item.licence}'


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
    assert 'a score of the relative depth' in found['text']['fit']
    assert not judge(results())['fitted_to_truth']
    assert 'fit' not in judge(results())['text']


@pytest.mark.parametrize(
    ('changed', 'title', 'words'),
    [
        (
            {'differences': (-0.1, -0.1, 0.1, -0.01)},
            'Mixed: more than 5 % worse than the best baseline (linear) in MAE',
            '; worse in MAE',
        ),
        (
            {'differences': (0.045, -0.1, -0.1, -0.1), 'half': 0.05},
            'Mixed: less than 5 % better than the best baseline (linear) in AbsRel',
            'no difference shown in AbsRel',
        ),
        (
            {'differences': (0.1, -0.1, -0.1, -0.1)},
            'Poor: worse than the best baseline (linear) in AbsRel',
            '; worse in AbsRel',
        ),
        ({'metric': 21}, 'Mixed: metric depth in only 52 % of the frames', 'better in AbsRel'),
        ({'metric': 19}, 'Poor: metric depth in only 48 % of the frames', 'better in AbsRel'),
        (
            {'by_range': [a_bin(0.0, 0.13, 0.11, 0.15)]},
            'Poor: mean error above 10 % in the nearest 10 m',
            'better in AbsRel',
        ),
        (
            {'by_range': [a_bin(20.0, 0.13, 0.11, 0.15)]},
            'Poor: mean error above 10 % in the nearest points (20 to 30 m)',
            'better in AbsRel',
        ),
        (
            {'by_range': [a_bin(0.0, 0.13, 0.11, 0.15)], 'metric': 19},
            'Poor: mean error above 10 % in the nearest 10 m; metric depth in only 48 % of the '
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
    assert found['title'] == 'Cannot tell: too few independent frames to tell'
    assert '7 scored frames are too few to tell; about 20 are needed' in found['text']['range']
    assert 'baselines' not in found['text']
    assert judge(results(n_frames=8))['grade'] == 'green'


def test_frames_without_metric_depth_are_a_verdict_however_few_have_some():
    found = judge(results(n_frames=5, metric=5))
    assert (found['grade'], found['needed']) == ('red', None)
    assert found['title'] == 'Poor: metric depth in only 12 % of the frames'
    none = {**results(metric=0), 'protocols': {}, 'baselines': {}}
    assert judge(none)['title'] == 'Poor: no frame has metric depth'
    none['frames']['dropped'] = 33
    assert judge(none)['grade'] == 'unknown'


def test_images_that_a_live_run_dropped_do_not_lack_depth():
    live = results(metric=20)
    live['frames']['dropped'] = 20
    found = judge(live)
    assert found['grade'] == 'green'
    assert found['text']['speed'].endswith('; 20 images were dropped')


@pytest.mark.parametrize(
    ('changed', 'reason'),
    [
        ({'metric': 36}, 'whether 95 % of the frames have metric depth; about 80 are needed'),
        (
            {'differences': (-0.02, -0.1, -0.1, -0.1), 'half': 0.01},
            'AbsRel against the best baselines; it is too close to a limit',
        ),
    ],
)
def test_what_is_too_close_to_a_limit_cannot_be_told(changed, reason):
    found = judge(results(**changed))
    assert found['title'] == f'Cannot tell from 40 images: {reason}'


def test_correlated_frames_without_any_interval_are_no_verdict():
    few = results(by_range=[a_bin(0.0, 0.05)])
    few['baselines_paired']['linear'] = dict.fromkeys(NAMES, paired(-0.1, math.nan))
    found = judge(few)
    assert (found['grade'], found['title']) == (
        'unknown',
        'Cannot tell from 40 images: whether the nearest 10 m are within 10 %; AbsRel, RMSE, MAE, '
        'median error against the best baselines; about 280 are needed',
    )
    assert found['text']['range'].endswith('0 to 10 m, too few independent frames to tell')
    assert found['text']['baselines'].startswith('too few independent frames to tell in AbsRel')
    few['protocols']['heldout']['by_range'] = [a_bin(20.0, 0.05)]
    assert 'whether the nearest points (20 to 30 m) are within 10 %;' in judge(few)['title']
    assert judge(few)['title'].endswith('; about 280 are needed')
    # However small the error seems, of twice as many frames at least.
    seen = {**paired(-0.1, math.nan), 'standard_error': 0.01}
    few['baselines_paired']['linear'] = dict.fromkeys(NAMES, seen)
    few['protocols']['heldout'] |= {'sigma_coverage': {'2': 0.9}, 'sigma_interval': None}
    verdict = judge(few)
    assert verdict['title'].endswith('; about 80 are needed')
    assert '; whether 90 % of the errors are within two sigma;' in verdict['title']
    assert 'two sigma (too few independent frames to tell;' in verdict['text']['sigma']
    # What is known without an interval is said all the same.
    few['frames']['metric'] = 19
    assert judge(few)['title'] == 'Poor: metric depth in only 48 % of the frames'


@pytest.mark.parametrize('protocols', [('oracle',), ()])
def test_scores_of_the_relative_depth_alone_are_no_verdict_on_metric_depth(protocols):
    scores = results()['protocols']['heldout']
    found = {**results(), 'protocols': dict.fromkeys(protocols, scores), 'baselines': {}}
    found['latency_ms'] = {}
    found['provenance']['scoring']['baselines_protocol'] = 'truth'
    curves = dict.fromkeys(protocols, {'abs_rel': [0.1] * 6})
    found['robustness'] = {'strengths': list(range(6)), 'corruptions': {'fog': curves}}
    verdict = judge(found)
    assert (verdict['grade'], verdict['needed']) == ('unknown', None)
    assert verdict['title'] == 'Cannot tell: no metric depth could be scored'
    assert verdict['text'] == {'range': 'no metric depth could be scored'}
    assert (verdict['usable_range']['to'], verdict['weakest']) == (None, {})
    assert verdict['against_baselines'] == {}
    found['frames']['metric'] = 0
    assert judge(found)['title'] == 'Poor: no frame has metric depth'


def test_the_range_ends_before_the_first_bin_that_is_not_shown_to_be_usable():
    good = [a_bin(10.0 * i, 0.05, 0.04, 0.06) for i in range(3)]
    found = {'limit': 0.1, 'from': 0.0, 'next': None}
    assert usable_range({'by_range': good}, 0.1) == found | {'to': 30.0}
    near = usable_range({'by_range': good[:1], 'farthest': 4.5}, 0.1)  # as indoors
    assert near == found | {'to': 4.5}
    few = usable_range({'by_range': [*good[:2], a_bin(20.0, 0.01), *good[2:]]}, 0.1)
    assert (few['to'], few['next']['from']) == (20.0, 20.0)
    assert usable_range({'by_range': good}, 0.06)['to'] is None


@pytest.mark.parametrize(
    ('starts', 'text'),
    [
        ((0.0, 20.0), 'within 10 % to about 10 m: no scored point from 10 to 20 m'),
        ((10.0, 20.0), 'within 10 % from 10 to about 30 m, the farthest scored point'),
    ],
)
def test_the_range_begins_and_ends_where_points_were_scored(starts, text):
    parts = [a_bin(start, 0.05, 0.04, 0.06) for start in starts]
    assert judge(results(by_range=parts))['text']['range'] == text


def test_the_weakest_corruption_is_named_where_they_were_measured():
    strengths = [0, 1, 2, 3, 4, 5]
    curves = {
        'fog': {'heldout': {'abs_rel': [0.1, 0.1, 0.1, 0.15, 0.9, 0.9]}},
        'rain': {'heldout': {'abs_rel': [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]}},
        'night': {'heldout': {'abs_rel': [0.1, 0.1, 0.1, math.nan, 0.2, 0.2]}},
    }
    found = judge({**results(), 'robustness': {'strengths': strengths, 'corruptions': curves}})
    assert found['weakest'] == {'condition': 'rain at strength 3', 'abs_rel': 0.2}


@pytest.mark.parametrize(
    ('changed', 'grade', 'title'),
    [
        ({}, 'unknown', 'Cannot tell: scored on its own training data (drive)'),
        ({'n_frames': 7}, 'unknown', 'Cannot tell: scored on its own training data (drive)'),
        (
            {'metric': 19},
            'red',
            'Poor, on its own training data (drive): metric depth in only 48 % of the frames',
        ),
    ],
)
def test_scores_on_training_data_say_so_first_and_are_never_good(changed, grade, title):
    found = results(**changed)
    found['provenance']['trained_on'] = ['drive']
    verdict = judge(found)
    assert (verdict['grade'], verdict['title']) == (grade, title)
    assert (list(verdict['text'])[0], verdict['needed']) == ('training', None)


def test_the_speed_says_what_ran_and_how_busy_the_machine_was():
    found = results()
    found['provenance'] |= {'load': 5.25, 'machine': {'cores': 2}}
    ran = {'dtype': 'bfloat16', 'device': 'cpu'}
    for runtime in ({'runtime': {'backend': 'openvino'}}, {'runtime.backend': 'openvino'}):
        found['provenance']['checkpoint'] = {**ran, **runtime}
        speed = judge(found)['text']['speed']
        assert 'Hz by openvino in bfloat16 on cpu at load 5.25 of 2 cores: 95 %' in speed


def of_series(own, theirs):
    """Arrange errors (n, 2) of AbsRel and RMSE, of model and baseline, as results.json."""
    found = results(n_frames=len(own))
    found['protocols']['heldout']['macro'] = dict(zip(NAMES, own.mean(axis=0), strict=False))
    found['baselines'] = {'mean_map': dict(zip(NAMES, theirs.mean(axis=0), strict=False))}
    pairs = (paired_difference(column) for column in (own - theirs).T)
    found['baselines_paired'] = {'mean_map': dict(zip(NAMES, pairs, strict=False))}
    return found


def drive(rng, frames, differences, correlation=0.7):
    """Errors (n, 2) of model and baseline, whose neighbours correlate; the model's differ."""
    noise = rng.normal(size=(frames, 4)) * math.sqrt(1 - correlation**2)
    noise[0] = rng.normal(size=4)
    errors = lfilter([1.0], [1.0, -correlation], noise, axis=0)
    errors = 0.2 * (1 + 0.15 * errors)
    return errors[:, :2] + 0.2 * np.asarray(differences), errors[:, 2:]


@pytest.mark.parametrize('differences', [(-0.2, 0.05), (-0.05, 0.0), (-0.1, 0.1), (0.02, 0.0)])
def test_random_thirds_of_a_drive_are_never_good_in_one_and_worse_in_another(differences):
    rng = np.random.default_rng(1)
    told = set()
    for _ in range(15):
        own, theirs = drive(rng, 240, differences)
        thirds = np.array_split(rng.permutation(240), 3)
        grades = {judge(of_series(own[sorted(k)], theirs[sorted(k)]))['grade'] for k in thirds}
        assert not ('green' in grades and grades & {'amber', 'red'})
        told |= grades
    assert 'unknown' in told


def test_few_frames_cannot_tell_and_about_as_many_as_are_needed_can():
    rng = np.random.default_rng(2)
    few = judge(of_series(*drive(rng, 80, (-0.2, 0.0))))
    assert few['grade'] == 'unknown'
    assert f' {few["needed"]} are needed' in few['title']
    more = [judge(of_series(*drive(rng, few['needed'], (-0.2, 0.0)))) for _ in range(5)]
    assert sum(found['grade'] == 'green' for found in more) >= 3


@pytest.mark.parametrize(
    ('changed', 'needed'),
    [
        # (half of the interval / half of the gap to the limit)² times 40 frames, two digits
        ({'differences': (-0.1, -0.02, -0.1, -0.1), 'half': 0.04}, 'about 200'),
        ({'by_range': [a_bin(0.0, 0.12, 0.09, 0.15)]}, 'about 360'),
        ({'differences': (-0.1, 0.0, -0.1, -0.1), 'half': 0.09}, 'more than 400'),
    ],
)
def test_the_number_that_is_needed_is_not_extrapolated_beyond_ten_times_the_frames(
    changed, needed
):
    found = judge(results(**changed))
    assert found['title'].endswith(f'; {needed} are needed')
    assert found['needed'] == int(needed.split()[-1])


@pytest.mark.parametrize(
    ('interval', 'grade'),
    [((0.8, 0.84), 'amber'), ((0.85, 0.95), 'unknown'), ((0.92, 1), 'green')],
)
def test_errors_beyond_two_sigma_are_part_of_the_verdict(interval, grade):
    found = results()
    share = sum(interval) / 2
    found['protocols']['heldout'] |= {'sigma_coverage': {'2': share}, 'sigma_interval': interval}
    verdict = judge(found)
    assert verdict['grade'] == grade
    assert verdict['text']['sigma'].startswith(f'{100 * share:.0f} % of the errors within two')
    assert ('where 95 % are due' in verdict['title']) == (grade == 'amber')


@pytest.mark.parametrize(
    ('difference', 'words'),
    [(0.2, 'worse than a plane'), (0.02, 'not better than a plane'), (-0.2, '')],
)
def test_a_model_that_is_no_better_than_a_plane_alone_adds_nothing(difference, words):
    alone = {'constant': {'abs_rel': 0.5, **paired(-0.2, 0.05)}}
    alone['plane'] = {'abs_rel': 0.3, **paired(difference, 0.05)}
    text = judge({**results(), 'alone': alone})['text'].get('alone', '')
    assert words in text
    assert ('(AbsRel 0.500, plane 0.300): it adds nothing here' in text) == (difference == 0.2)


@given(st.floats(-1, 1), st.floats(0, 1))
def test_an_outcome_needs_an_interval_without_zero(middle, half):
    found = outcome(middle - half, middle + half)
    assert found in OUTCOMES
    if found != 'no difference shown':
        assert abs(middle) > half
        assert (found == 'better') == (middle < 0)
