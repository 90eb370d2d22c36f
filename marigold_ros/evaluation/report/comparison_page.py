# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The page of a comparison: verdicts, and the errors of both runs over the paired frames."""

from collections.abc import Mapping
from html import escape
from typing import Any

from marigold_ros.evaluation.report.charts import chart_figure, frame_chart, Spec
from marigold_ros.evaluation.report.html_page import make_page
from marigold_ros.evaluation.report.tables import comparison_table
from marigold_ros.evaluation.results.comparison import EvaluationRun, LATENCY, paired_columns


def comparison_page(
    found: Mapping[str, Any], names: tuple[str, str], runs: tuple[EvaluationRun, EvaluationRun]
) -> str:
    """
    Return the page of a comparison.

    Parameters
    ----------
    found : mapping
        As ``compare_runs`` returns it.
    names : (str, str)
        Names of A and B; plain text.
    runs : (EvaluationRun, EvaluationRun)
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
        parts.append(_section(protocol, protocol, charts, scores['metrics']))
        if scores['only_a'] or scores['only_b']:
            parts.append(
                f'<p class="warning">Not counted: {scores["only_a"]} frames scored in A only, '
                f'{scores["only_b"]} in B only.</p>'
            )
    if found['latency']:
        metrics = {'total': found['latency']}
        parts.append(_section('Milliseconds per frame', LATENCY, charts, metrics))
    return make_page(title, '\n'.join(parts), {'charts': charts, 'cloud': None})


def _section(
    title: str, chart: str, charts: Mapping[str, Spec], metrics: Mapping[str, Mapping[str, Any]]
) -> str:
    return (
        f'<section><h2>{escape(title)}</h2>{chart_figure(chart, charts[chart])}'
        f'<div class="panel">{comparison_table(metrics)}</div></section>'
    )


def _charts(
    found: Mapping[str, Any], names: tuple[str, str], runs: tuple[EvaluationRun, EvaluationRun]
) -> dict[str, Spec]:
    columns = {name: (f'{name}_abs_rel', f'AbsRel ({name})', '') for name in found['protocols']}
    if found['latency']:
        columns[LATENCY] = (LATENCY, 'Time per frame', 'ms')
    charts = {}
    for name, (column, title, unit) in columns.items():
        places, *values = paired_columns(column, *runs)
        sides = (f'{side}: {text}' for side, text in zip('AB', names, strict=True))
        curves = dict(zip(sides, values, strict=True))
        charts[name] = frame_chart(title, places, curves, unit=unit)
    return charts
