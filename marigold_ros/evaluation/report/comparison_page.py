# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The page of a comparison: what differs, a leaderboard for each protocol, and curves."""

from collections.abc import Iterable, Mapping, Sequence
import math
from typing import Any

from marigold_ros.errors import counted, number
from marigold_ros.evaluation.baselines import BASELINE_TEXT
from marigold_ros.evaluation.report.charts import (
    bag_marks,
    chart_figure,
    frame_chart,
    MOST_PLACES,
    Spec,
)
from marigold_ros.evaluation.report.comparison_images import images_section
from marigold_ros.evaluation.report.html_page import escape, make_page, scrolled, table
from marigold_ros.evaluation.report.tables import WHERE
from marigold_ros.evaluation.results.comparison import BEST, FIGURES, IDENTICAL, LATENCY
from marigold_ros.evaluation.results.comparison_tables import SHOWN, sign_of
from marigold_ros.evaluation.results.shared_frames import SharedFrames
import numpy as np

# More differences than these are folded.
_OPEN = 3
_LEGEND = (
    'Ordered by AbsRel; figures are means over the frames. = is not shown to differ from the best '
    'run, + is better than it in that figure (95 % intervals of the paired differences), '
    'everything else is worse.'
)


def comparison_page(found: Mapping[str, Any], shared: SharedFrames) -> str:
    """Return the HTML document of ``found``, by `compare_runs` of ``shared``."""
    title = f'{len(shared.runs)} runs compared'
    first = next(iter(found['protocols']))
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p class="lead">{escape(_conclusion(first, found["protocols"][first]))}</p>',
        ''.join(f'<p class="warning">{escape(text)}</p>' for text in found['left_out']),
        _differences(found['differences'], shared.runs),
        images_section(shared, first),
    ]
    charts = {}
    for protocol, board in found['protocols'].items():
        charts[protocol] = _chart(f'{protocol}_abs_rel', 'AbsRel, lower is better', '', shared)
        figure = chart_figure(protocol, charts[protocol])
        parts.append(_protocol(protocol, board, figure))
    charts[LATENCY] = _chart(LATENCY, 'Time per frame, ms', 'ms', shared)
    if any(x is not None for curve in charts[LATENCY]['curves'] for x in curve['values']):
        figure = chart_figure(LATENCY, charts[LATENCY])
        parts.append(f'<section><h2>Time</h2>{figure}</section>')
    return make_page(title, '\n'.join(parts), {'charts': charts, 'cloud': None})


def _conclusion(protocol: str, board: Mapping[str, Any]) -> str:
    """Say which run is best, and which are not shown to be worse."""
    rows = [row for row in board['rows'] if row['kind'] == 'run']
    mean = number(rows[0]['metrics']['abs_rel']['mean'], 3)
    where = WHERE.get(protocol, protocol)
    best = [row['name'] for row in rows if row['outcome'] in (BEST, IDENTICAL)]
    have = f'{" and ".join(best)} {"has" if len(best) == 1 else "have"}'
    text = (
        f'{have} the smallest AbsRel {where}: {mean} over {counted(board["n_frames"], "frame")}.'
    )
    others = [f'{row["name"]}: {row["outcome"]}' for row in rows if row['name'] not in best]
    text += f' {"; ".join(others)}.' if others else ''
    before = board['rows'][: rows[0]['rank'] - 1]
    if before:
        names = ', '.join(BASELINE_TEXT.get(row['name'], row['name']) for row in before)
        text += f' Ahead of all runs: {names}.'
    return text


def _differences(differences: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> str:
    """Return the table of model and settings in which the runs differ."""
    if not differences:
        return '<p>The runs differ in no setting.</p>'
    rows = [
        f'<tr><th scope="row">{escape(what)}</th>'
        + ''.join(
            f'<td data-head="{escape(name)}">{escape(_text(values[name]))}</td>' for name in names
        )
        + '</tr>'
        for what, values in differences.items()
    ]
    shown, more = (
        scrolled(table(('', *names), part, 'board differences'))
        for part in (rows[:_OPEN], rows[_OPEN:])
    )
    if rows[_OPEN:]:
        shown += f'<details><summary>{len(rows) - _OPEN} more</summary>{more}</details>'
    return f'<section><h2>What differs</h2><div class="panel">{shown}</div></section>'


def _text(value: Any) -> str:
    return '–' if value in (None, '') else str(value)


def _protocol(protocol: str, board: Mapping[str, Any], figure: str) -> str:
    parts = [f'<div class="panel">{_board(board["rows"])}<p class="note">{_LEGEND}</p></div>']
    if board['unscored']:
        counts = ', '.join(f'{name} {n}' for name, n in board['unscored'].items())
        parts.append(f'<p class="warning">Frames without a score, not counted: {counts}.</p>')
    parts.append(figure)
    for part in board['bags']:
        title = f'<h3>{escape(part["bag"])}, {counted(part["n_frames"], "frame")}</h3>'
        parts.append(f'<div class="panel">{title}{_board(part["rows"])}</div>')
    parts.append(_all_metrics(board['rows']))
    where = WHERE.get(protocol, protocol)
    title = f'{protocol}: {where}, {counted(board["n_frames"], "frame")}'
    return f'<section id="{protocol}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def _board(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a leaderboard; on a phone each row has its name above its figures."""
    used = [metric for metric in SHOWN if any(metric in row['metrics'] for row in rows)]
    body = []
    for row in rows:
        name, words = row['name'], row['outcome']
        kind = 'own' if words == BEST else ''
        if row['kind'] == 'baseline':
            name, words, kind = BASELINE_TEXT.get(name, name), f'baseline, {words}', 'baseline'
        cells = ''.join(_cell(metric, row['metrics'].get(metric)) for metric in used)
        body.append(
            f'<tr class="{kind}"><th scope="row"><b>{row["rank"]}. {escape(name)}</b>'
            f'<span>{escape(words)}</span></th>{cells}</tr>'
        )
    return table(('run', *(FIGURES[metric].title for metric in used)), body, 'board')


def _cell(metric: str, values: Mapping[str, Any] | None) -> str:
    """Return the cell of a mean with the sign of its difference from the best run."""
    if not values:
        return '<td class="none">–</td>'
    return (
        f'<td data-head="{escape(FIGURES[metric].title)}">'
        f'{number(values["mean"], SHOWN[metric])}<i>{sign_of(values["outcome"])}</i></td>'
    )


def _all_metrics(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return every metric of the runs with its difference from the best run, folded."""
    runs = [row for row in rows if row['kind'] == 'run']
    body = []
    for metric, figure in FIGURES.items():
        for row in runs:
            values = row['metrics'].get(metric)
            if values:
                low, high = values['difference_interval']
                cells = [row['name'], number(values['mean'], 4), number(values['difference'], 4)]
                cells += [f'{number(low, 4)} to {number(high, 4)}', values['outcome']]
                texts = ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
                body.append(f'<tr><th scope="row">{escape(figure.title)}</th>{texts}</tr>')
    heads = ('metric', 'run', 'mean', 'difference from the best run', '95 % interval', 'in words')
    return f'<details><summary>All metrics</summary>{scrolled(table(heads, body))}</details>'


def _chart(column: str, title: str, unit: str, shared: SharedFrames) -> Spec:
    stride = math.ceil(len(shared.bags) / MOST_PLACES) or 1
    curves = {}
    for run in shared.rows:
        values = shared.column(run, column)[::stride]
        curves[run] = [float(x) if np.isfinite(x) else None for x in values]
    places = list(range(0, len(shared.bags), stride))
    bags = list(shared.bags)[::stride]
    marks = bag_marks(bags)
    remarks = bags if marks else []
    return frame_chart(title, places, curves, unit=unit, remarks=remarks, marks=marks)
