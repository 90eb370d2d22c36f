# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Bars as SVG files and in HTML, and the curves of the HTML pages.

``svg_document`` puts the static charts of ``bar_chart`` into a file; ``chart_specs`` describes the
curves that ``page/charts.js`` draws with a cursor.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
import math
from typing import Any

from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.results.results import is_dataset
import numpy as np

Spec = dict[str, Any]

MOST_PLACES = 2000  # on the axis of frames; a screen has no more pixels
_RANGE_METRICS = ('abs_rel', 'rmse', 'bias')
# For the legends of charts and the heads of tables.
PROTOCOL_NAMES = {
    'heldout': 'held-out LiDAR points',
    'truth': 'dense truth',
    'oracle': 'oracle',
    'raw': 'own metres',
}
BETTER_TEXT = {
    'lower': 'lower is better',
    'higher': 'higher is better',
    'zero': 'nearer to 0 is better',
}
_NORMAL_SHARES = {'1': 0.6827, '2': 0.9545}  # within so many sigma

COLOUR = '#0072B2'  # of Okabe and Ito, legible on white and on black
WIDTH = 720  # px, of a static chart
_ROW, _PAD, _LETTER = 24, 12, 7.0  # px: of a bar chart, and the width of a letter


@dataclass(frozen=True)
class Chart:
    """A static chart: SVG elements in a box of 720 x ``height`` px, and what it shows."""

    elements: str
    height: int
    label: str


@dataclass(frozen=True)
class Bar:
    """
    One row of a bar chart.

    ``text`` stands beside the bar, a lighter bar behind it reaches up to ``tail`` (0: none), a
    thin line spans ``whisker``. On pages a bar that is not ``own`` is grey.
    """

    label: str
    value: float
    text: str = ''
    tail: float = 0.0
    whisker: tuple[float, float] | None = None
    own: bool = True

    @property
    def end(self) -> float:
        """The largest finite value drawn in this row."""
        values = (self.value, self.tail, *(self.whisker or ()))
        return max((value for value in values if math.isfinite(value)), default=0.0)


def svg_document(charts: Iterable[Chart]) -> str:
    """Return an SVG file with the charts below one another, legible on light and dark pages."""
    parts, top = [], 0
    for chart in charts:
        size = f'width="{WIDTH}" height="{chart.height}"'
        parts.append(
            f'<svg y="{top}" {size} viewBox="0 0 {WIDTH} {chart.height}" role="img" '
            f'aria-label="{escape(chart.label)}">{chart.elements}</svg>'
        )
        top += chart.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" color="#808080" '
        f'fill="currentColor" font-family="sans-serif" font-size="13">{"".join(parts)}</svg>\n'
    )


def bar_chart(title: str, bars: Sequence[Bar]) -> Chart:
    """
    Draw horizontal bars from zero, the longest over the whole width.

    Parameters
    ----------
    title, bars : str, sequence of Bar
        Plain text above, and the rows; one whose value is not finite and positive has no bar.

    """
    left = 2 * _PAD + _LETTER * max((len(bar.label) for bar in bars), default=0)
    right = 2 * _PAD + _LETTER * max((len(bar.text) for bar in bars), default=0)
    per_px = (max((bar.end for bar in bars), default=0.0) or 1.0) / max(WIDTH - left - right, 40)
    parts = [svg_text(_PAD, _PAD + _ROW // 2, title)]
    for row, bar in enumerate(bars, start=1):
        middle, end = _PAD + row * _ROW + _ROW // 2, left
        for kind, value, opacity in (('tail', bar.tail, 0.4), ('fill', bar.value, 1)):
            if math.isfinite(value) and value > 0.0:
                parts.append(
                    f'<rect class="{kind}" x="{left:g}" y="{middle - 7}" height="14" '
                    f'width="{value / per_px:.2f}" fill="{COLOUR}" fill-opacity="{opacity}"/>'
                )
                end = max(end, left + value / per_px)
        parts += [svg_text(_PAD, middle, bar.label), svg_text(end + _PAD // 2, middle, bar.text)]
    return Chart(''.join(parts), _ROW * (len(bars) + 1) + 2 * _PAD, title)


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


def svg_text(x: float, middle: float, text: str) -> str:
    """Return an SVG text that begins at ``x``, around the height ``middle``, px."""
    return f'<text x="{x:g}" y="{middle + 4:g}">{escape(text)}</text>'


def chart_figure(name: str, spec: Mapping[str, Any]) -> str:
    """Return the HTML element in which the script draws the chart of that name."""
    return (
        f'<figure class="chart panel" data-chart="{escape(name)}">'
        f'<figcaption>{escape(spec["title"])}</figcaption></figure>'
    )


def frame_chart(
    title: str, frames: Sequence[int], curves: Mapping[str, Sequence[float | None]], **more: Any
) -> Spec:
    """Describe curves over frame numbers, with one cursor for all such charts of a page."""
    return {
        'title': title,
        'x_label': 'frame',
        'x': list(frames),
        'whole': True,
        'linked': True,
        'zero': True,
        'curves': [{'name': name, 'values': list(values)} for name, values in curves.items()],
        **more,
    }


def chart_specs(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Spec]:
    """
    Describe the curves of a report for which there are figures.

    Parameters
    ----------
    results, rows : mapping, sequence of mappings
        The contents of results.json and per_frame.csv.

    Returns
    -------
    dict of str to dict
        ``group`` (time, range, sigma or robustness), ``title``, ``x_label``, ``unit``, ``curves``
        with ``name`` and ``values`` (None where there is none), and as needed ``x`` (numbers) or
        ``ticks`` (texts), ``whole`` (``x`` are whole numbers), ``zero`` (the axis begins there),
        ``top``, ``linked`` (frames: one cursor for all), ``remarks`` by place and ``marks``: pairs
        of the place at which a further bag begins and its name.

    """
    specs = _over_time(results, rows) | _by_range(results)
    specs |= _reliability(results) | _robustness(results) | _robustness_by_model(results)
    return {
        name: spec
        for name, spec in specs.items()
        if any(value is not None for curve in spec['curves'] for value in curve['values'])
    }


def _over_time(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Spec]:
    rows = rows[:: math.ceil(len(rows) / MOST_PLACES) or 1]
    frames, of_bags = [int(row['index']) for row in rows], not is_dataset(results)
    remarks = _remarks(results, rows) if of_bags else []
    marks = bag_marks([_bag_of(results, row) for row in rows])
    common = {'group': 'time', 'remarks': remarks, 'marks': marks}
    common |= {} if of_bags else {'x_label': 'image'}

    def chart(title: str, columns: Mapping[str, str], **more: Any) -> Spec:
        curves = {name: [_number(row.get(key)) for row in rows] for name, key in columns.items()}
        known = {name: v for name, v in curves.items() if any(x is not None for x in v)}
        return frame_chart(title, frames, known, **{**common, **more})

    specs = {}
    for protocol, where in (('heldout', 'held-out LiDAR points'), ('truth', 'dense truth')):
        columns = {
            'this model': f'{protocol}_abs_rel',
            'best quadric': f'{protocol}_quadric_abs_rel',
            'LiDAR interpolated': f'{protocol}_linear_abs_rel',
            **{name: f'{name}:{protocol}_abs_rel' for name in results.get('models') or ()},
        }
        specs[f'error_{protocol}'] = chart(f'AbsRel at {where} (lower is better)', columns)
    scoring = results['provenance'].get('scoring', {})
    if scoring.get('baselines_protocol') == 'oracle':
        columns = {
            'this model': 'oracle_abs_rel',
            'best quadric': 'oracle_quadric_abs_rel',
            'scaled mean of earlier images': 'oracle_mean_map_abs_rel',
            **{name: f'{name}:oracle_abs_rel' for name in results.get('models') or ()},
        }
        title = 'AbsRel after the best scale and shift to the truth (lower is better)'
        specs['error_oracle'] = chart(title, columns)
    specs['time'] = chart('Time per image, ms (lower is better)', {'total': 'total_ms'}, unit='ms')
    if not of_bags:
        return specs
    fit = {'scale': 'scale', 'shift': 'shift'}
    specs['scale'] = chart(
        'Scale and shift of the fit, in the space of the model', fit, zero=False
    )
    points = {'in view': 'n_points', 'inliers': 'n_inliers'}
    specs['points'] = chart('Number of LiDAR points of the fit', points)
    within = {f'within {k} sigma': f'heldout_within_{k}_sigma' for k in _NORMAL_SHARES}
    specs['coverage'] = chart(
        'Share of held-out points within sigma (nearer to normal is better)',
        within,
        top=1.0,
        group='sigma',
    )
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


def _bag_of(results: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    number, bags = int(row.get('bag') or 0), results['provenance'].get('bags', ())
    return str(bags[number]['name']) if number < len(bags) else ''


def _remarks(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the bag, the time in it and the state of the fit for each frame."""
    bags = results['provenance'].get('bags', ())
    first: dict[int, int] = {}
    remarks = []
    for row in rows:
        bag, stamp_ns = int(row.get('bag', 0)), int(row['stamp_ns'])
        parts = [f'{(stamp_ns - first.setdefault(bag, stamp_ns)) / 1e9:.1f} s']
        if len(bags) > 1 and bag < len(bags):
            parts.insert(0, bags[bag]['name'])
        parts += [str(row[key]) for key in ('state', 'reason', 'map_reason') if row.get(key)]
        remarks.append(', '.join(parts))
    return remarks


def _by_range(results: Mapping[str, Any]) -> dict[str, Spec]:
    protocols = {n: s['by_range'] for n, s in results['protocols'].items() if s.get('by_range')}
    longest = max(protocols.values(), key=len, default=())
    return {
        f'range_{metric.name}': {
            'group': 'range',
            'title': f'{metric.title} by true depth ({BETTER_TEXT[metric.better]})',
            'unit': metric.unit,
            'x_label': 'true depth, m',
            'ticks': [_range_text(item) for item in longest],
            'zero': True,
            'curves': [
                {
                    'name': PROTOCOL_NAMES.get(name, name),
                    'values': [_number(item.get(metric.name)) for item in ranges],
                }
                for name, ranges in protocols.items()
            ],
        }
        for metric in (METRICS[name] for name in _RANGE_METRICS)
    }


def _range_text(item: Mapping[str, Any]) -> str:
    low, high = _number(item.get('from')), _number(item.get('to'))
    return f'{low or 0:g}+' if high is None else f'{low or 0:g}–{high:g}'


def _reliability(results: Mapping[str, Any]) -> dict[str, Spec]:
    """Describe the reliability diagram: nominal against observed share of errors."""
    curves: dict[str, dict[float, float | None]] = {}
    for name, scores in results['protocols'].items():
        points = (scores.get('sigma') or {}).get('reliability')
        if not points and scores.get('sigma_coverage'):
            points = [
                {'expected': share, 'observed': scores['sigma_coverage'].get(k)}
                for k, share in _NORMAL_SHARES.items()
            ]
        found = {_number(p.get('expected')): _number(p.get('observed')) for p in points or ()}
        curves[name] = {0.0: 0.0, **{k: v for k, v in found.items() if k is not None}}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return {}
    x = sorted({0.0, 1.0, *(place for curve in curves.values() for place in curve)})
    drawn = [
        {'name': PROTOCOL_NAMES.get(n, n), 'values': _interpolated(curve, x)}
        for n, curve in curves.items()
    ]
    return {
        'reliability': {
            'group': 'sigma',
            'title': 'Share of errors within the nominal interval (nearer to ideal is better)',
            'x_label': 'nominal share',
            'x': x,
            'zero': True,
            'top': 1.0,
            'curves': [*drawn, {'name': 'ideal', 'values': x, 'reference': True}],
        }
    }


def _interpolated(curve: Mapping[float, float | None], x: Sequence[float]) -> list[float | None]:
    """Interpolate a curve linearly at ``x``, up to its last known point."""
    known = sorted((place, value) for place, value in curve.items() if value is not None)
    places, values = zip(*known, strict=True)
    joined = np.interp(x, places, values)
    return [float(v) if place <= places[-1] else None for place, v in zip(x, joined, strict=True)]


def _robustness(results: Mapping[str, Any]) -> dict[str, Spec]:
    """Describe a chart for each protocol: the error against the strength of each corruption."""
    found = results.get('robustness') or {}
    corruptions = found.get('corruptions') or {}
    return {
        f'robustness_{protocol}': {
            'group': 'robustness',
            'title': 'AbsRel by strength of corruption, '
            f'{PROTOCOL_NAMES.get(protocol, protocol)} (lower is better)',
            'x_label': 'strength, 0 is the original image',
            'ticks': [str(strength) for strength in found.get('strengths', ())],
            'zero': True,
            'curves': [
                {'name': kind, 'values': [_number(x) for x in by_protocol[protocol]['abs_rel']]}
                for kind, by_protocol in corruptions.items()
                if protocol in by_protocol
            ],
        }
        for protocol in dict.fromkeys(name for kind in corruptions.values() for name in kind)
    }


def _robustness_by_model(results: Mapping[str, Any]) -> dict[str, Spec]:
    """Describe a chart for each corruption: the oracle's error of each compared model."""
    found = {'this model': results, **(results.get('models') or {})}
    by_model = {
        name: part['robustness']['corruptions']
        for name, part in found.items()
        if part.get('robustness')
    }
    if len(by_model) < 2:
        return {}
    return {
        f'robustness_by_model_{kind}': {
            'group': 'robustness',
            'title': f'AbsRel by strength of {kind}, oracle (lower is better)',
            'x_label': 'strength, 0 is the original image',
            'ticks': [str(strength) for strength in results['robustness']['strengths']],
            'zero': True,
            'curves': [
                {'name': name, 'values': [_number(x) for x in kinds[kind]['oracle']['abs_rel']]}
                for name, kinds in by_model.items()
                if 'oracle' in kinds.get(kind, {})
            ],
        }
        for kind in by_model['this model']
    }


def _number(value: Any) -> float | None:
    """Return a finite number with six digits, else None."""
    if value is None or isinstance(value, str):
        return None
    return float(f'{float(value):.6g}') if math.isfinite(value) else None
