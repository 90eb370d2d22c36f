# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""What the report's curves are made of, as the page's scripts take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

MOST_PLACES = 2000  # on the axis of frames; a screen has no more pixels
_RANGE_METRICS = {'abs_rel': ('AbsRel', ''), 'rmse': ('RMSE', 'm'), 'bias': ('Bias', 'm')}
_SIGMA = {'1': 0.6827, '2': 0.9545}


def chart_specs(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """
    Describe the charts for which there are figures.

    Returns
    -------
    dict of str to dict
        ``group`` (time, range, sigma or robustness), ``title``, ``x_label``, ``unit``, ``curves``
        with ``name`` and ``values`` (None where there is none), and as needed ``x`` (numbers) or
        ``ticks`` (texts), ``zero`` (the axis begins there), ``top``, ``linked`` (frames: one
        cursor for all) and ``remarks`` by place.

    """
    specs = {
        **_over_time(results, rows),
        **_by_range(results),
        **_sigma(results),
        **_robustness(results),
    }
    return {
        name: spec
        for name, spec in specs.items()
        if any(value is not None for curve in spec['curves'] for value in curve['values'])
    }


def _over_time(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    stride = math.ceil(len(rows) / MOST_PLACES)
    rows = rows[:: stride or 1]
    frames = {
        'group': 'time',
        'x_label': 'frame',
        'x': [int(row['index']) for row in rows],
        'whole': True,
        'linked': True,
        'zero': True,
        'remarks': _remarks(results, rows),
    }

    def chart(title: str, curves: Mapping[str, str], **more: Any) -> dict[str, Any]:
        drawn = [
            {'name': text, 'values': [_number(row.get(column)) for row in rows]}
            for text, column in curves.items()
        ]
        drawn = [curve for curve in drawn if any(v is not None for v in curve['values'])]
        return {**frames, 'title': title, 'curves': drawn, **more}

    specs = {}
    for protocol, where in (('heldout', 'held-out LiDAR points'), ('truth', 'dense truth')):
        curves = {
            'this model': f'{protocol}_abs_rel',
            'best quadric': f'{protocol}_quadric_abs_rel',
            'LiDAR interpolated': f'{protocol}_linear_abs_rel',
            **{name: f'{name}:{protocol}_abs_rel' for name in results.get('models') or ()},
        }
        specs[f'error_{protocol}'] = chart(f'AbsRel at {where}', curves)
    names = {'scale': 'scale', 'shift': 'shift'}
    specs['scale'] = chart('Scale and shift of the fit', names, zero=False)
    names = {'offered': 'n_points', 'kept': 'n_inliers'}
    specs['points'] = chart('LiDAR points of the fit', names)
    specs['time'] = chart('Time a frame', {'total': 'total_ms'}, unit='ms')
    covered = {f'within {k} sigma': f'heldout_within_{k}_sigma' for k in _SIGMA}
    specs['coverage'] = chart('Held-out points within sigma', covered, top=1.0, group='sigma')
    if specs['coverage']['curves']:
        for name, share in zip(('normal distribution', ''), _SIGMA.values(), strict=True):
            line = {'name': name, 'values': [share] * len(rows), 'reference': True}
            specs['coverage']['curves'].append(line)
    return specs


def _remarks(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each frame when it was, of which bag, and how its fit came about."""
    bags = results['provenance'].get('bags', ())
    first: dict[int, int] = {}
    remarks = []
    for row in rows:
        bag, stamp_ns = int(row.get('bag', 0)), int(row['stamp_ns'])
        parts = [f'{(stamp_ns - first.setdefault(bag, stamp_ns)) / 1e9:.1f} s']
        if len(bags) > 1 and bag < len(bags):
            parts.insert(0, bags[bag]['name'])
        parts += [str(row[key]) for key in ('state', 'reason') if row.get(key)]
        remarks.append(', '.join(parts))
    return remarks


def _by_range(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    protocols = {
        name: scores['by_range']
        for name, scores in results['protocols'].items()
        if scores.get('by_range')
    }
    if not protocols:
        return {}
    longest = max(protocols.values(), key=len)
    specs = {}
    for metric, (title, unit) in _RANGE_METRICS.items():
        curves = [
            {'name': name, 'values': [_number(item.get(metric)) for item in ranges]}
            for name, ranges in protocols.items()
        ]
        specs[f'range_{metric}'] = {
            'group': 'range',
            'title': f'{title} by true depth' + (f', {unit}' if unit else ''),
            'unit': unit,
            'x_label': 'true depth, m',
            'ticks': [_range_text(item) for item in longest],
            'zero': True,
            'curves': curves,
        }
    return specs


def _range_text(item: Mapping[str, Any]) -> str:
    low, high = _number(item.get('from')), _number(item.get('to'))
    return f'{low or 0:g}+' if high is None else f'{low or 0:g}–{high:g}'


def _sigma(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Make the reliability diagram: how many errors are within what sigma promises."""
    curves, places = [], []
    for name, scores in results['protocols'].items():
        points = (scores.get('sigma') or {}).get('reliability')
        if not points and scores.get('sigma_coverage'):
            points = [
                {'expected': share, 'observed': scores['sigma_coverage'].get(k)}
                for k, share in _SIGMA.items()
            ]
        found = {_number(p.get('expected')): _number(p.get('observed')) for p in points or ()}
        curves.append((name, {0.0: 0.0, **{k: v for k, v in found.items() if k is not None}}))
        places += [place for place in curves[-1][1] if place]
    if not places:
        return {}
    x = sorted({0.0, 1.0, *places})
    drawn = [
        {'name': name, 'values': _spread(found, x)} for name, found in curves if len(found) > 1
    ]
    ideal = {'name': 'as promised', 'values': x, 'reference': True}
    return {
        'reliability': {
            'group': 'sigma',
            'title': 'Share of errors within what sigma promises',
            'x_label': 'promised share',
            'x': x,
            'zero': True,
            'top': 1.0,
            'curves': [*drawn, ideal],
        }
    }


def _robustness(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Make a chart a protocol: the error against the strength of each corruption."""
    found = results.get('robustness') or {}
    corruptions = found.get('corruptions') or {}
    specs = {}
    for protocol in dict.fromkeys(name for kind in corruptions.values() for name in kind):
        curves = [
            {'name': kind, 'values': [_number(x) for x in by_protocol[protocol]['abs_rel']]}
            for kind, by_protocol in corruptions.items()
            if protocol in by_protocol
        ]
        specs[f'robustness_{protocol}'] = {
            'group': 'robustness',
            'title': f'AbsRel against strength ({protocol})',
            'x_label': 'strength, 0 is the image as it came',
            'ticks': [str(strength) for strength in found.get('strengths', ())],
            'zero': True,
            'curves': curves,
        }
    return specs


def _spread(found: Mapping[float, float | None], x: Sequence[float]) -> list[float | None]:
    """Join a curve's points by straight lines at all places up to its last one."""
    known = sorted((place, value) for place, value in found.items() if value is not None)
    places, values = zip(*known, strict=True)
    joined = np.interp(x, places, values)
    return [float(v) if place <= places[-1] else None for place, v in zip(x, joined, strict=True)]


def _number(value: Any) -> float | None:
    """Give six digits of a finite number."""
    if value is None or value == '' or isinstance(value, str):
        return None
    return float(f'{float(value):.6g}') if math.isfinite(value) else None
