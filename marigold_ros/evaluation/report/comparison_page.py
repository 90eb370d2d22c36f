# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The page of a comparison: verdicts, and the errors of both runs over the paired frames."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from marigold_ros.evaluation.report.html_page import make_page
from marigold_ros.evaluation.report.tables import number
from marigold_ros.evaluation.results.comparison import LATENCY, paired_columns, Run


def comparison_page(
    found: Mapping[str, Any], names: tuple[str, str], runs: tuple[Run, Run]
) -> str:
    """
    Make the page.

    Parameters
    ----------
    found : mapping
        As ``compare_runs`` gives it.
    names : (str, str)
        What to call A and B; plain text.
    runs : (Run, Run)
        What was compared.

    Returns
    -------
    str
        The HTML document; it needs nothing beside it.

    """
    title = f'{names[1]} against {names[0]}'
    frames = found['frames']
    charts = _charts(found, names, runs)
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p class="lead">A is {escape(names[0])}, B is {escape(names[1])}. {frames["paired"]} '
        f'frames paired by bag and stamp; only in A {frames["only_a"]}, only in B '
        f'{frames["only_b"]}. Differences are B minus A, means over frames, with 95 % intervals '
        'of a block bootstrap.</p>',
    ]
    for protocol, scores in found['protocols'].items():
        parts.append(f'<section><h2>{escape(protocol)}</h2>{_figure(protocol, charts)}')
        parts.append(f'<div class="panel">{_table(scores["metrics"])}</div>')
        if scores['only_a'] or scores['only_b']:
            parts.append(
                f'<p class="warning">Not counted: {scores["only_a"]} frames that only A could '
                f'score, {scores["only_b"]} that only B could.</p>'
            )
        parts.append('</section>')
    if found['latency']:
        parts.append(f'<section><h2>Milliseconds a frame</h2>{_figure(LATENCY, charts)}')
        parts.append(f'<div class="panel">{_table({"total": found["latency"]})}</div></section>')
    return make_page(title, '\n'.join(parts), {'charts': charts, 'cloud': None})


def _figure(name: str, charts: Mapping[str, Mapping[str, Any]]) -> str:
    return (
        f'<figure class="chart panel" data-chart="{escape(name)}">'
        f'<figcaption>{escape(charts[name]["title"])}</figcaption></figure>'
    )


def _table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, values in metrics.items():
        low, high = values['interval']
        cells = [f'<td>{number(values[key], 4)}</td>' for key in ('a', 'b', 'difference')]
        cells.append(f'<td>{number(low, 4)} to {number(high, 4)}</td>')
        own = ' class="own"' if values['verdict'].startswith('B is') else ''
        verdict = escape(values['verdict'])
        lines.append(f'<tr{own}><td>{escape(name)}</td>{"".join(cells)}<td>{verdict}</td></tr>')
    heads = ('metric', 'A', 'B', 'B − A', '95 % interval', 'verdict')
    head = ''.join(f'<th>{text}</th>' for text in heads)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _charts(
    found: Mapping[str, Any], names: tuple[str, str], runs: tuple[Run, Run]
) -> dict[str, dict[str, Any]]:
    columns = {name: (f'{name}_abs_rel', f'AbsRel ({name})', '') for name in found['protocols']}
    if found['latency']:
        columns[LATENCY] = (LATENCY, 'Time a frame', 'ms')
    charts = {}
    for name, (column, title, unit) in columns.items():
        places, *values = paired_columns(column, *runs)
        charts[name] = {
            'title': title,
            'x_label': 'frame',
            'x': places,
            'whole': True,
            'linked': True,
            'zero': True,
            'unit': unit,
            'curves': [
                {'name': f'{side}: {text}', 'values': curve}
                for side, text, curve in zip('AB', names, values, strict=True)
            ],
        }
    return charts
