# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Judge the results of a run: is the depth good enough, and better than the simplest thing to do.

Only what intervals show is said: good needs every limit shown to be kept, mixed and poor need one
shown not to be kept, and the rest is unknown. Parts of a recording may thus say too little, but
hardly contradict each other.
"""

from collections.abc import Iterator, Mapping, Sequence
import math
from typing import Any, NamedTuple

from marigold_ros.errors import number
from marigold_ros.evaluation.baselines import BASELINE_TEXT
from marigold_ros.evaluation.choices import USABLE_ERROR
from marigold_ros.evaluation.metrics.intervals import ENOUGH, FEWEST, TOO_FEW
from marigold_ros.evaluation.metrics.metric_table import COMPARED, METRICS
from marigold_ros.evaluation.results.results import is_known, ran_by

OUTCOMES = ('better', 'no difference shown', 'worse', TOO_FEW)
BETTER, SAME, WORSE, UNKNOWN = OUTCOMES
# Shares of the frames with metric depth below which a run is not good, and is bad.
_MOST, _HALF = 0.95, 0.5
# Difference from a baseline that counts, as a share of its error.
_COUNTS = 0.05
# Share of the errors within two sigma (nominal 0.95) below which sigma is too small.
_COVERED = 0.9
# Half of a 95 % interval, in standard errors of not too few frames.
_ERRORS = 2.1
# So many times the frames are not extrapolated beyond.
_FAR = 10
_NO_INTERVAL = (math.nan, math.nan)
_UNSCORED = 'no metric depth could be scored'
# Strength at which corruptions are compared, the middle one.
_STRENGTH = 3
# Published models in place of the demonstration: name, size and licence.
FULL_MODELS = {
    'cpu': ('depth-anything-v2-small', '99 MB, Apache-2.0'),
    'cuda': ('marigold-depth-v1-1', '5.2 GB, RAIL++-M'),
}
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
        ``grade`` (green, amber, red, or unknown where too little is shown); ``title``, with the
        reason in words; ``needed``: the frames that would tell, None where it is known;
        ``usable_range`` with ``limit``, ``from`` and ``to`` in metres (None without one) and
        ``next``, the first bin of ``by_range`` that is not usable; ``against_baselines``: by
        metric the best ``baseline``, its value ``theirs`` and ``own``, ``difference``,
        ``interval``, ``outcome``, one of ``OUTCOMES``, the ``limit`` that the difference should
        keep and the frames ``needed`` to tell; ``speed`` with ``hertz`` and ``dropped``;
        ``weakest`` with ``condition`` and ``abs_rel``; ``demonstration``;
        ``fitted_to_truth``: whether scale and shift are fitted to the truth, as for data sets,
        which have nothing else; ``text``: all of it in words.

    """
    protocol = results['provenance']['scoring'].get('baselines_protocol', 'heldout')
    scores = results['protocols'].get(protocol, {})
    found: dict[str, Any] = {
        'usable_range': usable_range(scores, usable_error),
        'against_baselines': _against_baselines(results, scores),
        'speed': _speed(results),
        'weakest': _weakest(results, protocol),
        'demonstration': demonstration,
        'fitted_to_truth': protocol == 'oracle',
    }
    grade, title, needed = _grade(results, scores, found)
    trained = ', '.join(results['provenance'].get('trained_on', ()))
    if trained and grade in ('green', 'unknown'):
        grade, needed = 'unknown', None
        title = f'Cannot tell: scored on its own training data ({trained})'
    elif trained:
        title = title.replace(':', f', on its own training data ({trained}):', 1)
    text = {name: text for name, text in _words(results, scores, found).items() if text}
    return {'grade': grade, 'title': title, 'needed': needed, **found, 'text': text}


def usable_range(scores: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """
    Return the distances at which the error of a protocol is shown to be under a limit.

    In every bin from ``from``, below which no point was scored, to ``to``, metres, the upper end
    of the interval of AbsRel is below the limit; None where the nearest bin already is not.
    ``next`` is the first bin that is not, or the first distances without scored points, whose
    AbsRel is NaN; None without.
    """
    found: dict[str, Any] = {'limit': limit, 'from': None, 'to': None, 'next': None}
    for part in scores.get('by_range', ()):
        end = found['to']
        if end is not None and part['from'] > end:
            facts = {'from': end, 'to': part['from'], 'abs_rel': math.nan}
            return {**found, 'next': {**facts, 'interval': None}}
        interval = part.get('abs_rel_interval')
        if interval is None or not interval[1] < limit:
            facts = {name: part[name] for name in ('from', 'to', 'abs_rel')}
            return {**found, 'next': {**facts, 'interval': interval}}
        found['from'] = part['from'] if end is None else found['from']
        found['to'] = min(part['to'], scores.get('farthest', math.inf))
    return found


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
        limit = (-_COUNTS if metric == 'abs_rel' else _COUNTS) * errors[best]
        n, gap = paired['n_frames'], paired['difference'] - limit
        compared[metric] = {
            'baseline': best,
            'theirs': errors[best],
            'own': errors[best] + paired['difference'],  # of the same frames and pixels
            'difference': paired['difference'],
            'interval': [low, high],
            'outcome': outcome(low, high),
            'limit': limit,
            'needed': _needed(n, gap, abs(limit), (low, high), paired['standard_error']),
        }
    return compared


def outcome(low: float | None, high: float | None) -> str:
    """Describe the interval of a difference of errors, one of ``OUTCOMES``."""
    if low is None or high is None or not math.isfinite(low + high):
        return UNKNOWN
    return BETTER if high < 0 else WORSE if low > 0 else SAME


def _speed(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rate at which 95 of 100 frames are in time, Hz, and the dropped images."""
    p95 = results['latency_ms'].get('total', {}).get('p95')
    hertz = 1e3 / p95 if is_known(p95) and p95 > 0 else None
    return {'hertz': hertz, 'dropped': results['frames']['dropped']}


def _weakest(results: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Return the corruption, or else the part of the image, with the largest error."""
    found = results.get('robustness', {})
    if found.get('corruptions') and protocol in results['protocols']:
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


def _side(interval: Sequence[float | None], limit: float) -> int:
    """Return -1 or 1 where an interval lies below or above a limit; 0 where neither is shown."""
    low, high = (math.nan if end is None else end for end in interval)
    return -1 if high < limit else 1 if low > limit else 0


def _needed(
    n: int, gap: float, margin: float, interval: Sequence[float | None], error: float = math.nan
) -> float:
    """Estimate the frames that show a mean of ``n`` frames to lie on one side of a limit."""
    low, high = (math.nan if end is None else end for end in interval)
    shown = math.isfinite(high - low)
    half = 0.5 * (high - low) if shown else _ERRORS * error
    # Half of the gap to the limit, because the mean of so few frames is not exact either.
    distance = max(0.5 * abs(gap), margin)
    needed = n * (half / distance) ** 2 if distance else math.nan
    least = 0 if shown else max(ENOUGH, 2 * n)
    return max(needed, least) if is_known(needed) else least


class _Finding(NamedTuple):
    """Where a run falls short, red or amber, or what its frames do not show, unknown."""

    grade: str
    text: str
    needed: float = 0.0  # frames that would show it


def _grade(
    results: Mapping[str, Any], scores: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[str, str, int | None]:
    """Grade by range, frames with depth, sigma and baselines; return grade, title and needed."""
    n, compared = scores.get('n_frames', 0), found['against_baselines']
    findings: list[_Finding] = []
    if not found['fitted_to_truth']:
        findings += _judge_metric_frames(results['frames'], n)
    if n < FEWEST:
        # Frames without metric depth have no scores, and are a result all the same.
        poor = [finding.text for finding in findings if finding.grade == 'red']
        if poor and results['frames']['read'] - results['frames']['dropped'] >= FEWEST:
            return 'red', f'Poor: {poor[0]}', None
        return 'unknown', f'Cannot tell: {TOO_FEW if n else _UNSCORED}', ENOUGH if n else None
    if not found['fitted_to_truth']:
        findings = [*_judge_range(found['usable_range'], n), *findings, *_judge_sigma(scores, n)]
    findings += _judge_baselines(compared)
    faults, flaws, unknown = (
        [finding for finding in findings if finding.grade == grade]
        for grade in ('red', 'amber', 'unknown')
    )
    if faults or flaws:
        grade, title = ('red', 'Poor') if faults else ('amber', 'Mixed')
        return grade, f'{title}: {_joined([*faults, *flaws])}', None
    if unknown:
        needed = max(finding.needed for finding in unknown)
        most = int(float(f'{min(needed, _FAR * n):.2g}'))
        far = 'more than' if most >= _FAR * n else 'about'
        more = f'{far} {most} are needed' if most > n else 'it is too close to a limit'
        return 'unknown', f'Cannot tell from {n} images: {_joined(unknown)}; {more}', most
    better = [values['baseline'] for values in compared.values()][:1]
    good = [] if found['fitted_to_truth'] else ['usable']
    good += [f'better than the best baseline ({name.replace("_", " ")})' for name in better]
    return 'green', f'Good: {", and ".join(good)}', None


def _joined(findings: Sequence[_Finding]) -> str:
    return '; '.join(finding.text for finding in findings)


def _judge_metric_frames(frames: Mapping[str, Any], n: int) -> Iterator[_Finding]:
    """Judge how many of the frames that were not dropped have metric depth; ``n`` are scored."""
    metric, wanted = frames['metric'], frames['read'] - frames['dropped']
    share = metric / wanted if wanted else 0.0
    if share < _HALF or (share < _MOST and _is_less(metric, wanted, _MOST)):
        grade = 'red' if share < _HALF else 'amber'
        few = f'metric depth in only {_percent(share)} of the frames'
        yield _Finding(grade, few if metric else 'no frame has metric depth')
    elif share < _MOST:
        text = f'whether {_percent(_MOST)} of the frames have metric depth'
        yield _Finding('unknown', text, 2.0 * n)


def _judge_range(usable: Mapping[str, Any], n: int) -> Iterator[_Finding]:
    """Judge the error at the nearest points, where :func:`usable_range` found no range."""
    if usable['to'] is not None:
        return
    limit, near = usable['limit'], usable['next'] or {'abs_rel': math.nan, 'interval': None}
    ends, where = near['interval'] or _NO_INTERVAL, 'the nearest 10 m'
    if near.get('from'):  # nothing nearer was scored
        where = f'the nearest points ({near["from"]:g} to {near["to"]:g} m)'
    if _side(ends, limit) > 0:
        yield _Finding('red', f'mean error above {100 * limit:g} % in {where}')
    else:
        needed = _needed(n, near['abs_rel'] - limit, _COUNTS * limit, ends)
        yield _Finding('unknown', f'whether {where} are within {100 * limit:g} %', needed)


def _judge_sigma(scores: Mapping[str, Any], n: int) -> Iterator[_Finding]:
    """Judge whether sigma, if there is one, is large enough."""
    if 'sigma_interval' not in scores:
        return
    ends, share = scores['sigma_interval'] or _NO_INTERVAL, scores['sigma_coverage']['2']
    side = _side(ends, _COVERED)
    if side < 0:
        text = f'{_percent(share)} of the errors within two sigma, where 95 % are due'
        yield _Finding('amber', text)
    elif side == 0:
        text = f'whether {_percent(_COVERED)} of the errors are within two sigma'
        yield _Finding('unknown', text, _needed(n, share - _COVERED, _COUNTS, ends))


def _judge_baselines(compared: Mapping[str, Mapping[str, Any]]) -> Iterator[_Finding]:
    """Judge the comparison of each metric with its best baseline."""
    close = {}
    for metric, values in compared.items():
        name, limit = METRICS[metric].title.partition(',')[0], values['limit']
        against = f'the best baseline ({values["baseline"].replace("_", " ")}) in {name}'
        side = _side(values['interval'], limit)
        if side == 0:
            close[name] = values['needed']
        elif side > 0 and metric != 'abs_rel':
            yield _Finding('amber', f'more than {_percent(_COUNTS)} worse than {against}')
        elif side > 0 and values['outcome'] == WORSE:
            yield _Finding('red', f'worse than {against}')
        elif side > 0:
            yield _Finding('amber', f'less than {_percent(_COUNTS)} better than {against}')
    if close:
        text = f'{", ".join(close)} against the best baselines'
        yield _Finding('unknown', text, max(close.values()))


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %'


def _is_less(successes: int, trials: int, share: float) -> bool:
    """Return whether so few successes show that their share is lower."""
    from scipy.special import bdtr

    return float(bdtr(successes, trials, share)) < 0.025


def _words(
    results: Mapping[str, Any], scores: Mapping[str, Any], found: Mapping[str, Any]
) -> dict[str, str]:
    """Say each part of the verdict in a line."""
    n = scores.get('n_frames', 0)
    speed = found['speed']
    hertz = '' if speed['hertz'] is None else f'fast enough for {number(speed["hertz"], 1)} Hz'
    if hertz:
        p95 = results['latency_ms']['total']['p95']
        hertz += f'{_conditions(results)}: 95 % of the frames took less than {p95:.0f} ms'
        dropped = speed['dropped']
        hertz += f'; {dropped} images were dropped' if dropped else ''
    weakest = found['weakest']
    checkpoint = results['provenance'].get('checkpoint', {})
    name = checkpoint.get('name', 'the model')
    fit = 'fitted to the truth of each image: a score of the relative depth, not of metric depth'
    trained = ', '.join(results['provenance'].get('trained_on', ()))
    data = f'{name} was trained on {trained}; these figures say nothing of other recordings'
    return {
        'training': data if trained else '',
        'range': _range_text(found['usable_range'], n),
        'baselines': _comparison(found['against_baselines']) if n >= FEWEST else '',
        'best': _explained(found['against_baselines']) if n >= FEWEST else '',
        'alone': _alone(results, name),
        'sigma': _sigma_text(scores),
        'fit': fit if found['fitted_to_truth'] else '',
        'speed': hertz,
        'weakest': f'{weakest["condition"]}: AbsRel {weakest["abs_rel"]:.3f}' if weakest else '',
        'model': f'{name} is {demonstration(checkpoint)}' if found['demonstration'] else '',
    }


def _conditions(results: Mapping[str, Any]) -> str:
    """Say which backend ran the model, in which precision, and how busy the machine was."""
    provenance = results['provenance']
    ran = ran_by(provenance.get('checkpoint', {}))
    words = [('by', 'backend'), ('in', 'dtype'), ('on', 'device')]
    text = ''.join(f' {word} {ran[name]}' for word, name in words if name in ran)
    load, cores = provenance.get('load'), provenance.get('machine', {}).get('cores')
    return f'{text} at load {load:g} of {cores} cores' if is_known(load) and cores else text


def _range_text(usable: Mapping[str, Any], n_frames: int) -> str:
    """Say up to which distance depth is usable, and the error beyond."""
    if not n_frames:
        return _UNSCORED
    if n_frames < FEWEST:
        frames = '1 scored frame is' if n_frames == 1 else f'{n_frames} scored frames are'
        return f'{frames} too few to tell; about {ENOUGH} are needed'
    most, to, after = f'{100 * usable["limit"]:g} %', usable['to'], usable['next']
    text = f'not shown to be within {most}'
    if to:
        nearest = f' from {usable["from"]:.0f}' if usable['from'] else ''
        text = f'within {most}{nearest} to about {number(to, 0)} m'
    if after is None:
        return f'{text}, the farthest scored point'
    where = f'from {after["from"]:.0f} to {after["to"]:.0f} m'
    if not is_known(after['abs_rel']):
        return f'{text}: no scored point {where}'
    text += f': AbsRel {after["abs_rel"]:.3f} {where}'
    ends = after['interval']
    return text + (f' (95 % interval up to {ends[1]:.3f})' if ends else f', {TOO_FEW}')


def _comparison(compared: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in which metrics the best baseline is beaten, and in which not."""
    groups = []
    for outcome in OUTCOMES:
        figures = [_figure(*item) for item in compared.items() if item[1]['outcome'] == outcome]
        if figures:
            *first, last = figures
            listed = f'{", ".join(first)} and {last}' if first else last
            groups.append(f'{outcome} in {listed}')
    return '; '.join(groups)


def _explained(compared: Mapping[str, Mapping[str, Any]]) -> str:
    """Explain the baselines that decided."""
    names = dict.fromkeys(values['baseline'] for values in compared.values())
    return '; '.join(f'{name.replace("_", " ")}: {BASELINE_TEXT[name]}' for name in names)


def _alone(results: Mapping[str, Any], name: str) -> str:
    """Say that the model alone is no better than a constant or plane; empty where it is."""
    for surface, paired in results.get('alone', {}).items():
        if paired['difference'] > 0:
            own, theirs = paired['abs_rel'] + paired['difference'], paired['abs_rel']
            worse = outcome(*paired['interval']) == WORSE
            shown = 'worse' if worse else 'not better'
            adds = 'it adds nothing here' if worse else 'nothing shows that it adds anything here'
            return (
                f'{name} alone, fitted to the truth, is {shown} than a {surface} fitted likewise '
                f'(AbsRel {own:.3f}, {surface} {theirs:.3f}): {adds}'
            )
    return ''


def _sigma_text(scores: Mapping[str, Any]) -> str:
    """Say how many errors are within two sigma."""
    if 'sigma_coverage' not in scores:
        return ''
    low, high = scores['sigma_interval'] or _NO_INTERVAL
    ends = f'95 % interval {_percent(low)} to {_percent(high)}' if is_known(low) else TOO_FEW
    share = scores['sigma_coverage']['2']
    return f'{_percent(share)} of the errors within two sigma ({ends}; 95 % are due)'


def _figure(metric: str, values: Mapping[str, Any]) -> str:
    unit = f' {METRICS[metric].unit}' if METRICS[metric].unit else ''
    digits = 2 if unit else 3
    baseline = values['baseline'].replace('_', ' ')
    own, theirs = (f'{number(values[side], digits)}{unit}' for side in ('own', 'theirs'))
    return f'{METRICS[metric].label} ({own}, {baseline} {theirs})'


def demonstration(description: Mapping[str, Any]) -> str:
    """Return in words what an embedded model is, and how to get a full one for its device."""
    device = str(description.get('device', 'cpu')).partition(':')[0]
    name, facts = FULL_MODELS.get(device, FULL_MODELS['cpu'])
    return (
        f'a small demonstration model; `python -m marigold_ros models get {name}` fetches a full '
        f'one ({facts})'
    )
