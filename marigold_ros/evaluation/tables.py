# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The figures of the report as HTML: sentence, tables and chart made from results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
import math
from typing import Any

from marigold_ros.evaluation.chart import line_chart

_COLUMNS = (
    ('abs_rel', 'AbsRel', 3),
    ('rmse', 'RMSE, m', 2),
    ('mae', 'MAE, m', 2),
    ('delta1', 'δ<sub>1</sub>', 3),
    ('silog', 'SILog', 1),
    ('coverage', 'scored share', 3),
)
_PROTOCOL_TEXT = {
    'heldout': 'this model, fitted to every {every}th {part}, scored at those between',
    'truth': 'this model, fitted to all LiDAR points, scored at the dense truth',
    'oracle': 'this model, scale and shift fitted to the truth itself (a bound, not a result)',
    'raw': "this model's own metres, not fitted to anything",
}
_PART_TEXT = {'rings': 'scan line', 'azimuth': 'degree of azimuth'}
_BASELINE_TEXT = {
    'constant': 'best constant depth',
    'plane': 'best plane over the image',
    'quadric': 'best quadric over the image',
    'nearest': 'nearest LiDAR point',
    'linear': 'LiDAR interpolated linearly',
    'mean_map': 'mean depth of the frames so far, by place in the picture',
    'global': 'this model with one scale and shift, without the local field',
}


def frames_sentence(results: Mapping[str, Any]) -> str:
    """Say how many frames were read, processed, metric, dropped and rejected."""
    frames = results['frames']
    rejected = ', '.join(f'{n} {cause}' for cause, n in frames['rejected'].items())
    text = (
        f'{frames["read"]} pictures read, {frames["processed"]} processed, {frames["metric"]} '
        f'with metric depth, {frames["dropped"]} dropped, '
        + (f'rejected: {rejected}.' if rejected else 'none rejected.')
    )
    reason = results['provenance'].get('scoring', {}).get('first_not_metric')
    if reason:
        text += f' First reason for a frame without metric depth: {reason}.'
    return f'<p>{escape(text)}</p>'


def accuracy_table(results: Mapping[str, Any]) -> str:
    """Put model and baselines under one heading, macro figures."""
    scoring = results['provenance'].get('scoring', {})
    part = _PART_TEXT[scoring.get('held_out', 'rings')]
    words = {'every': scoring.get('fit_every', 8), 'part': part}
    head = ''.join(f'<th>{text}</th>' for _, text, _ in _COLUMNS)
    lines = []
    for name, scores in results['protocols'].items():
        text = _PROTOCOL_TEXT.get(name, name).format(**words)
        macro = {**scores['macro'], 'median_abs_rel': scores['median_abs_rel']}
        cells = _cells(macro) + f'<td>{scores["n_frames"]}</td><td>{scores["n_points"]}</td>'
        lines.append(f'<tr class="own"><td>{escape(text)}</td>{cells}</tr>')
    protocol = scoring.get('baselines_protocol', '')
    for name, values in results['baselines'].items():
        text = _BASELINE_TEXT.get(name, name)
        lines.append(f'<tr><td>{escape(text)}</td>{_cells(values)}<td></td><td></td></tr>')
    if not lines:
        return '<p>No frame could be scored: there is neither LiDAR in view nor dense truth.</p>'
    note = (
        'The baselines see the same LiDAR points as the fit in '
        f'«{_PROTOCOL_TEXT[protocol]}» and are scored at the same pixels.'.format(**words)
        if results['baselines']
        else ''
    )
    return (
        '<h2>Accuracy</h2><div class="wide"><table><tr><th>what</th><th>median</th>'
        f'{head}<th>frames</th><th>points</th></tr>{"".join(lines)}</table></div>'
        f'<p class="note">Means over frames; «median» is that of all points. {escape(note)}</p>'
    )


def _cells(values: Mapping[str, Any]) -> str:
    cells = [_number(values.get('median_abs_rel'), 3)]
    cells += [_number(values.get(name), digits) for name, _, digits in _COLUMNS]
    return ''.join(f'<td>{cell}</td>' for cell in cells)


def _number(value: Any, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return '–'
    return f'{value:.{digits}f}'


def error_chart(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the error over the frames beside quadric and interpolation."""
    protocol = results['provenance'].get('scoring', {}).get('baselines_protocol', 'heldout')
    names = {
        'this model': f'{protocol}_abs_rel',
        'best quadric': f'{protocol}_quadric_abs_rel',
        'LiDAR interpolated': f'{protocol}_linear_abs_rel',
    }
    curves = {text: [float(row.get(key, math.nan)) for row in rows] for text, key in names.items()}
    chart = line_chart(curves, 'frame', 'AbsRel')
    return f'<h2>Error by frame ({escape(protocol)})</h2>{chart}' if chart else ''


def latency_table(results: Mapping[str, Any]) -> str:
    """List the percentiles of each stage."""
    if not results['latency_ms']:
        return ''
    names = ('p50', 'p95', 'p99', 'max')
    lines = ''.join(
        f'<tr><td>{escape(stage)}</td>'
        + ''.join(f'<td>{_number(values.get(name), 1)}</td>' for name in names)
        + '</tr>'
        for stage, values in results['latency_ms'].items()
    )
    head = ''.join(f'<th>{name}</th>' for name in names)
    machine = results['provenance'].get('machine', {})
    place = f'{machine.get("processor", "")}, {machine.get("cores", "?")} cores'
    return (
        f'<h2>Milliseconds a frame</h2><div class="wide"><table><tr><th>stage</th>{head}</tr>'
        f'{lines}</table></div><p class="note">{escape(place)}</p>'
    )
