# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Judge the results of a run: is the depth good enough, and better than the simplest thing to do.

Only what intervals show is said: a range is usable where the upper end of the error's interval is
below the limit, and a baseline is beaten where the interval of the paired difference excludes 0.
"""

from collections.abc import Mapping
from itertools import groupby
import math
from typing import Any

from marigold_ros.evaluation.choices import USABLE_ERROR
from marigold_ros.evaluation.metrics.intervals import ENOUGH, FEWEST, TOO_FEW
from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.results.results import is_known

OUTCOMES = ('better', 'no difference shown', 'worse', TOO_FEW)
BETTER, SAME, WORSE, UNKNOWN = OUTCOMES
# Shares of the frames with metric depth below which a run is not good, and is bad.
_MOST, _HALF = 0.95, 0.5
# Strength at which corruptions are compared, the middle one.
_STRENGTH = 3
FULL_MODEL = 'marigold-depth-v1-1'
DEMONSTRATION = f'a small demonstration model; `models get {FULL_MODEL}` fetches a full one'
# Parts of the image with fewer points than this share say little.
_SHARE = 0.01


def judge(
    results: Mapping[str, Any], usable_error: float = USABLE_ERROR, demonstration: bool = False
) -> dict[str, Any]:
    """
    Judge the content of results.json.

    Parameters
    ----------
    results : mapping
        As ``assemble`` returns it, with ``robustness`` where that was measured.
    usable_error : float
        Mean relative error up to which depth counts as usable.
    demonstration : bool
        Whether the model is one of those that come with the package.

    Returns
    -------
    dict
        ``grade`` (green, amber, red, or unknown without an interval); ``title``, with the reason
        in words; ``usable_range`` with ``limit``, ``to`` in metres (None without one) and
        ``next``, the first bin of ``by_range`` that is not usable; ``against_baselines``: by
        metric the best ``baseline``, its value ``theirs`` and ``own``, ``difference``,
        ``interval`` and ``outcome``, one of ``OUTCOMES``; ``speed`` with ``hertz`` and
        ``dropped``; ``weakest`` with ``condition`` and ``abs_rel``;
        ``demonstration``; ``fitted_to_truth``: whether scale and shift are fitted to the truth, as
        for data sets, which have nothing else; ``text``: all of it in words.

    """
    main = results['provenance']['scoring'].get('baselines_protocol', 'heldout')
    protocol = main if main in results['protocols'] else 'oracle'  # a bound by the truth
    scores = results['protocols'].get(protocol, {})
    found: dict[str, Any] = {
        'usable_range': usable_range(scores, usable_error),
        'against_baselines': _against_baselines(results, scores),
        'speed': _speed(results),
        'weakest': _weakest(results, protocol),
        'demonstration': demonstration,
        'fitted_to_truth': main == 'oracle',
    }
    grade, title = _grade(results, scores, found)
    words = _words(results, scores, found)
    text = {name: text for name, text in words.items() if text}
    return {'grade': grade, 'title': title, **found, 'text': text}


def usable_range(scores: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """
    Return the distance below which the error of a protocol is shown to be under a limit.

    In every bin up to ``to``, metres, the upper end of the interval of AbsRel is below the limit;
    None where the nearest bin already is not. ``next`` is the first bin that is not, None without.
    """
    end = None
    for part in scores.get('by_range', ()):
        interval = part.get('abs_rel_interval')
        if interval is None or not interval[1] < limit:
            facts = {name: part[name] for name in ('from', 'to', 'abs_rel')}
            return {'limit': limit, 'to': end, 'next': {**facts, 'interval': interval}}
        end = part['to']
    return {'limit': limit, 'to': end, 'next': None}


def _against_baselines(
    results: Mapping[str, Any], scores: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Compare with the best baseline of each metric; ``global`` is the model itself."""
    compared = {}
    for metric in COMPARED:
        errors = {
            name: values[metric]
            for name, values in results['baselines'].items()
            if name != 'global' and is_known(values.get(metric))
        }
        if not errors or not is_known(scores.get('macro', {}).get(metric)):
            continue
        best = min(errors, key=lambda name: errors[name])
        paired = results['baselines_paired'][best][metric]
        low, high = paired['interval']
        compared[metric] = {
            'baseline': best,
            'theirs': errors[best],
            'own': scores['macro'][metric],
            'difference': paired['difference'],
            'interval': [low, high],
            'outcome': outcome(low, high),
        }
    return compared


def outcome(low: float | None, high: float | None) -> str:
    """Describe the interval of a difference of errors, one of ``OUTCOMES``."""
    if low is None or high is None or not math.isfinite(low + high):
        return UNKNOWN
    return BETTER if high < 0 else WORSE if low > 0 else SAME


def _speed(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rate at which 95 of 100 frames are in time, Hz, and the dropped images."""
    stages = results['latency_ms']
    p95 = stages.get('total', {}).get('p95')
    hertz = 1e3 / p95 if is_known(p95) and p95 > 0 else None
    return {'hertz': hertz, 'dropped': results['frames']['dropped']}


def _weakest(results: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Return the corruption, or else the part of the image, with the largest error."""
    found = results.get('robustness', {})
    if found.get('corruptions'):
        place = found['strengths'].index(_STRENGTH)
        curves = {k: p[protocol]['abs_rel'] for k, p in found['corruptions'].items()}
        errors = {f'{kind} at strength {_STRENGTH}': c[place] for kind, c in curves.items()}
    else:
        regions = results['protocols'].get(protocol, {}).get('by_region', {})
        enough = _SHARE * sum(part['n'] for part in regions.values()) / 2
        errors = {
            f'the {name} third of the image': part['abs_rel']
            for name, part in regions.items()
            if part['n'] >= enough
        }
    known = {name: error for name, error in errors.items() if is_known(error)}
    if not known:
        return {}
    worst = max(known, key=lambda name: known[name])
    return {'condition': worst, 'abs_rel': known[worst]}


def _grade(
    results: Mapping[str, Any], scores: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[str, str]:
    """Grade by the range, the frames with depth and the baselines; return grade and title."""
    if scores.get('n_frames', 0) < FEWEST:
        return 'unknown', f'Unknown: {TOO_FEW}'
    outcomes = {m: values['outcome'] for m, values in found['against_baselines'].items()}
    faults, flaws = [], []
    if not found['fitted_to_truth']:
        frames, usable = results['frames'], found['usable_range']
        wanted = frames['read'] - frames['dropped']
        metric = frames['metric'] / wanted if wanted else 0.0
        limit, after = usable['limit'], usable['next']
        if usable['to'] is None and after and after['abs_rel'] >= limit:
            faults.append(f'mean error above {100 * limit:g} % in the nearest 10 m')
        elif usable['to'] is None:
            flaws.append(f'the nearest 10 m are not shown to be within {100 * limit:g} %')
        if metric < _MOST:
            where = faults if metric < _HALF else flaws
            where.append(f'metric depth in only {metric:.0%} of the frames')
    first = outcomes.get('abs_rel', BETTER)
    if first == WORSE:
        faults.append('worse than the best baseline in AbsRel')
    elif first != BETTER:
        flaws.append('not shown to be better than the best baseline in AbsRel')
    later = (m for m, outcome in outcomes.items() if outcome == WORSE and m != 'abs_rel')
    behind = [METRICS[m].title.partition(',')[0] for m in later]
    if behind:
        flaws.append(f'worse than the best baseline in {" and ".join(behind)}')
    shown = any('abs_rel_interval' in part for part in scores.get('by_range', ()))
    if first == UNKNOWN and not shown and not faults:
        return 'unknown', f'Unknown: {TOO_FEW}'
    if faults or flaws:
        words = '; '.join((*faults, *flaws))
        return ('red', f'Poor: {words}') if faults else ('amber', f'Mixed: {words}')
    usable_too = '' if found['fitted_to_truth'] else 'usable, and '
    return 'green', f'Good: {usable_too}better than the best baseline'


def _words(
    results: Mapping[str, Any], scores: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, str]:
    """Say each part of the verdict in a line."""
    n = scores.get('n_frames', 0)
    speed = found['speed']
    hertz = '' if speed['hertz'] is None else f'fast enough for {speed["hertz"]:.1f} Hz'
    if hertz:
        p95 = results['latency_ms']['total']['p95']
        hertz += f': 95 % of the frames took less than {p95:.0f} ms'
        dropped = speed['dropped']
        hertz += f'; {dropped} images were dropped' if dropped else ''
    weakest = found['weakest']
    name = results['provenance'].get('checkpoint', {}).get('name', 'the model')
    fit = 'fitted to the truth of each image: a bound for the relative depth, not metric depth'
    demo = f'{name} is {DEMONSTRATION}'
    return {
        'range': _range_text(found['usable_range'], n),
        'baselines': _comparison(found['against_baselines']) if n >= FEWEST else '',
        'fit': fit if found['fitted_to_truth'] else '',
        'speed': hertz,
        'weakest': f'{weakest["condition"]}: AbsRel {weakest["abs_rel"]:.3f}' if weakest else '',
        'model': demo if found['demonstration'] else '',
    }


def _range_text(usable: Mapping[str, Any], n_frames: int) -> str:
    """Say up to which distance depth is usable, and the error beyond."""
    if not n_frames:
        return 'no frame could be scored'
    if n_frames < FEWEST:
        return f'{n_frames} scored frames are too few to tell; about {ENOUGH} are needed'
    limit, end, after = f'{100 * usable["limit"]:g} %', usable['to'], usable['next']
    text = f'within {limit} to about {end:.0f} m' if end else f'not shown to be within {limit}'
    if after is None:
        return f'{text}, the farthest scored point'
    text += f': AbsRel {after["abs_rel"]:.3f} from {after["from"]:.0f} to {after["to"]:.0f} m'
    ends = after['interval']
    return text + (f' (95 % interval up to {ends[1]:.3f})' if ends else f', {TOO_FEW}')


def _comparison(compared: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in which metrics the best baseline is beaten, and in which not."""

    def outcome_of(item: tuple[str, Mapping[str, Any]]) -> int:
        return OUTCOMES.index(item[1]['outcome'])

    groups = []
    for rank, items in groupby(sorted(compared.items(), key=outcome_of), outcome_of):
        *first, last = (_figure(*item) for item in items)
        listed = f'{", ".join(first)} and {last}' if first else last
        groups.append(f'{OUTCOMES[rank]} in {listed}')
    return '; '.join(groups)


def _figure(metric: str, values: Mapping[str, Any]) -> str:
    unit = f' {METRICS[metric].unit}' if METRICS[metric].unit else ''
    digits = 2 if unit else 3
    baseline = values['baseline'].replace('_', ' ')
    own, theirs = (f'{values[side]:.{digits}f}{unit}' for side in ('own', 'theirs'))
    return f'{METRICS[metric].label} ({own}, {baseline} {theirs})'
