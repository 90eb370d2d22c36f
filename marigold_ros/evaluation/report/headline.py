# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The first figures of the report: what it comes to, beside what simpler ways reach."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
import math
from typing import Any

from marigold_ros.evaluation.report.html_bars import bar
from marigold_ros.evaluation.report.tables import BASELINE_TEXT, number

_WHERE = {'heldout': 'at LiDAR points held out of the fit', 'truth': 'at the dense truth'}


def headline(results: Mapping[str, Any]) -> str:
    """Give the cards: error with interval and best baseline, median, frames, time, sigma."""
    protocol = _protocol(results)
    scores = results['protocols'].get(protocol)
    cards = []
    if scores:
        macro = scores['macro']
        where = _WHERE.get(protocol, '')
        cards += [
            _card(
                'mean relative error (AbsRel)',
                number(macro.get('abs_rel'), 3),
                f'{_interval(scores)}{where}; {_against(results, macro)}',
                'main',
            ),
            _card(
                'median relative error', _percent(scores.get('median_abs_rel')), 'of all points'
            ),
            _card(
                'RMSE', f'{number(macro.get("rmse"), 2)} m', f'MAE {number(macro.get("mae"), 2)} m'
            ),
            _card('within 25 % of the truth', _percent(macro.get('delta1')), 'of the points (δ1)'),
        ]
        covered = scores.get('sigma_coverage')
        if covered:
            text = f'68 % promised; within 2: {_percent(covered.get("2"))}'
            cards.append(_card('errors within 1 sigma', _percent(covered.get('1')), text))
    frames = results['frames']
    rejected = sum(frames['rejected'].values())
    away = f'{frames["dropped"]} dropped, {rejected} rejected'
    cards.append(_card('frames in metres', f'{frames["metric"]} of {frames["read"]}', away))
    time = _time(results)
    if time:
        cards.append(time)
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _protocol(results: Mapping[str, Any]) -> str:
    return str(results['provenance'].get('scoring', {}).get('baselines_protocol', 'heldout'))


def _card(label: str, figure: str, more: str, kind: str = '') -> str:
    kind = f' class="{kind}"' if kind else ''
    return (
        f'<li{kind}><span class="label">{escape(label)}</span><b>{escape(figure)}</b>'
        f'<span class="more">{escape(more)}</span></li>'
    )


def _percent(value: Any) -> str:
    text = number(None if value is None else 100 * value, 1)
    return f'{text} %' if text != '–' else text


def _interval(scores: Mapping[str, Any]) -> str:
    ends = (scores.get('interval') or {}).get('abs_rel')
    if not ends or None in ends:
        return ''
    return f'95 % interval {number(ends[0], 3)} to {number(ends[1], 3)}; '


def _against(results: Mapping[str, Any], macro: Mapping[str, Any]) -> str:
    """Compare with the best baseline."""
    errors = {name: values.get('abs_rel') for name, values in results['baselines'].items()}
    known = {name: e for name, e in errors.items() if e is not None and math.isfinite(e)}
    own = macro.get('abs_rel')
    if not known or own is None or not math.isfinite(own):
        return 'no baseline'
    best = min(known, key=lambda name: known[name])
    text = f'best baseline {known[best]:.3f} ({BASELINE_TEXT.get(best, best)})'
    if known[best] <= 0:
        return text
    change = own / known[best] - 1
    return f'{100 * abs(change):.0f} % {"lower" if change < 0 else "higher"} than the {text}'


def _time(results: Mapping[str, Any]) -> str:
    stages = results['latency_ms']
    stage = next((name for name in ('total', 'round_trip') if name in stages), None)
    if stage is None or not stages[stage].get('p50'):
        return ''
    p50, p95 = stages[stage]['p50'], stages[stage].get('p95')
    more = f'{1000 / p50:.1f} frames/s; 95 % below {number(p95, 0)} ms'
    peak = (results.get('memory') or {}).get('peak_mb')
    more += f'; {peak:.0f} MB' if peak else ''
    return _card('time a frame (median)', f'{p50:.0f} ms', more)


def accuracy_bars(results: Mapping[str, Any]) -> str:
    """Draw the mean relative error of models and baselines from zero, shorter is better."""
    protocol = _protocol(results)
    rows = []
    if protocol in results['protocols']:
        scores = results['protocols'][protocol]
        rows.append(('this model', scores['macro'].get('abs_rel'), scores, True))
    for name, entry in (results.get('models') or {}).items():
        scores = entry.get('protocols', entry).get(protocol)
        if scores:
            rows.append((name, scores['macro'].get('abs_rel'), scores, True))
    for name, values in results['baselines'].items():
        rows.append((BASELINE_TEXT.get(name, name), values.get('abs_rel'), {}, False))
    rows = [row for row in rows if row[1] is not None and math.isfinite(row[1])]
    if not rows:
        return ''
    ends = [row[1] for row in rows] + [(_ends(row[2]) or (0, 0))[1] for row in rows]
    longest = max(ends) or 1.0
    bars = ''.join(
        bar(name, value / longest, number(value, 3), own, _whisker(scores, longest))
        for name, value, scores, own in rows
    )
    note = 'Mean over frames; shorter is better.'
    if any(_ends(row[2]) for row in rows):
        note += ' The thin line is the 95 % interval.'
    return (
        f'<h3>AbsRel {escape(_WHERE.get(protocol, protocol))}</h3>'
        f'<div class="bars">{bars}</div><p class="note">{note}</p>'
    )


def _ends(scores: Mapping[str, Any]) -> tuple[float, float] | None:
    ends = (scores.get('interval') or {}).get('abs_rel')
    return None if not ends or None in ends else (float(ends[0]), float(ends[1]))


def _whisker(scores: Mapping[str, Any], longest: float) -> tuple[float, float] | None:
    ends = _ends(scores)
    return None if ends is None else (ends[0] / longest, ends[1] / longest)
