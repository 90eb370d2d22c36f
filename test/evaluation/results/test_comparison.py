# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Runs with planted differences, and runs that must not be compared, or in part."""

from copy import deepcopy
import csv
import io
import re

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.errors import InputError
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.report.comparison_page import comparison_page
from marigold_ros.evaluation.results.comparison import compare_runs, name_runs, outcome
from marigold_ros.evaluation.results.comparison_tables import (
    csv_table,
    latex_escape,
    latex_table,
    sign_of,
)
from marigold_ros.evaluation.results.shared_frames import EvaluationRun, share_frames
import numpy as np
import pytest
from scipy import stats

N = 120
# Options, beside the largest depth, that decide which points are scored.
OF_POINTS = (
    *('alignment.min_depth', 'alignment.occlusion_window', 'alignment.occlusion_threshold'),
    *('lidar.max_dt', 'lidar.time_offset', 'lidar.fixed_frame'),
)


def run_of(abs_rel, delta1=None, total_ms=None, stamps=None, **columns):
    n = len(abs_rel)
    slow = np.random.default_rng(9).uniform(90, 110, n)
    rows = [
        {
            'stamp_ns': str((range(n) if stamps is None else stamps)[i] * 100_000_000),
            'heldout_abs_rel': f'{abs_rel[i]:.6g}' if np.isfinite(abs_rel[i]) else '',
            'heldout_delta1': '' if delta1 is None else f'{delta1[i]:.6g}',
            'heldout_n': '1000',
            'heldout_coverage': '1',
            'total_ms': f'{slow[i] if total_ms is None else total_ms[i]:.6g}',
            **{f'heldout_{name}': f'{values[i]:.6g}' for name, values in columns.items()},
        }
        for i in range(n)
    ]
    provenance = {
        'bags': [{'name': 'drive', 'sha256': 'abc', 'bytes': 1}],
        'topics': {'image': '/image', 'camera_info': '/info', 'lidar': '/scan', 'truth': None},
        'checkpoint': {'name': 'model', 'space': 'depth'},
        'options': {'alignment.max_depth': 100.0, 'seed': 0},
        'extrinsics': 'transforms of the bag',
        'scoring': {'fit_every': 8, 'held_out': 'rings'},
    }
    return EvaluationRun({'schema': 1, 'provenance': provenance}, rows)


def baseline_of(errors):
    """Columns of the baseline plane, in every metric that is compared."""
    return {f'plane_{metric}': errors for metric in COMPARED}


def compared(*runs, **named):
    return compare_runs(share_frames(dict(zip('ABCDEFGH', runs, strict=False), **named)))


def rows_of(found, protocol='heldout'):
    return {row['name']: row for row in found['protocols'][protocol]['rows']}


@pytest.fixture
def errors():
    """Hard and easy frames: between frames errors differ far more than between the runs."""
    return 0.1 + 0.05 * np.sin(np.arange(N) / 9)


def test_a_planted_gain_is_found_with_its_size_and_sign(errors):
    noise = np.random.default_rng(3).normal(0, 0.01, N)
    a = run_of(errors, delta1=1 - errors, total_ms=np.full(N, 100.0))
    b = run_of(errors - 0.012 + noise, delta1=1 - errors + 0.02 + noise, total_ms=[110.0] * N)
    rows = rows_of(compared(a, b))
    assert (rows['B']['rank'], rows['B']['outcome'], rows['A']['rank']) == (1, 'best', 2)
    values = rows['A']['metrics']['abs_rel']
    low, high = values['difference_interval']
    assert 0 < low <= 0.012 <= high
    mean_b = rows['B']['metrics']['abs_rel']['mean']
    assert values['difference'] == pytest.approx(values['mean'] - mean_b, abs=1e-9)
    assert rows['A']['outcome'].startswith('worse by 0.01')
    assert rows['A']['metrics']['delta1']['outcome'].startswith('worse by 0.0')
    time = rows['A']['metrics']['total_ms']['outcome']
    assert (time, sign_of(time)) == ('faster by 10 [10, 10]', '+')


def test_the_interval_of_a_mean_keeps_to_what_the_metric_can_be(errors):
    shares = np.where(np.arange(N) % 9, 1.0, 0.9)
    shares[::40] = 0.0
    values = rows_of(compared(run_of(errors, shares), run_of(errors)))['A']['metrics']['delta1']
    low, high = values['interval']
    assert low < values['mean'] < high == 1.0
    worse = run_of(errors + 0.1, np.zeros(N))
    values = rows_of(compared(worse, run_of(errors, shares)))['A']['metrics']['delta1']
    assert values['difference_interval'] == [-high, -low]


def test_the_interval_agrees_with_an_independent_bootstrap_of_independent_frames():
    rng = np.random.default_rng(5)
    a, b = rng.uniform(0.1, 0.2, 400), rng.uniform(0.15, 0.25, 400)
    rows = rows_of(compared(run_of(a), run_of(b)))
    interval = rows['B']['metrics']['abs_rel']['difference_interval']
    other = stats.bootstrap((b - a,), np.mean, random_state=5, method='basic').confidence_interval
    width = other.high - other.low
    assert interval == pytest.approx([other.low, other.high], abs=0.25 * width)
    found = rows['B']['metrics']['abs_rel']['difference']
    assert found == pytest.approx(np.mean(b - a), abs=1e-6)


@given(st.permutations(range(4)), st.integers(0, 50))
def test_the_order_of_the_runs_changes_no_leaderboard(order, seed):
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.05, 0.2, (4, 40)).round(3)
    errors[2] = errors[1]  # a tie
    baseline = baseline_of(rng.uniform(0.05, 0.2, 40))
    runs = {f'run{i}': run_of(part, **baseline) for i, part in enumerate(errors)}
    one = compared(**runs)
    other = compared(**{f'run{i}': runs[f'run{i}'] for i in order})
    assert one['protocols'] == other['protocols']
    assert csv_table(one) == csv_table(other)
    rows = one['protocols']['heldout']['rows']
    means = [row['metrics']['abs_rel']['mean'] for row in rows]
    assert means == sorted(means)
    assert [row['rank'] for row in rows] == [1, 2, 3, 4, 5]


@pytest.mark.slow  # many comparisons
def test_chance_alone_mostly_shows_no_difference(errors):
    rng = np.random.default_rng(8)
    shown = 0
    for _ in range(60):
        rows = rows_of(compared(*(run_of(errors + rng.normal(0, 0.01, N)) for _ in 'ab')))
        shown += {row['outcome'] for row in rows.values()} != {'best', 'no difference shown'}
    assert shown <= 8  # 5 % of 60 is 3


def test_the_page_calls_none_of_identical_runs_the_best(errors):
    shared = share_frames({'A': run_of(errors), 'B': run_of(errors), 'C': run_of(2 * errors)})
    page = comparison_page(compare_runs(shared), shared)
    assert 'A and B have the smallest AbsRel at LiDAR points held out of the fit: 0.1' in page
    assert f'over {N} frames. C: worse by' in page


def test_other_models_with_the_same_figures_are_said_not_to_be_compared(errors):
    runs = {'A': run_of(errors), 'B': run_of(errors), 'C': run_of(2 * errors)}
    for name, run in runs.items():
        run.results['provenance']['checkpoint'] = {'name': name, 'sha256': name}
    (sentence,) = compared(**runs)['left_out']
    assert sentence.startswith('heldout: A and B are identical, as where the LiDAR leads')
    for run in runs.values():
        for row in run.rows:
            row.update(oracle_abs_rel='0.1', oracle_n='9', oracle_coverage='1')
    assert compared(**runs)['left_out'] == [sentence]  # the oracle depends on the model alone


def test_frames_are_paired_by_stamp_not_by_place(errors):
    b = run_of(errors)
    b.results['provenance']['bags'][0]['name'] = 'copy'
    b = EvaluationRun(b.results, b.rows[5:])
    found = compared(run_of(errors), b)
    assert found['bags'] == compared(b, run_of(errors))['bags'] == ['copy']  # the first by letter
    assert found['frames'] == N - 5
    assert found['left_out'] == ['Frames that not all runs have are left out: A 5.']
    assert rows_of(found)['B']['outcome'] == 'identical'


def test_stamps_that_return_are_paired_in_their_order(errors):
    stamps = [i % 60 for i in range(N)]
    a, b = (run_of(errors, stamps=stamps) for _ in 'AB')
    found = compared(a, b)
    assert (found['frames'], found['left_out'], found['differences']) == (N, [], {})
    assert [row['outcome'] for row in rows_of(found).values()] == ['identical'] * 2
    assert share_frames({'A': a, 'B': b}).rows['B'] == b.rows  # one turn after the other


def two_bags(errors, order):
    """Frames of two bags with equal stamps; the order of their hashes."""
    run = run_of(errors)
    bags = [{'name': f'bag_{name}', 'sha256': 64 * name} for name in order]
    run.results['provenance']['bags'] = bags
    rows = [
        {**row, 'bag': str(i // 60), 'stamp_ns': str(i % 60)} for i, row in enumerate(run.rows)
    ]
    return EvaluationRun(run.results, rows)


def test_bags_with_equal_stamps_are_distinguished_by_hash(errors):
    swapped = np.concatenate([errors[60:], errors[:60]])
    found = compared(two_bags(errors, 'pq'), two_bags(swapped, 'qp'))
    assert found['frames'] == N
    assert found['bags'] == ['bag_p', 'bag_q']
    assert rows_of(found)['B']['outcome'] == 'identical'


def test_bags_of_one_name_have_boards_of_their_own(errors):
    runs = two_bags(errors, 'pq'), two_bags(errors + 0.1, 'pq')
    for run in runs:
        for bag in run.results['provenance']['bags']:
            bag['name'] = 'drive'
    found = compared(*runs)
    assert found['bags'] == ['drive (pppppppp)', 'drive (qqqqqqqq)']
    assert [part['bag'] for part in found['protocols']['heldout']['bags']] == found['bags']


def test_bags_have_boards_of_their_own_and_only_shared_bags_count(errors):
    better = np.concatenate([errors[:60] - 0.02, errors[60:] + 0.03])
    found = compared(two_bags(errors, 'pq'), two_bags(better, 'pq'))
    boards = {part['bag']: part for part in found['protocols']['heldout']['bags']}
    assert boards['bag_p']['rows'][0]['name'] == 'B'
    assert boards['bag_q']['rows'][0]['name'] == 'A'
    assert boards['bag_q']['n_frames'] == 60
    assert boards['bag_q']['rows'][1]['metrics']['abs_rel']['difference'] == pytest.approx(0.03)
    table = list(csv.DictReader(io.StringIO(csv_table(found))))
    counts = [(row['bag'], row['n_frames']) for row in table[::2]]
    assert counts == [('', '120'), ('bag_p', '60'), ('bag_q', '60')]
    gone = np.where(np.arange(N) < 60, errors, np.nan)
    board = compared(two_bags(errors, 'pq'), two_bags(gone, 'pq'))['protocols']['heldout']
    assert ([part['bag'] for part in board['bags']], board['unscored']) == (['bag_p'], {'B': 60})
    other = compared(two_bags(errors, 'pq'), two_bags(better, 'pr'))
    assert other['bags'] == ['bag_p']
    assert other['left_out'] == ['Frames that not all runs have are left out: A 60, B 60.']


def test_frames_scored_in_one_run_are_reported_not_counted(errors):
    gaps = errors.copy()
    gaps[:7] = np.nan
    found = compared(run_of(errors), run_of(gaps), run_of(errors))
    board = found['protocols']['heldout']
    assert board['unscored'] == {'B': 7}
    assert board['n_frames'] == N - 7
    assert {row['metrics']['abs_rel']['n_frames'] for row in board['rows']} == {N - 7}
    assert {row['outcome'] for row in board['rows']} == {'identical'}


def test_baselines_of_the_same_points_are_rows(errors):
    plane = {**baseline_of(errors - 0.01), **dict.fromkeys(COMPARED[1:], errors)}
    found = compared(run_of(errors, **plane), run_of(errors + 0.01, **plane))
    rows = rows_of(found)
    assert list(rows) == ['plane', 'A', 'B']
    assert (rows['plane']['kind'], rows['A']['outcome']) == ('baseline', 'best')
    assert rows['plane']['outcome'].startswith('better by 0.01')
    assert set(rows['plane']['metrics']) == set(COMPARED)
    plane = baseline_of(errors)
    rows = rows_of(compared(run_of(errors, **plane), run_of(errors + 0.01, **plane)))
    assert (rows['plane']['outcome'], rows['A']['outcome']) == ('identical', 'best')


def test_frames_that_a_baseline_lacks_do_not_count(errors):
    gaps = baseline_of(np.where(np.arange(N) < 7, np.nan, errors))
    board = compared(run_of(errors, **gaps), run_of(errors, **gaps))['protocols']['heldout']
    assert (board['n_frames'], board['unscored']) == (N - 7, {'baselines': 7})


def test_baselines_of_other_points_are_left_out(errors):
    a, b = run_of(errors, **baseline_of(errors)), run_of(errors, **baseline_of(1.01 * errors))
    found = compared(a, b)
    assert list(rows_of(found)) == ['A', 'B']
    assert found['left_out'] == ['Baselines of heldout that are not the same in all runs: plane.']


def test_only_what_differs_of_model_and_settings_is_named(errors):
    a, b, c = (run_of(errors) for _ in 'abc')
    b.results['provenance']['options']['seed'] = 1
    runtime = {'backend': 'openvino', 'warm_up': ''}
    other = {'name': 'other', 'dtype': 'bfloat16', 'space': 'log', 'sha256': 64 * 'f'}
    c.results['provenance']['checkpoint'] |= other
    c.results['provenance']['checkpoint']['runtime'] = runtime
    found = compared(a, b, c)['differences']
    assert found == {
        'model': {'A': 'model', 'B': 'model', 'C': 'other'},
        'model.backend': {'A': None, 'B': None, 'C': 'openvino'},
        'model.dtype': {'A': None, 'B': None, 'C': 'bfloat16'},
        'model.sha256': {'A': '', 'B': '', 'C': 12 * 'f'},
        'model.space': {'A': 'depth', 'B': 'depth', 'C': 'log'},
        'seed': {'A': 0, 'B': 1, 'C': 0},
    }


def test_a_live_run_differs_from_a_replay_in_settings_alone(errors):
    replay, live = run_of(errors), run_of(errors)
    replay.results['provenance']['checkpoint']['parameters'] = 5
    live.results['provenance']['checkpoint']['parameters'] = '5'
    counters = {'node': {'frames.received': '8'}, 'recorded': {'points': 2}, 'rate': {'asked': 1}}
    live.results['provenance'] |= {**counters, 'mode': 'live'}
    assert compared(replay, live)['differences'] == {'mode': {'A': None, 'B': 'live'}}
    live.results['provenance']['machine'] = {'cores': 2}
    assert compared(replay, live)['left_out'] == ['Times are of different machines.']


def test_models_of_other_spaces_are_compared_in_metres_and_not_by_the_oracle(errors):
    a, b = run_of(errors), run_of(errors)
    for run, space in ((a, 'depth'), (b, 'disparity')):
        run.results['provenance']['scoring']['oracle'] = {'rule': 'own', 'text': space}
        for row in run.rows:
            row.update(oracle_abs_rel='0.1', oracle_n='9', oracle_coverage='1', space=space)
    found = compared(a, b)
    assert list(found['protocols']) == ['heldout']
    assert found['left_out'] == [
        'oracle is left out: it is fitted to the truth in the space of each model '
        '(A in depth, B in disparity).'
    ]
    for run in (a, b):  # images without LiDAR have nothing else
        for row in run.rows:
            row['heldout_abs_rel'] = ''
    found = compared(a, b)
    assert list(found['protocols']) == ['oracle']
    assert found['left_out'][0].startswith('oracle is fitted to the truth in the space of each')


def changed(run, path, value):
    """Return a copy of a run with another entry of its provenance."""
    results = deepcopy(run.results)
    place = results['provenance']
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return EvaluationRun(results, run.rows)


@pytest.mark.parametrize(
    ('path', 'value', 'reason'),
    [
        (
            ('bags', 0, 'sha256'),
            'other',
            'no frame is in all of them: A is of 120 frames of drive',
        ),
        (('topics', 'lidar'), '/other', "topic of lidar is '/scan' in A, '/other' in B"),
        (('scoring', 'fit_every'), 4, 'fit_every is 8 in A, 4 in B'),
        (('scoring', 'held_out'), 'azimuth', "held_out is 'rings' in A, 'azimuth' in B"),
        (('scoring', 'missing_depth'), 'nearest', "missing_depth is None in A, 'nearest' in B"),
        (('topics', 'camera_info'), '/other', "topic of camera_info is '/info' in A"),
        (('topics', 'image'), '/other', "topic of image is '/image' in A"),
        (('options', 'alignment.max_depth'), 50.0, 'alignment.max_depth is 100.0 in A'),
        *((('options', name), 0.1, f'{name} is None in A, 0.1 in B') for name in OF_POINTS),
        (('extrinsics',), 'given', 'extrinsics is'),
    ],
)
def test_what_was_scored_differently_is_refused_and_named(errors, path, value, reason):
    run = run_of(errors)
    with pytest.raises(InputError) as refusal:
        compared(run, changed(run, path, value), run)
    assert reason in str(refusal.value)


def test_a_protocol_that_differs_is_left_out_where_another_remains(errors):
    run = run_of(errors)
    for row in run.rows:
        row.update(raw_abs_rel='0.1', raw_n='9', raw_coverage='1')
    found = compared(run, changed(run, ('scoring', 'fit_every'), 4))
    assert list(found['protocols']) == ['raw']
    assert found['left_out'] == ['heldout is left out: fit_every is 8 in A, 4 in B.']
    found = compared(run, run_of(errors))
    assert list(found['protocols']) == ['heldout']
    assert found['left_out'] == ['raw is left out: B has no such scores.']


@pytest.mark.parametrize(
    ('protocol', 'path', 'value'),
    [
        ('truth', ('topics', 'truth'), '/depth'),
        ('raw', ('topics', 'truth'), '/depth'),
        ('oracle', ('topics', 'truth'), '/depth'),
        ('oracle', ('scoring', 'oracle'), {'rule': 'eigen', 'text': ''}),
    ],
)
def test_scores_of_another_truth_or_fit_are_left_out(errors, protocol, path, value):
    run = run_of(errors)
    for row in run.rows:
        row.update({f'{protocol}_{name}': '0.5' for name in ('abs_rel', 'n', 'coverage')})
    assert list(compared(run, run)['protocols']) == sorted(['heldout', protocol])
    found = compared(run, changed(run, path, value))
    assert list(found['protocols']) == ['heldout']
    assert found['left_out'][0].startswith(f'{protocol} is left out: ')


def test_bias_is_higher_or_lower_never_better():
    a, b = (run_of(np.full(N, error)) for error in (0.1, 0.2))
    for run, bias in ((a, '-0.2'), (b, '0.3')):
        for row in run.rows:
            row['heldout_bias'] = bias
    assert rows_of(compared(a, b))['B']['metrics']['bias']['outcome'] == 'higher by 0.5 [0.5, 0.5]'
    assert outcome(-2.0, -3.0, -1.0, 'bias') == 'lower by 2 [1, 3]'


def test_few_frames_say_nothing():
    found = compared(run_of(np.full(5, 0.1)), run_of(np.full(5, 0.2)))
    row = rows_of(found)['B']
    assert row['metrics']['abs_rel']['difference'] == pytest.approx(0.1)
    assert row['outcome'] == 'too few independent frames to tell (about 20 are needed)'
    # What has no sign is worse, by the legends.
    assert sign_of(row['outcome']) == '='
    assert 'B $=$ &' in latex_table(found)
    one = compared(run_of(np.full(1, 0.1)), run_of(np.full(1, 0.2)))
    assert '{heldout, 1 frame}' in latex_table(one)


def test_other_points_are_refused_even_where_no_setting_tells(errors):
    b = run_of(errors)
    b.rows[3].update(heldout_n='998')
    with pytest.raises(InputError, match='1000 in A, 998 in C'):
        compared(run_of(errors), run_of(errors), b)
    # The same truth with fewer predictions is a difference of the depth, reported as coverage:
    # they are left out (``oracle``, ``raw``) or have a substitute (``heldout``, ``truth``).
    for n in ('900', '1000'):
        b.rows[3].update(heldout_n=n, heldout_coverage='0.9')
        assert compared(run_of(errors), b)['frames'] == N
    a = run_of(errors)
    a.rows[3].update(heldout_n='123457')
    b.rows[3].update(heldout_n='41152', heldout_coverage='0.333331')  # of six digits
    assert compared(a, b)['frames'] == N


def test_nothing_in_common_is_refused(errors):
    with pytest.raises(InputError, match='120 frames of drive'):
        compared(run_of(errors), run_of(errors, stamps=range(500, 500 + N)))
    with pytest.raises(InputError, match='^none of them has a score; the report of each'):
        compared(*(run_of(np.full(N, np.nan)) for _ in 'AB'))
    gaps = [np.where(np.arange(N) % 2 == part, errors, np.nan) for part in (0, 1)]
    with pytest.raises(InputError) as refusal:
        compared(*map(run_of, gaps))
    assert refusal.value.cause == 'shape'


def test_runs_are_named_by_the_parts_that_differ(tmp_path):
    (tmp_path / 'x' / 'results.json').parent.mkdir()
    assert name_runs([tmp_path / 'x', tmp_path / 'y']) == ['x', 'y']
    assert name_runs([tmp_path / 'x' / 'results.json', tmp_path / 'y']) == ['x', 'y']
    assert name_runs(['/a/eval', '/b/eval']) == ['a/eval', 'b/eval']
    assert name_runs(['/a/eval', '/a/eval']) == ['eval (1)', 'eval (2)']


def test_the_csv_has_every_figure(errors):
    plane = baseline_of(errors + 0.2)
    runs = {'A': run_of(errors, 1 - errors, **plane), 'plane': run_of(errors + 0.01, **plane)}
    found = compared(**runs)
    table = list(csv.DictReader(io.StringIO(csv_table(found))))
    assert [(row['rank'], row['kind'], row['name'], row['checkpoint']) for row in table] == [
        ('1', 'run', 'A', 'model'),
        ('2', 'run', 'plane', 'model'),
        ('3', 'baseline', 'plane', ''),
    ]
    assert {*METRICS, 'total_ms'} <= table[0].keys()
    for row, expected in zip(table, found['protocols']['heldout']['rows'], strict=True):
        for metric, values in expected['metrics'].items():
            assert float(row[metric]) == values['mean']
        low, high = mean_interval(np.full(N, float(row['abs_rel_difference'])))
        assert (float(row['abs_rel_low']), float(row['abs_rel_high'])) == pytest.approx(
            (low, high), abs=1e-6
        )
    assert table[2]['delta1'] == table[2]['total_ms'] == ''


@given(st.text(max_size=30))
def test_an_escaped_name_is_that_name_in_latex(name):
    escaped = latex_escape(name)
    back = {'textbackslash': '\\', 'textasciitilde': '~', 'textasciicircum': '^'}
    back |= {'textless': '<', 'textgreater': '>', 'textbar': '|', 'textquotedbl': '"'}
    one = re.sub(
        r'\$\\delta\$|\\([a-z]+)\{\}|\\([&%$#_{}])',
        lambda m: back[m[1]] if m[1] else m[2] or 'δ',
        escaped,
    )
    assert one == ''.join(letter if letter.isprintable() else ' ' for letter in name)
    assert not re.search(r'(?<!\\)[&%#_^~]', escaped)


def test_the_latex_table_has_as_many_cells_in_each_row(errors):
    mean_map = {f'mean_map_{metric}': 2 * errors for metric in COMPARED}
    runs = {
        'a_b & c': run_of(errors, 1 - errors, mae=0.001 + 0 * errors, **mean_map),
        '100 %': run_of(errors + 0.01, 0.9 - errors, mae=0.004 + 0 * errors, **mean_map),
    }
    text = latex_table(compared(**runs))
    assert re.search(r'AbsRel \$\\downarrow\$ .*\$\\delta\$1 \$\\uparrow\$', text)
    assert '\nmean map & ' in text
    rows = [line for line in text.splitlines() if re.search(r'\\\\$', line)]
    rows = [line for line in rows if 'multicolumn' not in line]
    cells = {len(re.split(r'(?<!\\)&', line)) for line in rows}
    columns = re.search(r'begin\{tabular\}\{(\w+)\}', text)[1]
    assert cells == {len(columns)} == {5}
    best = r'\\textbf\{0\.1\d+\} & \\textbf\{0\.001\} & \\textbf\{0\.[89]'
    assert re.search(rf'a\\_b \\& c & {best}', text)
    assert re.search(r'100 \\% & 0\.\d+ & 0\.004 & 0\.', text)
