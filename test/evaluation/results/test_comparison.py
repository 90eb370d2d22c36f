# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Two results with a planted difference, and results that must not be compared."""

from copy import deepcopy

from marigold_ros.errors import InputError
from marigold_ros.evaluation.results.comparison import compare_runs, EvaluationRun
import numpy as np
import pytest

N = 120


def run_of(abs_rel, delta1=None, total_ms=None, stamps=None):
    rng = np.random.default_rng(9)
    n = len(abs_rel)
    rows = [
        {
            'stamp_ns': str((range(n) if stamps is None else stamps)[i] * 100_000_000),
            'heldout_abs_rel': f'{abs_rel[i]:.6g}' if np.isfinite(abs_rel[i]) else '',
            'heldout_delta1': '' if delta1 is None else f'{delta1[i]:.6g}',
            'heldout_n': '1000',
            'heldout_coverage': '1',
            'total_ms': f'{rng.uniform(90, 110) if total_ms is None else total_ms[i]:.6g}',
        }
        for i in range(n)
    ]
    provenance = {
        'bags': [{'name': 'drive', 'sha256': 'abc', 'bytes': 1}],
        'topics': {'image': '/image', 'camera_info': '/info', 'lidar': '/scan', 'truth': None},
        'options': {'alignment.max_depth': 100.0, 'seed': 0},
        'extrinsics': '/tf_static of the bag',
        'scoring': {'fit_every': 8, 'held_out': 'rings'},
    }
    return EvaluationRun({'schema': 1, 'provenance': provenance}, rows)


def compared(a, b):
    return compare_runs(a, b)


@pytest.fixture
def errors():
    """Hard and easy frames: between frames errors differ far more than between the runs."""
    return 0.1 + 0.05 * np.sin(np.arange(N) / 9)


def test_a_planted_gain_is_found_with_its_size_and_sign(errors):
    noise = np.random.default_rng(3).normal(0, 0.01, N)
    a = run_of(errors, delta1=1 - errors, total_ms=np.full(N, 100.0))
    b = run_of(errors - 0.012 + noise, delta1=1 - errors + 0.02 + noise, total_ms=[110.0] * N)
    found = compared(a, b)
    values = found['protocols']['heldout']['metrics']['abs_rel']
    low, high = values['interval']
    assert low <= -0.012 <= high < 0
    assert values['difference'] == pytest.approx(values['b'] - values['a'], abs=1e-9)
    assert values['verdict'].startswith('B is better by 0.01')
    assert found['protocols']['heldout']['metrics']['delta1']['verdict'].startswith('B is better')
    assert found['latency']['verdict'] == 'B is slower by 10 [10, 10]'
    back = compared(b, a)['protocols']['heldout']['metrics']
    assert back['abs_rel']['verdict'].startswith('B is worse by 0.01')
    assert back['delta1']['verdict'].startswith('B is worse')


def test_chance_alone_mostly_shows_no_difference(errors):
    rng = np.random.default_rng(8)
    shown = 0
    for _ in range(60):
        a, b = (run_of(errors + rng.normal(0, 0.01, N)) for _ in 'ab')
        verdict = compared(a, b)['protocols']['heldout']['metrics']['abs_rel']['verdict']
        shown += verdict != 'no difference shown'
    assert shown <= 8  # 5 % of 60 is 3


def test_a_run_is_identical_to_itself(errors):
    found = compared(run_of(errors), run_of(errors))
    assert found['frames'] == {'paired': N, 'only_a': 0, 'only_b': 0}
    verdicts = [m['verdict'] for m in found['protocols']['heldout']['metrics'].values()]
    assert set(verdicts) == {'identical'}


def test_frames_are_paired_by_stamp_not_by_place(errors):
    b = run_of(errors)
    shifted = EvaluationRun(b.results, b.rows[5:])
    found = compared(run_of(errors), shifted)
    assert found['frames'] == {'paired': N - 5, 'only_a': 5, 'only_b': 0}
    assert found['protocols']['heldout']['metrics']['abs_rel']['verdict'] == 'identical'


def test_stamps_that_return_are_paired_in_their_order(errors):
    stamps = [i % 60 for i in range(N)]
    found = compared(run_of(errors, stamps=stamps), run_of(errors, stamps=stamps))
    assert found['frames']['paired'] == N
    assert found['protocols']['heldout']['metrics']['abs_rel']['verdict'] == 'identical'


def test_bags_with_equal_stamps_are_distinguished_by_hash(errors):
    def two_bags(order):
        run = run_of(errors)
        run.results['provenance']['bags'] = [{'name': 'x', 'sha256': order[i]} for i in (0, 1)]
        half = [{**row, 'bag': str(i // 60)} for i, row in enumerate(run.rows)]
        rows = [{**row, 'stamp_ns': str(i % 60)} for i, row in enumerate(half)]
        return rows, run.results

    rows, results = two_bags('pq')
    swapped, other = two_bags('qp')
    swapped = [{**row, 'bag': str(1 - int(row['bag']))} for row in swapped]
    found = compared(
        EvaluationRun(results, rows), EvaluationRun(other, swapped[60:] + swapped[:60])
    )
    assert found['frames']['paired'] == N
    assert found['protocols']['heldout']['metrics']['abs_rel']['verdict'] == 'identical'


def test_frames_scored_in_one_run_are_reported_not_counted(errors):
    gaps = errors.copy()
    gaps[:7] = np.nan
    scores = compared(run_of(errors), run_of(gaps))['protocols']['heldout']
    assert (scores['only_a'], scores['only_b']) == (7, 0)
    assert scores['metrics']['abs_rel']['n_frames'] == N - 7
    assert scores['metrics']['abs_rel']['verdict'] == 'identical'


@pytest.mark.parametrize(
    ('path', 'value', 'reason'),
    [
        (('bags', 0, 'sha256'), 'other', 'other bags: A is of drive, B of drive'),
        (('topics', 'lidar'), '/other', "topic of lidar is '/scan' in A and '/other' in B"),
        (('scoring', 'fit_every'), 4, 'fit_every is 8 in A and 4 in B'),
        (('scoring', 'held_out'), 'azimuth', "held_out is 'rings' in A and 'azimuth' in B"),
        (('options', 'alignment.max_depth'), 50.0, 'alignment.max_depth is 100.0 in A'),
        (('extrinsics',), 'given', 'extrinsics is'),
    ],
)
def test_what_was_scored_differently_is_refused_and_named(errors, path, value, reason):
    a, b = run_of(errors), run_of(errors)
    results = deepcopy(b.results)
    place = results['provenance']
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(InputError) as refusal:
        compared(a, EvaluationRun(results, b.rows))
    assert reason in str(refusal.value)


def test_bias_is_higher_or_lower_never_better():
    a, b = run_of(np.full(N, 0.1)), run_of(np.full(N, 0.1))
    for run, bias in ((a, '-0.2'), (b, '0.3')):
        for row in run.rows:
            row['heldout_bias'] = bias
    found = compared(a, b)['protocols']['heldout']['metrics']['bias']
    assert found['verdict'] == 'B is higher by 0.5 [0.5, 0.5]'


def test_few_frames_say_nothing():
    found = compared(run_of(np.full(5, 0.1)), run_of(np.full(5, 0.2)))
    values = found['protocols']['heldout']['metrics']['abs_rel']
    assert values['difference'] == pytest.approx(0.1)
    assert values['verdict'] == 'too few frames to tell'


def test_settings_of_the_model_may_differ(errors):
    b = run_of(errors)
    b.results['provenance']['options']['seed'] = 1
    assert compared(run_of(errors), b)['frames']['paired'] == N


def test_other_points_are_refused_even_where_no_setting_tells(errors):
    b = run_of(errors)
    b.rows[3].update(heldout_n='900')
    with pytest.raises(InputError, match=r'other points in 1 of 120 frames \(first: 1000 in A, 9'):
        compared(run_of(errors), b)
    # The same truth with fewer predictions is a difference of the depth, reported as coverage:
    # they are left out (``oracle``, ``raw``) or have a substitute (``heldout``, ``truth``).
    for n in ('900', '1000'):
        b.rows[3].update(heldout_n=n, heldout_coverage='0.9')
        assert compared(run_of(errors), b)['frames']['paired'] == N


def test_results_that_left_missing_depth_out_are_refused(errors):
    b = run_of(errors)
    b.results['provenance']['scoring']['missing_depth'] = 'nearest fit point'
    with pytest.raises(
        InputError, match="missing_depth is None in A and 'nearest fit point' in B"
    ):
        compared(run_of(errors), b)


def test_nothing_in_common_is_refused(errors):
    with pytest.raises(InputError, match='no frame is in both'):
        compared(run_of(errors), run_of(errors, stamps=range(500, 500 + N)))
