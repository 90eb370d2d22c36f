# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""A comparison as text for other programs: CSV with all figures, and a table for LaTeX."""

from collections.abc import Iterator, Mapping, Sequence
import csv
import io
from typing import Any

from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.results.comparison import IDENTICAL, LATENCY, SAME

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


def metric_title(metric: str) -> str:
    """Return the label of a metric with its unit; that of the time too."""
    return METRICS[metric].title if metric in METRICS else 'time, ms'


def sign_of(outcome: str) -> str:
    """Return the sign of an outcome: + better than the best run, = not shown to differ from it."""
    if outcome in (SAME, IDENTICAL):
        return '='
    return '+' if outcome.startswith(('better', 'faster')) else ''


def csv_table(found: Mapping[str, Any]) -> str:
    """
    Return every row of a comparison as CSV.

    Parameters
    ----------
    found : mapping
        As ``compare_runs`` returns it.

    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    columns = (*METRICS, LATENCY)
    compared = [f'{metric}_{part}' for metric in COMPARED for part in _OF_DIFFERENCE]
    heads = ('protocol', 'bag', 'rank', 'kind', 'name', 'checkpoint', 'n_frames')
    writer.writerow([*heads, *columns, *compared])
    for protocol, bag, rows in _boards(found):
        for row in rows:
            metrics = row['metrics']
            checkpoint = found['runs'].get(row['name'], {}).get('checkpoint')
            is_run = row['kind'] == 'run'
            first = [protocol, bag, row['rank'], row['kind'], row['name']]
            first += [checkpoint if is_run else '', metrics['abs_rel']['n_frames']]
            means = [metrics.get(name, {}).get('mean', '') for name in columns]
            writer.writerow([*first, *means, *_differences(metrics)])
    return text.getvalue()


def _boards(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Yield protocol, bag ('' for all) and rows."""
    for protocol, board in found['protocols'].items():
        yield protocol, '', board['rows']
        for part in board['bags']:
            yield protocol, part['bag'], part['rows']


def _differences(metrics: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    cells: list[Any] = []
    for metric in COMPARED:
        values = metrics.get(metric)
        if values:
            cells += [values['difference'], *values['difference_interval'], values['outcome']]
        else:
            cells += [''] * len(_OF_DIFFERENCE)
    return cells


def latex_table(found: Mapping[str, Any]) -> str:
    """
    Return the leaderboards as a LaTeX tabular without packages.

    The best figure of each column is bold, and an equals sign marks rows that are not shown to
    differ from the best run in AbsRel.
    """
    used = [metric for metric in SHOWN if _is_used(metric, found)]
    heads = (f'{_latex_title(metric)} {_direction(metric)}'.strip() for metric in used)
    lines = [
        f'% {found["frames"]} frames; = is not shown to differ from the best run (95 %)',
        rf'\begin{{tabular}}{{l{"r" * len(used)}}}',
        r'\hline',
        rf'& {" & ".join(heads)} \\',
    ]
    for protocol, board in found['protocols'].items():
        frames = f'{latex_escape(protocol)}, {board["n_frames"]} frames'
        lines += [r'\hline', rf'\multicolumn{{{len(used) + 1}}}{{l}}{{{frames}}} \\', r'\hline']
        best = {metric: _best(metric, board['rows']) for metric in used}
        for row in board['rows']:
            mark = ' $=$' if row['outcome'] in (SAME, IDENTICAL) else ''
            name = row['name'].replace('_', ' ') if row['kind'] == 'baseline' else row['name']
            cells = [_cell(metric, row, best[metric]) for metric in used]
            lines.append(rf'{latex_escape(name)}{mark} & {" & ".join(cells)} \\')
    return '\n'.join([*lines, r'\hline', r'\end{tabular}', ''])


def latex_escape(text: str) -> str:
    """Return plain text as LaTeX; control characters become spaces."""
    printable = (letter if letter.isprintable() else ' ' for letter in text)
    return ''.join(_SPECIAL.get(letter, letter) for letter in printable)


def _is_used(metric: str, found: Mapping[str, Any]) -> bool:
    return any(metric in row['metrics'] for _, _, rows in _boards(found) for row in rows)


def _latex_title(metric: str) -> str:
    return latex_escape(metric_title(metric))


def _direction(metric: str) -> str:
    return _ARROWS[METRICS[metric].better if metric in METRICS else 'lower']


def _best(metric: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the best figure of a column as it is printed."""
    means = [row['metrics'][metric]['mean'] for row in rows if metric in row['metrics']]
    if not means:
        return ''
    higher = metric in METRICS and METRICS[metric].better == 'higher'
    return f'{(max if higher else min)(means):.{SHOWN[metric]}f}'


def _cell(metric: str, row: Mapping[str, Any], best: str) -> str:
    values = row['metrics'].get(metric)
    if not values:
        return '--'
    text = f'{values["mean"]:.{SHOWN[metric]}f}'
    return rf'\textbf{{{text}}}' if text == best else text
