# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The figures of the report as HTML: sentence, tables and bars made from results.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
import json
import math
from typing import Any

from marigold_ros.evaluation.report.html_bars import bar

_COLUMNS = (
    ('abs_rel', 'AbsRel', 3),
    ('rmse', 'RMSE, m', 2),
    ('mae', 'MAE, m', 2),
    ('bias', 'bias, m', 2),
    ('delta1', 'δ<sub>1</sub>', 3),
    ('silog', 'SILog', 1),
    ('coverage', 'scored share', 3),
)
_PROTOCOL_TEXT = {
    'heldout': 'fitted to every {every}th {part}, scored at those between',
    'truth': 'fitted to all LiDAR points, scored at the dense truth',
    'oracle': 'scale and shift fitted to the truth itself (a bound, not a result)',
    'raw': 'its own metres, not fitted to anything',
}
_PART_TEXT = {'rings': 'scan line', 'azimuth': 'degree of azimuth'}
BASELINE_TEXT = {
    'constant': 'best constant depth',
    'plane': 'best plane over the image',
    'quadric': 'best quadric over the image',
    'nearest': 'nearest LiDAR point',
    'linear': 'LiDAR interpolated linearly',
    'mean_map': 'mean depth of the frames so far, by place in the image',
    'global': 'this model with one scale and shift, without the local field',
}


def number(value: Any, digits: int) -> str:
    """Write a figure; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return '–'
    return f'{value:.{digits}f}'


def frames_sentence(results: Mapping[str, Any]) -> str:
    """Say how many frames were read, processed, metric, dropped and rejected."""
    frames = results['frames']
    rejected = ', '.join(f'{n} {cause}' for cause, n in frames['rejected'].items())
    text = (
        f'{frames["read"]} images read, {frames["processed"]} processed, {frames["metric"]} '
        f'with metric depth, {frames["dropped"]} dropped, '
        + (f'rejected: {rejected}.' if rejected else 'none rejected.')
    )
    return f'<p class="lead">{escape(text)}</p>'


def warnings_list(results: Mapping[str, Any]) -> str:
    """List what a reader must know before the figures."""
    provenance, texts = results['provenance'], []
    reason = provenance.get('scoring', {}).get('first_not_metric')
    if reason:
        texts.append(f'First reason for a frame without metric depth: {reason}')
    if (results.get('calibration') or {}).get('text'):
        texts.append(f'Calibration: {results["calibration"]["text"]}')
    for text, count in (provenance.get('warnings') or {}).items():
        texts.append(f'{count} frames: {text}')
    return ''.join(f'<p class="warning">{escape(text)}</p>' for text in texts)


def accuracy_table(results: Mapping[str, Any]) -> str:
    """Put models and baselines under one heading, macro figures."""
    scoring = results['provenance'].get('scoring', {})
    words = {
        'every': scoring.get('fit_every', 8),
        'part': _PART_TEXT.get(scoring.get('held_out', 'rings'), 'part'),
    }
    lines = list(_protocol_rows('this model', results['protocols'], words))
    for name, entry in (results.get('models') or {}).items():
        lines += _protocol_rows(name, entry.get('protocols', entry), words)
    for name, values in results['baselines'].items():
        text = escape(BASELINE_TEXT.get(name, name))
        lines.append(f'<tr><td>{text}</td>{_cells(values)}<td></td><td></td></tr>')
    if not lines:
        return '<p>No frame could be scored: there is neither LiDAR in view nor dense truth.</p>'
    protocol = scoring.get('baselines_protocol', '')
    note = (
        'The baselines see the same LiDAR points as the fit in '
        f'«{_PROTOCOL_TEXT[protocol]}» and are scored at the same pixels.'.format(**words)
        if results['baselines'] and protocol in _PROTOCOL_TEXT
        else ''
    )
    head = ''.join(f'<th>{text}</th>' for _, text, _ in _COLUMNS)
    return (
        f'<div class="wide"><table><tr><th>what</th><th>median</th>{head}<th>frames</th>'
        f'<th>points</th></tr>{"".join(lines)}</table></div>'
        f'<p class="note">Means over frames; «median» is that of all points. {escape(note)}</p>'
    )


def _protocol_rows(
    model: str, protocols: Mapping[str, Any], words: Mapping[str, Any]
) -> Iterable[str]:
    for name, scores in protocols.items():
        how = _PROTOCOL_TEXT[name].format(**words) if name in _PROTOCOL_TEXT else name
        text = f'{model}, {how}'
        values = {**scores['macro'], 'median_abs_rel': scores.get('median_abs_rel')}
        counts = ''.join(f'<td>{scores.get(key, "")}</td>' for key in ('n_frames', 'n_points'))
        yield f'<tr class="own"><td>{escape(text)}</td>{_cells(values)}{counts}</tr>'


def _cells(values: Mapping[str, Any]) -> str:
    cells = [number(values.get('median_abs_rel'), 3)]
    cells += [number(values.get(name), digits) for name, _, digits in _COLUMNS]
    return ''.join(f'<td>{cell}</td>' for cell in cells)


def region_table(results: Mapping[str, Any]) -> str:
    """Tell the error by part of the image and protocol, where it was measured."""
    protocols = {n: s['by_region'] for n, s in results['protocols'].items() if s.get('by_region')}
    if not protocols:
        return ''
    regions = dict.fromkeys(region for scores in protocols.values() for region in scores)
    lines = ''.join(
        f'<tr><td>{escape(region)}</td>'
        + ''.join(
            f'<td>{number(scores.get(region, {}).get("abs_rel"), 3)}</td>'
            for scores in protocols.values()
        )
        + '</tr>'
        for region in regions
    )
    head = ''.join(f'<th>{escape(name)}</th>' for name in protocols)
    return (
        '<h3>AbsRel by part of the image</h3><div class="wide"><table>'
        f'<tr><th>part</th>{head}</tr>{lines}</table></div>'
    )


def steadiness_tables(results: Mapping[str, Any]) -> list[str]:
    """Tell how depth and fit change between frames, and how edges and planes come out."""
    titles = {
        'temporal': 'Changes from frame to frame',
        'surfaces': 'Edges and planes against dense truth',
    }
    return [
        _facts(title, [(name, _short(text)) for name, text in _flat(results.get(key) or {})])
        for key, title in titles.items()
        if results.get(key)
    ]


def _short(text: str) -> str:
    try:
        return f'{float(text):.4g}'
    except ValueError:
        return text


def latency_table(results: Mapping[str, Any]) -> str:
    """Draw the median of each stage with its 95th percentile, and list the percentiles."""
    stages = results['latency_ms']
    if not stages:
        return ''
    longest = max((values.get('p95') or 0.0) for values in stages.values()) or 1.0
    bars = ''.join(
        bar(
            stage,
            min((values.get('p50') or 0.0) / longest, 1.0),
            f'{number(values.get("p50"), 1)} · {number(values.get("p95"), 1)}',
            True,
            tail=(values.get('p95') or 0.0) / longest,
        )
        for stage, values in stages.items()
    )
    names = ('p50', 'p95', 'p99', 'max', 'mean')
    lines = ''.join(
        f'<tr><td>{escape(stage)}</td>'
        + ''.join(f'<td>{number(values.get(name), 1)}</td>' for name in names)
        + '</tr>'
        for stage, values in stages.items()
    )
    head = ''.join(f'<th>{name}</th>' for name in names)
    machine = results['provenance'].get('machine', {})
    place = f'{machine.get("processor", "")}, {machine.get("cores", "?")} cores'
    return (
        f'<div class="bars">{bars}</div><p class="note">Median, and the 95th percentile behind '
        f'it; {escape(place)}.</p><details><summary>All percentiles</summary><div class="wide">'
        f'<table><tr><th>stage</th>{head}</tr>{lines}</table></div></details>'
    )


def provenance_tables(results: Mapping[str, Any]) -> str:
    """Show all of ``provenance``: bags, topics and checkpoint open, the rest folded."""
    provenance = dict(results['provenance'])
    parts = []
    bags = provenance.pop('bags', [])
    parts.append(
        _facts(
            'Bags',
            [(bag['name'], f'{bag["bytes"]:,} bytes, SHA-256 {bag["sha256"]}') for bag in bags],
        )
    )
    for key, title in (('topics', 'Topics'), ('checkpoint', 'Checkpoint')):
        parts.append(_facts(title, _flat(provenance.pop(key, {}))))
    for key, title in (('versions', 'Versions and machine'), ('options', 'Every option')):
        entries = _flat(provenance.pop(key, {}))
        if key == 'versions':
            entries += _flat(provenance.pop('machine', {}))
        parts.append(_folded(title, entries))
    return ''.join([*parts, _folded('How it was run and scored', _flat(provenance))])


def _flat(value: Any, name: str = '') -> list[tuple[str, str]]:
    """Lay a nested mapping out as names with dots and texts."""
    if isinstance(value, Mapping):
        return [
            pair
            for key, item in value.items()
            for pair in _flat(item, f'{name}.{key}' if name else str(key))
        ]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return [(name, '–' if text in ('', 'null', '[]', '{}') else text)]


def _facts(title: str, entries: Iterable[tuple[str, str]]) -> str:
    lines = ''.join(
        f'<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>' for name, text in entries
    )
    return f'<h3>{escape(title)}</h3><table class="facts">{lines}</table>' if lines else ''


def _folded(title: str, entries: list[tuple[str, str]]) -> str:
    table = _facts('', entries).partition('</h3>')[2]
    return f'<details><summary>{escape(title)}</summary>{table}</details>' if table else ''
