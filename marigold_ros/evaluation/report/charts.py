# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Bars in HTML, and the curves of the HTML pages, which ``page/charts.js`` draws with a cursor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
import math
from typing import Any

from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.results.results import bag_labels, is_dataset
from marigold_ros.geometry.alignment.affine_fit import ONE_SIGMA
import numpy as np

Spec = dict[str, Any]

MOST_PLACES = 2000  # on the axis of frames; a screen has no more pixels
_RANGE_METRICS = ('abs_rel', 'rmse', 'bias')
# For the legends of charts and the heads of tables.
PROTOCOL_NAMES = {
    'heldout': 'held-out LiDAR points',
    'truth': 'dense truth',
    'oracle': 'the model alone, fitted to the truth',
    'raw': 'own metres',
}
BETTER_TEXT = {
    'lower': 'lower is better',
    'higher': 'higher is better',
    'zero': 'nearer to 0 is better',
}
_NORMAL_SHARES = {'1': ONE_SIGMA, '2': 0.9545}  # within so many sigma


@dataclass(frozen=True)
class Bar:
    """
    One row of a bar chart.

    ``text`` stands beside the bar, a lighter bar behind it reaches up to ``tail`` (0: none), a
    thin line spans ``whisker``. A bar that is not ``own`` is grey.
    """

    label: str
    value: float
    text: str = ''
    tail: float = 0.0
    whisker: Sequence[float] | None = None
    own: bool = True

    @property
    def end(self) -> float:
        """The largest finite value drawn in this row."""
        values = (self.value, self.tail, *(self.whisker or ()))
        return max((value for value in values if math.isfinite(value)), default=0.0)


def page_bars(bars: Sequence[Bar]) -> str:
    """Return bars from zero as HTML, without a script; labels wrap where there is little room."""
    longest = max((bar.end for bar in bars), default=0.0) or 1.0
    rows = []
    for bar in bars:
        kind = ' own' if bar.own else ''
        parts = [
            f'<rect class="{name}" width="{100 * value / longest:.2f}%" height="18" rx="3"/>'
            for name, value in (('tail', bar.tail), ('fill', bar.value))
            if name == 'fill' or value > bar.value
        ]
        if bar.whisker:
            low, high = (f'{100 * end / longest:.2f}%' for end in bar.whisker)
            parts += [
                f'<line class="whisker" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'
                for x1, x2, y1, y2 in ((low, high, 9, 9), (low, low, 5, 13), (high, high, 5, 13))
            ]
        rows.append(
            f'<span class="name{kind}">{escape(bar.label)}</span>'
            f'<svg class="bar{kind}" aria-hidden="true">{"".join(parts)}</svg>'
            f'<span class="figure{kind}">{escape(bar.text)}</span>'
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def chart_figure(name: str, spec: Mapping[str, Any]) -> str:
    """Return the HTML element in which the script draws the chart of that name."""
    return (
        f'<figure class="chart panel" data-chart="{escape(name)}">'
        f'<figcaption>{escape(spec["title"])}</figcaption></figure>'
    )


def chart(title: str, curves: Mapping[str, Sequence[float | None]], **more: Any) -> Spec:
    """Describe curves by name; ``more`` are further entries of :func:`chart_specs`."""
    drawn = [{'name': name, 'values': list(values)} for name, values in curves.items()]
    return {'title': title, 'zero': True, 'curves': drawn, **more}


def frame_chart(
    title: str, frames: Sequence[int], curves: Mapping[str, Sequence[float | None]], **more: Any
) -> Spec:
    """Describe curves over frame numbers, with one cursor for all such charts of a page."""
    step = frames[1] - frames[0] if len(frames) > 1 else 1
    axis = {'x_label': 'frame', 'x': list(frames), 'whole': True, 'linked': True}
    axis['means'] = 'mean' if step == 1 else f'mean of one in {step} frames'
    return chart(title, curves, **{**axis, **more})


def chart_specs(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Spec]:
    """
    Describe the curves for which results.json and per_frame.csv have figures.

    Returns
    -------
    dict of str to dict
        ``group`` (time, range, sigma or robustness), ``title``, ``x_label``, ``unit``, ``curves``
        with ``name`` and ``values`` (None where there is none), and as needed ``x`` (numbers) or
        ``ticks`` (texts), ``whole`` (``x`` are whole numbers), ``zero`` (the axis begins there),
        ``top``, ``linked`` (frames: one cursor for all), ``means`` (what their means are called),
        ``remarks`` by place and ``marks``: pairs of the first place of a further bag, and name.

    """
    specs = _over_time(results, rows) | _by_range(results)
    specs |= _reliability(results) | _robustness(results)
    return {
        name: spec
        for name, spec in specs.items()
        if any(value is not None for curve in spec['curves'] for value in curve['values'])
    }


def _over_time(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Spec]:
    if len(rows) < 2:  # one frame is no curve
        return {}
    step, of_bags = math.ceil(len(rows) / MOST_PLACES), not is_dataset(results)
    remarks, rows = _remarks(results, rows)[::step] if of_bags else [], rows[::step]
    frames = [int(row['index']) for row in rows]
    common: dict[str, Any] = {'group': 'time', 'marks': bag_marks(_bags_of(results, rows))}
    common |= {'remarks': remarks} if of_bags else {'x_label': 'image'}

    def over_time(title: str, columns: Mapping[str, str], **more: Any) -> Spec:
        curves = {name: [_number(row.get(key)) for row in rows] for name, key in columns.items()}
        known = {name: v for name, v in curves.items() if any(x is not None for x in v)}
        return frame_chart(title, frames, known, **{**common, **more})

    def errors(protocol: str, where: str, baselines: Mapping[str, str]) -> Spec:
        columns = {'this model': f'{protocol}_abs_rel'}
        columns |= {text: f'{protocol}_{name}_abs_rel' for name, text in baselines.items()}
        columns |= {n: f'{n}:{protocol}_abs_rel' for n in results.get('models') or ()}
        return over_time(f'AbsRel {where} (lower is better)', columns)

    quadric = {'quadric': 'best quadric'}
    lidar = {**quadric, 'disparity': 'LiDAR interpolated in disparity'}
    specs = {
        f'error_{protocol}': errors(protocol, f'at {PROTOCOL_NAMES[protocol]}', lidar)
        for protocol in ('heldout', 'truth')
    }
    if results['provenance'].get('scoring', {}).get('baselines_protocol') == 'oracle':
        earlier = {**quadric, 'mean_map': 'scaled mean of earlier images'}
        where = 'after the best scale and shift to the truth'
        specs['error_oracle'] = errors('oracle', where, earlier)
    title = 'Time per image, ms (lower is better)'
    specs['time'] = over_time(title, {'total': 'total_ms'}, unit='ms')
    if not of_bags:
        return specs
    title = 'Scale and shift of the fit, in the space of the model'
    specs['scale'] = over_time(title, {'scale': 'scale', 'shift': 'shift'}, zero=False)
    points = {'in view': 'n_points', 'inliers': 'n_inliers'}
    specs['points'] = over_time('Number of points of the fit', points)
    title = 'Share of held-out points within sigma (nearer to normal is better)'
    within = {f'within {k} sigma': f'heldout_within_{k}_sigma' for k in _NORMAL_SHARES}
    specs['coverage'] = over_time(title, within, top=1.0, group='sigma')
    if specs['coverage']['curves']:
        names = ('normal distribution', '')
        specs['coverage']['curves'] += [
            {'name': name, 'values': [share] * len(rows), 'reference': True}
            for name, share in zip(names, _NORMAL_SHARES.values(), strict=True)
        ]
    return specs


def bag_marks(bags: Sequence[str]) -> list[tuple[int, str]]:
    """Return the places of the first frames of further bags with their names, of bags by place."""
    return [(place, bag) for place, bag in enumerate(bags) if place and bag != bags[place - 1]]


def _bags_of(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of the bag of each frame; '' where it is not known."""
    names = bag_labels(results['provenance'].get('bags', ()))
    numbers = (int(row.get('bag') or 0) for row in rows)
    return [names[number] if number < len(names) else '' for number in numbers]


def _remarks(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the bag if there are several, the time in it and the state of the fit by frame."""
    several = len(results['provenance'].get('bags', ())) > 1
    first: dict[int, int] = {}
    remarks = []
    for row, bag in zip(rows, _bags_of(results, rows), strict=True):
        stamp_ns = int(row['stamp_ns'])
        begin_ns = first.setdefault(int(row.get('bag') or 0), stamp_ns)
        parts = [bag if several else '', f'{(stamp_ns - begin_ns) / 1e9:.1f} s']
        parts += [str(row.get(key) or '') for key in ('state', 'reason', 'map_reason')]
        remarks.append(', '.join(filter(None, parts)))
    return remarks


def _by_range(results: Mapping[str, Any]) -> dict[str, Spec]:
    """Describe errors over bins of distance; a protocol without points in a bin has none there."""
    protocols = {
        PROTOCOL_NAMES.get(name, name): {item['from']: item for item in scores['by_range']}
        for name, scores in results['protocols'].items()
        if scores.get('by_range')
    }
    # The same bins in all protocols, of which each has those with points.
    bins = {low: item for parts in protocols.values() for low, item in parts.items()}
    places = sorted(bins)
    return {
        f'range_{metric.name}': chart(
            f'{metric.title} by true depth ({BETTER_TEXT[metric.better]})',
            {
                name: [_number(parts.get(low, {}).get(metric.name)) for low in places]
                for name, parts in protocols.items()
            },
            group='range',
            unit=metric.unit,
            x_label='true depth, m',
            ticks=[f'{low:g}–{bins[low]["to"]:g}' for low in places],
        )
        for metric in (METRICS[name] for name in _RANGE_METRICS)
    }


def _reliability(results: Mapping[str, Any]) -> dict[str, Spec]:
    """Describe the reliability diagram: nominal against observed share of errors."""
    curves: dict[str, dict[float, float]] = {}
    for name, scores in results['protocols'].items():
        points = (scores.get('sigma') or {}).get('reliability') or ()
        pairs = ((_number(p['expected']), _number(p['observed'])) for p in points)
        known = {x: y for x, y in pairs if x is not None and y is not None}
        if known:
            curves[PROTOCOL_NAMES.get(name, name)] = {0.0: 0.0, **known}
    if not curves:
        return {}
    x = sorted({0.0, 1.0, *(place for curve in curves.values() for place in curve)})
    title = 'Share of errors within the nominal interval (nearer to ideal is better)'
    drawn = {}
    for name, curve in curves.items():
        # No curve goes on beyond its last point.
        places, values = zip(*sorted(curve.items()), strict=True)
        joined = np.interp(x, places, values, right=math.nan).tolist()
        drawn[name] = [None if math.isnan(value) else value for value in joined]
    spec = chart(title, drawn, group='sigma', x_label='nominal share', x=x, top=1.0)
    spec['curves'].append({'name': 'ideal', 'values': x, 'reference': True})
    return {'reliability': spec}


def _robustness(results: Mapping[str, Any]) -> dict[str, Spec]:
    """
    Describe the error against the strength of corruptions.

    A chart for each protocol has a curve for each corruption; one for each corruption has the
    oracle's errors of the compared models.
    """
    found = {'this model': results, **(results.get('models') or {})}
    by_model = {
        name: part['robustness']['corruptions']
        for name, part in found.items()
        if (part.get('robustness') or {}).get('corruptions')
    }
    own = by_model.get('this model', {})
    charts = {
        f'robustness_{protocol}': (
            f'AbsRel by strength of corruption, {PROTOCOL_NAMES.get(protocol, protocol)}',
            {kind: curves[protocol] for kind, curves in own.items() if protocol in curves},
        )
        for protocol in dict.fromkeys(name for curves in own.values() for name in curves)
    }
    for kind in own if len(by_model) > 1 else ():
        of_models = ((name, kinds.get(kind, {})) for name, kinds in by_model.items())
        charts[f'robustness_by_model_{kind}'] = (
            f'AbsRel by strength of {kind}, oracle',
            {name: curves['oracle'] for name, curves in of_models if 'oracle' in curves},
        )
    return {
        name: chart(
            f'{title} (lower is better)',
            {label: [_number(x) for x in curve['abs_rel']] for label, curve in curves.items()},
            group='robustness',
            x_label='strength, 0 is the original image',
            ticks=[str(strength) for strength in results['robustness']['strengths']],
        )
        for name, (title, curves) in charts.items()
    }


def _number(value: Any) -> float | None:
    """Return a finite number with six digits, else None."""
    if value is None or isinstance(value, str):
        return None
    return float(f'{float(value):.6g}') if math.isfinite(value) else None
