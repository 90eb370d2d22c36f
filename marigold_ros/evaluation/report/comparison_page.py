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
    """Return the HTML document of ``found``, by `compare_runs` of two named runs."""
    title, frames = f'{names[1]} against {names[0]}', found['frames']
    parts = [
        f'<h1>{escape(title)}</h1>',
        f'<p class="lead">A is {escape(names[0])}, B is {escape(names[1])}. {frames["paired"]} '
        f'frames paired by bag and stamp; only in A {frames["only_a"]}, only in B '
        f'{frames["only_b"]}. Differences are B minus A, means over frames, with 95 % intervals '
        'of a block bootstrap.</p>',
    ]
    charts = {}
    for name, scores in found['protocols'].items():
        charts[name] = _chart(f'{name}_abs_rel', f'AbsRel ({name})', '', names, runs)
        parts.append(_section(name, chart_figure(name, charts[name]), scores['metrics']))
        if scores['only_a'] or scores['only_b']:
            parts.append(
                f'<p class="warning">Not counted: {scores["only_a"]} frames scored in A only, '
                f'{scores["only_b"]} in B only.</p>'
            )
    if found['latency']:
        charts[LATENCY] = _chart(LATENCY, 'Time per frame', 'ms', names, runs)
        figure = chart_figure(LATENCY, charts[LATENCY])
        parts.append(_section('Milliseconds per frame', figure, {'total': found['latency']}))
    return make_page(title, '\n'.join(parts), {'charts': charts, 'cloud': None})


def _section(title: str, figure: str, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    table = f'<div class="panel">{comparison_table(metrics)}</div>'
    return f'<section><h2>{escape(title)}</h2>{figure}{table}</section>'


def _chart(
    column: str,
    title: str,
    unit: str,
    names: tuple[str, str],
    runs: tuple[EvaluationRun, EvaluationRun],
) -> Spec:
    places, *values = paired_columns(column, *runs)
    sides = (f'{side}: {name}' for side, name in zip('AB', names, strict=True))
    return frame_chart(title, places, dict(zip(sides, values, strict=True)), unit=unit)
