# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A comparison as text for other programs: CSV with all figures, and a table for LaTeX."""

from collections.abc import Iterator, Mapping, Sequence
import csv
import io
from typing import Any

from marigold_ros.errors import counted, number
from marigold_ros.evaluation.metrics.intervals import TOO_FEW
from marigold_ros.evaluation.metrics.metric_table import COMPARED
from marigold_ros.evaluation.results.comparison import FIGURES, IDENTICAL, LATENCY, SAME

# Metrics of the leaderboard and their decimals.
SHOWN = {'abs_rel': 3, 'rmse': 2, 'mae': 2, 'p50_abs_error': 2, 'delta1': 3, LATENCY: 0}
_OF_DIFFERENCE = ('difference', 'low', 'high', 'outcome')
_ARROWS = {'lower': r'$\downarrow$', 'higher': r'$\uparrow$', 'zero': ''}
_SPECIAL = {
    **{letter: f'\\{letter}' for letter in '&%$#_{}'},
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '"': r'\textquotedbl{}',
    'δ': r'$\delta$',
}


def sign_of(outcome: str) -> str:
    """Return the sign of an outcome: + better than the best run, = not shown to differ from it."""
    if outcome in (SAME, IDENTICAL) or outcome.startswith(TOO_FEW):
        return '='
    return '+' if outcome.startswith(('better', 'faster')) else ''


def csv_table(found: Mapping[str, Any]) -> str:
    """Return every row of a comparison by ``compare_runs`` as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    compared = [f'{metric}_{part}' for metric in COMPARED for part in _OF_DIFFERENCE]
    heads = ('protocol', 'bag', 'rank', 'kind', 'name', 'checkpoint', 'n_frames')
    writer.writerow([*heads, *FIGURES, *compared])
    for protocol, bag, rows in _boards(found):
        for row in rows:
            metrics = row['metrics']
            checkpoint = found['runs'][row['name']]['checkpoint'] if row['kind'] == 'run' else ''
            first = [protocol, bag, row['rank'], row['kind'], row['name'], checkpoint]
            first.append(metrics['abs_rel']['n_frames'])
            means = [metrics.get(name, {}).get('mean', '') for name in FIGURES]
            differences = (_difference(metrics.get(metric)) for metric in COMPARED)
            writer.writerow([*first, *means, *(cell for part in differences for cell in part)])
    return text.getvalue()


def _boards(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Yield protocol, bag ('' for all) and rows."""
    for protocol, board in found['protocols'].items():
        yield protocol, '', board['rows']
        for part in board['bags']:
            yield protocol, part['bag'], part['rows']


def _difference(values: Mapping[str, Any] | None) -> list[Any]:
    if not values:
        return [''] * len(_OF_DIFFERENCE)
    return [values['difference'], *values['difference_interval'], values['outcome']]


def latex_table(found: Mapping[str, Any]) -> str:
    """
    Return the leaderboards as a LaTeX tabular without packages.

    The best figure of each column is bold, and an equals sign marks rows that are not shown to
    differ from the best run in AbsRel.
    """
    rows = (row for board in found['protocols'].values() for row in board['rows'])
    measured = {metric for row in rows for metric in row['metrics']}
    used = [metric for metric in SHOWN if metric in measured]
    shown = (FIGURES[metric] for metric in used)
    heads = (f'{latex_escape(one.title)} {_ARROWS[one.better]}'.strip() for one in shown)
    lines = [
        f'% {found["frames"]} frames; = is not shown to differ from the best run (95 %)',
        rf'\begin{{tabular}}{{l{"r" * len(used)}}}',
        r'\hline',
        rf'& {" & ".join(heads)} \\',
    ]
    for protocol, board in found['protocols'].items():
        frames = f'{latex_escape(protocol)}, {counted(board["n_frames"], "frame")}'
        lines += [r'\hline', rf'\multicolumn{{{len(used) + 1}}}{{l}}{{{frames}}} \\', r'\hline']
        best = {metric: _best(metric, board['rows']) for metric in used}
        for row in board['rows']:
            mark = ' $=$' if sign_of(row['outcome']) == '=' else ''
            name = row['name'].replace('_', ' ') if row['kind'] == 'baseline' else row['name']
            cells = [_cell(metric, row, best[metric]) for metric in used]
            lines.append(rf'{latex_escape(name)}{mark} & {" & ".join(cells)} \\')
    return '\n'.join([*lines, r'\hline', r'\end{tabular}', ''])


def latex_escape(text: str) -> str:
    """Return plain text as LaTeX; control characters become spaces."""
    printable = (letter if letter.isprintable() else ' ' for letter in text)
    return ''.join(_SPECIAL.get(letter, letter) for letter in printable)


def _best(metric: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the best figure of a column as it is printed."""
    means = [row['metrics'][metric]['mean'] for row in rows if metric in row['metrics']]
    if not means:
        return ''
    best = max if FIGURES[metric].better == 'higher' else min
    return number(best(means), SHOWN[metric])


def _cell(metric: str, row: Mapping[str, Any], best: str) -> str:
    values = row['metrics'].get(metric)
    if not values:
        return '--'
    text = number(values['mean'], SHOWN[metric])
    return rf'\textbf{{{text}}}' if text == best else text
