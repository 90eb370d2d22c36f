# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The figures of results.json as HTML: headline cards, bars and tables."""

from collections.abc import Iterable, Mapping, Sequence
import json
import math
from typing import Any

from marigold_ros.errors import number
from marigold_ros.evaluation.baselines import BASELINE_TEXT
from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.report.charts import Bar, page_bars, PROTOCOL_NAMES
from marigold_ros.evaluation.report.html_page import escape, scrolled, table
from marigold_ros.evaluation.results.results import (
    bag_labels,
    difference_text,
    further_baselines,
    is_dataset,
    is_known,
    model_scores,
    warning_texts,
)
from marigold_ros.settings import flat
from marigold_ros.sparse_sources import BAG

# Metrics of the table of accuracy, and their decimals.
_COLUMNS = {'abs_rel': 3, 'rmse': 2, 'mae': 2, 'bias': 2, 'delta1': 3, 'silog': 1, 'coverage': 3}
_PROTOCOL_TEXT = {
    'heldout': '{method}, fitted to every {every}th {part}, scored at those between',
    'truth': '{method}, fitted to all LiDAR points, scored at the dense truth',
    'global': 'one scale and shift',
    'oracle': 'alone: one scale and shift, fitted to the truth',
    'raw': 'its own metres, without a fit',
}
WHERE = {
    'heldout': 'at LiDAR points held out of the fit',
    'truth': 'at the dense truth',
    'oracle': 'of the model alone, by the best scale and shift to the truth',
    'raw': 'of its own metres, without a fit',
}
# Settings of runs over bags, which say nothing of images with depth.
_OF_BAGS = (
    *('lidar.', 'points.', 'excerpt.', 'extrinsics', 'recorded', 'sparse_source', 'stamps'),
    *('scoring.fit_every', 'scoring.held_out', 'scoring.scan', 'scoring.missing_depth'),
)

# Keys of ``temporal`` and ``surfaces``: in words, with unit and the better direction.
_FACT_TEXT = {
    'flicker.value': 'change of static depth from frame to frame, mean (lower is better)',
    'flicker.median': 'the same, median of the frames',
    'flicker.p95': 'the same, 95 % of the frames are below',
    'flicker.pairs': 'pairs of frames',
    'flicker.matched_by.pose': 'pairs matched by pose',
    'flicker.matched_by.pixel': 'pairs matched by pixel, while the camera stood still',
    'scale_drift.ratio': 'change of depth over truth from frame to frame, mean (lower is better)',
    'scale_drift.median_ratio': 'change of depth over truth, median of the frames',
    'scale_drift.p95_ratio': 'change of depth over truth, 95 % of the frames are below',
    'scale_drift.scale': "change of the fit's scale, mean",
    'scale_drift.shift': "change of the fit's shift, mean",
    'scale_drift.pairs': 'pairs of frames',
    'boundary_f1': 'occlusion edges found, F1 (higher is better)',
    'flying_rate': 'flying pixels, of the good ones (lower is better)',
    'planarity': 'deviation of flat surfaces from flat, of depth (lower is better)',
    'plane_angle_deg': 'tilt of flat surfaces, degrees (lower is better)',
    'planes': 'flat surfaces in a frame',
}
_SHARES = {
    *(f'flicker.{name}' for name in ('value', 'median', 'p95')),
    *(f'scale_drift.{name}' for name in ('ratio', 'median_ratio', 'p95_ratio', 'scale')),
    *('flying_rate', 'planarity'),
}


def _percent(value: Any) -> str:
    return f'{100 * value:.1f} %' if is_known(value) else '–'


def _row(name: str, cells: Iterable[str], own: bool = False) -> str:
    """Return a row of a table, its texts escaped; own rows stand out."""
    kind = ' class="own"' if own else ''
    texts = ''.join(f'<td>{escape(text)}</td>' for text in (name, *cells))
    return f'<tr{kind}>{texts}</tr>'


def warnings_list(results: Mapping[str, Any]) -> str:
    """Return a paragraph for each warning of the run."""
    texts = (text[0].upper() + text[1:] for text in warning_texts(results))
    return ''.join(f'<p class="warning">{escape(text)}</p>' for text in texts)


def headline(results: Mapping[str, Any]) -> str:
    """Return the cards: error with interval and best baseline, median, sigma, frames, time."""
    protocol = _main_protocol(results)
    scores = results['protocols'].get(protocol)
    cards = []
    if scores:
        macro = scores['macro']
        ends = scores['interval'].get('abs_rel')
        interval = f'95 % interval {ends[0]:.3f} to {ends[1]:.3f}; ' if ends else ''
        text = f'{interval}{WHERE.get(protocol, "")}; {_against_baseline(results)}'
        rmse, mae = number(macro.get('rmse'), 2), number(macro.get('mae'), 2)
        median = number(scores.get('median_abs_rel'), 3)
        share = _percent(macro.get('delta1'))
        cards = [
            _card('mean relative error (AbsRel)', number(macro.get('abs_rel'), 3), text, 'main'),
            _card('median relative error', median, 'half of the points are below (AbsRel)'),
            _card('RMSE', f'{rmse} m', f'MAE {mae} m'),
            _card('within 25 % of the truth', share, 'of the points (δ1)'),
        ]
        covered = scores.get('sigma_coverage')
        if covered:
            text = f'nominal 68 %; within 2 sigma: {_percent(covered.get("2"))}'
            cards.append(_card('errors within 1 sigma', _percent(covered.get('1')), text))
    frames = results['frames']
    label, counted = 'metric frames', frames['metric']
    away = f'{frames["dropped"]} dropped, {sum(frames["rejected"].values())} rejected'
    if is_dataset(results):
        label, counted = 'scored images', scores['n_frames'] if scores else 0
        away = f'{sum(frames["rejected"].values())} rejected'
    cards.append(_card(label, f'{counted} of {frames["read"]}', away))
    return f'<ul class="cards">{"".join(cards)}{_time_card(results)}</ul>'


def _main_protocol(results: Mapping[str, Any]) -> str:
    return str(results['provenance'].get('scoring', {}).get('baselines_protocol', 'heldout'))


def _card(label: str, figure: str, more: str, kind: str = '') -> str:
    kind = f' class="{kind}"' if kind else ''
    return (
        f'<li{kind}><span class="label">{escape(label)}</span><b>{escape(figure)}</b>'
        f'<span class="more">{escape(more)}</span></li>'
    )


def _against_baseline(results: Mapping[str, Any]) -> str:
    """Say what the verdict says of AbsRel against that of the best baseline."""
    compared = (results.get('verdict') or {}).get('against_baselines', {}).get('abs_rel')
    if not compared:
        return 'no baseline'
    name = BASELINE_TEXT.get(compared['baseline'], compared['baseline'])
    return f'{compared["outcome"]}: best baseline {compared["theirs"]:.3f} ({name})'


def _time_card(results: Mapping[str, Any]) -> str:
    stages = results['latency_ms']
    stage = next((name for name in ('total', 'round_trip') if name in stages), None)
    if stage is None or not stages[stage].get('p50'):
        return ''
    p50, p95 = stages[stage]['p50'], stages[stage].get('p95')
    rate = results.get('fps') or 1000 / p50
    more = f'{number(rate, 1)} frames/s; 95 % below {number(p95, 0)} ms'
    peak = (results.get('memory') or {}).get('peak_mb')
    more += f'; {peak:.0f} MB' if peak else ''
    return _card('time per frame (median)', f'{p50:.0f} ms', more)


def accuracy_bars(results: Mapping[str, Any]) -> str:
    """Draw the mean relative errors of models and baselines; shorter is better."""
    protocol = _main_protocol(results)
    bars = []
    for model, name, scores in model_scores(results):
        if name in ('global', protocol):
            label = f'{model}, {_PROTOCOL_TEXT[name]}' if name == 'global' else model
            interval = scores.get('interval', {}).get('abs_rel')
            bars.append((label, scores['macro'], interval, True))
    for name, values in further_baselines(results).items():
        bars.append((BASELINE_TEXT.get(name, name), values, None, False))
    drawn = [
        Bar(label, values['abs_rel'], number(values['abs_rel'], 3), whisker=interval, own=own)
        for label, values, interval, own in bars
        if is_known(values.get('abs_rel'))
    ]
    if not drawn:
        return ''
    note = 'Mean over frames; shorter is better.'
    if any(bar.whisker for bar in drawn):
        note += ' The thin line is the 95 % interval.'
    return (
        f'<h3>AbsRel {escape(WHERE.get(protocol, protocol))} (lower is better)</h3>'
        f'{page_bars(drawn)}<p class="note">{note}</p>'
    )


def accuracy_table(results: Mapping[str, Any]) -> str:
    """Return the table of all protocols, models and baselines, means over frames."""
    scoring = results['provenance'].get('scoring', {})
    options = results['provenance'].get('options', {})
    blocks = 'azimuth' in scoring.get('scan_lines_from', ())
    words = {
        'every': scoring.get('fit_every', 8),
        'part': 'degree of azimuth' if blocks else 'scan line',
        'method': options.get('alignment.method', 'metric'),
    }
    how = {name: text.format(**words) for name, text in _PROTOCOL_TEXT.items()}
    if (sources := options.get('sparse_source', BAG)) != BAG:
        fitted = f'{words["method"]}, fitted to {sources}, scored at '
        how |= {'heldout': f'{fitted}LiDAR points held out', 'truth': f'{fitted}the dense truth'}
    if is_dataset(results):
        how['truth'] = 'metres without a fit, as the node would publish, scored at the dense truth'
    rows = []
    for model, name, scores in model_scores(results):
        own = {**scores['macro'], 'median_abs_rel': scores.get('median_abs_rel')}
        counts = (str(scores.get(key, '')) for key in ('n_frames', 'n_points'))
        label = f'{model}, {how.get(name, name)}'
        rows.append(_row(label, [*_metrics(own), '', *counts], own=True))
    for name, values in further_baselines(results).items():
        paired = results['baselines_paired'][name]['abs_rel']
        cells = [*_metrics(values), difference_text(paired), str(paired['n_frames']), '']
        rows.append(_row(BASELINE_TEXT.get(name, name), cells))
    if not rows:
        if is_dataset(results):
            return '<p>No image could be scored: none has depth in range.</p>'
        return '<p>No frame could be scored: there is neither LiDAR in view nor dense truth.</p>'
    note = (
        'Means over frames; half of the points are below «median» (AbsRel). Lower is better, but '
        'for δ1 and the share with depth, and bias, which is best at 0.'
    )
    protocol = scoring.get('baselines_protocol', '')
    if results['baselines'] and protocol == 'oracle':
        note += (
            ' The baselines are fitted to the truth too, the mean depth of earlier images by '
            'scale and shift; «difference» is the mean over images of the AbsRel of this model '
            'minus theirs, with its 95 % interval where enough images tell it.'
        )
    elif results['baselines'] and protocol in how:
        note += (
            f' The baselines see the same LiDAR points as the fit in «{how[protocol]}» and are '
            'scored at the same pixels; «difference» is the mean over frames of the AbsRel of '
            'this model minus theirs, with its 95 % interval where enough frames tell it.'
        )
    titles = (METRICS[name].title for name in _COLUMNS)
    heads = ('method', 'median', *titles, 'difference', 'frames', 'points')
    return f'{scrolled(table(heads, rows))}<p class="note">{escape(note)}</p>'


def _metrics(values: Mapping[str, Any]) -> list[str]:
    cells = [number(values.get('median_abs_rel'), 3)]
    return cells + [number(values.get(name), digits) for name, digits in _COLUMNS.items()]


def region_table(results: Mapping[str, Any]) -> str:
    """Return the error by part of the image and protocol; empty where it was not measured."""
    protocols = {n: s['by_region'] for n, s in results['protocols'].items() if s.get('by_region')}
    if not protocols:
        return ''
    rows = []
    for region in dict.fromkeys(region for parts in protocols.values() for region in parts):
        errors = (parts.get(region, {}).get('abs_rel') for parts in protocols.values())
        rows.append(_row(region, [number(error, 3) for error in errors]))
    names = (PROTOCOL_NAMES.get(name, name) for name in protocols)
    title = 'AbsRel by part of the image (lower is better)'
    return f'<h3>{title}</h3>{scrolled(table(("part", *names), rows))}'


def bag_table(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the means over the frames of each bag, by protocol; empty for a single bag."""
    bags = results['provenance'].get('bags', ())
    if len(bags) < 2:
        return ''
    lines = []
    for number_of_bag, label in enumerate(bag_labels(bags)):
        own = [row for row in rows if int(row.get('bag') or 0) == number_of_bag]
        for protocol in results['protocols']:
            n = sum(is_known(row.get(f'{protocol}_abs_rel')) for row in own)
            means = ((m, _mean(own, f'{protocol}_{m}')) for m in COMPARED)
            cells = [number(mean, 3 if m == 'abs_rel' else 2) for m, mean in means]
            name = f'{label}, {PROTOCOL_NAMES.get(protocol, protocol)}'
            lines.append(_row(name, [*cells, str(n)]))
    heads = ('bag', *(METRICS[metric].title for metric in COMPARED), 'frames')
    return f'<h3>By bag (lower is better)</h3>{scrolled(table(heads, lines))}'


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    known = [float(row[column]) for row in rows if is_known(row.get(column))]
    return sum(known) / len(known) if known else math.nan


def stability_tables(results: Mapping[str, Any]) -> list[str]:
    """Return the tables of temporal stability and of edges and planes, where measured."""
    titles = {
        'temporal': 'Changes from frame to frame',
        'surfaces': 'Edges and planes against dense truth',
    }
    parts = {title: flat(results[key]) for key, title in titles.items() if results.get(key)}
    return [
        _facts(title, [(_FACT_TEXT.get(name, name), _fact(name, value)) for name, value in values])
        for title, values in parts.items()
    ]


def _fact(name: str, value: Any) -> str:
    if not is_known(value):
        return '–'
    return f'{100 * value:.2f} %' if name in _SHARES else f'{value:.4g}'


def latency_table(results: Mapping[str, Any]) -> str:
    """Draw the median of each stage with its 95th percentile, and list all percentiles."""
    stages = results['latency_ms']
    if not stages:
        return ''
    names = ('p50', 'p95', 'p99', 'max', 'mean')
    bars, rows = [], []
    for stage, values in stages.items():
        cells = [number(values.get(name), 1) for name in names]
        p50, p95 = values.get('p50') or 0.0, values.get('p95') or 0.0
        bars.append(Bar(stage, p50, f'{cells[0]} · {cells[1]}', p95))
        rows.append(_row(stage, cells))
    machine = results['provenance'].get('machine', {})
    place = f'{machine.get("processor", "")}, {machine.get("cores", "?")} cores'
    timed = max((values.get('n', 0) for values in stages.values()), default=0)
    images = f', of {timed} images that were timed' if timed else ''
    return (
        f'{page_bars(bars)}<p class="note">Median, and the 95th percentile behind it{images}; '
        f'{escape(place)}.</p><details><summary>All percentiles</summary>'
        f'{scrolled(table(("stage", *names), rows))}</details>'
    )


def provenance_tables(results: Mapping[str, Any]) -> str:
    """Return all of ``provenance``: bags, topics and checkpoint open, the rest folded."""
    provenance = dict(results['provenance'])
    bags = [
        (bag['name'], f'{bag["bytes"]:,} bytes, SHA-256 {bag["sha256"]}')
        for bag in provenance.pop('bags', [])
    ]
    keys = ('topics', 'checkpoint', 'versions', 'machine', 'options')
    topics, checkpoint, versions, machine, options = (_texts(provenance.pop(k, {})) for k in keys)
    titles = 'Bags', 'Topics'
    if is_dataset(results):
        titles = 'Folders', 'Files'
        options = [pair for pair in options if not pair[0].startswith(_OF_BAGS)]
        run = _texts(provenance)
        provenance = {name: text for name, text in run if not name.startswith(_OF_BAGS)}
    shown = zip((*titles, 'Checkpoint'), (bags, topics, checkpoint), strict=True)
    tables = [_facts(*entry) for entry in shown]
    folded = {'Versions and machine': versions + machine, 'All options': options}
    folded['Run and scoring'] = _texts(provenance)
    return ''.join([*tables, *(_facts(*entry, folded=True) for entry in folded.items())])


def _texts(value: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the values of a nested mapping as texts under dotted names."""
    return [(name, _text(item)) for name, item in flat(value)]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return '–' if text in ('', 'null', '[]', '{}') else text


def _facts(title: str, entries: Iterable[tuple[str, str]], folded: bool = False) -> str:
    rows = ''.join(_row(name, [text]) for name, text in entries)
    facts, title = f'<table class="facts">{rows}</table>', escape(title)
    if not rows:
        return ''
    if folded:
        return f'<details><summary>{title}</summary>{facts}</details>'
    return f'<h3>{title}</h3>{facts}'
