# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compare two results of the same bags frame by frame: differences and their certainty.

Frames are paired by bag and stamp. Results that were scored differently (another bag, split, depth
range, other points) are refused, because their difference would not be one of the depth.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import csv
from dataclasses import dataclass
import json
import math
from pathlib import Path
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.evaluation.metrics.intervals import mean_interval
from marigold_ros.evaluation.metrics.metric_table import METRICS
from marigold_ros.evaluation.protocols.protocols import PROTOCOLS
import numpy as np

LATENCY = 'total_ms'
# By direction in which a metric is better: what a smaller and a larger figure is called.
_WORDS = {'lower': ('better', 'worse'), 'higher': ('worse', 'better'), 'zero': ('lower', 'higher')}
# Settings that decide which points are scored, and as what.
_SCORING = ('fit_every', 'held_out', 'oracle', 'missing_depth')
_OPTIONS = (
    *('alignment.min_depth', 'alignment.max_depth'),
    *('alignment.occlusion_window', 'alignment.occlusion_threshold'),
    *('lidar.max_dt', 'lidar.time_offset', 'lidar.fixed_frame'),
)
_ROLES = ('image', 'camera_info', 'lidar', 'truth')

Row = Mapping[str, Any]
Pairs = Sequence[tuple[Row, Row]]


@dataclass(frozen=True)
class EvaluationRun:
    """The contents of results.json and per_frame.csv, the latter as text or numbers."""

    results: Mapping[str, Any]
    rows: Sequence[Row]


def read_run(folder: str | Path) -> EvaluationRun:
    """
    Read the two files of an evaluation.

    Raises
    ------
    InputError
        Where one is missing or damaged.

    """
    folder = Path(folder)
    try:
        results = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
        with (folder / 'per_frame.csv').open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        if results['schema'] != 1:
            raise ValueError(f'schema {results["schema"]}, not 1')
        if not {'bags', 'topics'} <= results['provenance'].keys():
            raise ValueError('the provenance has no bags')
        for row in rows:
            int(row['stamp_ns'])
            results['provenance']['bags'][int(row.get('bag') or 0)]['sha256']
    except OSError as error:
        raise InputError(
            f'{error.filename}: {error.strerror}; give a folder that evaluate wrote'
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f'{folder}: results.json and per_frame.csv are damaged or of another program '
            f'({error!r}); run evaluate again'
        ) from error
    return EvaluationRun(results, rows)


def compare_runs(a: EvaluationRun, b: EvaluationRun) -> dict[str, Any]:
    """
    Compare two runs metric by metric.

    Parameters
    ----------
    a, b : EvaluationRun
        Of the same bags.

    Returns
    -------
    dict
        ``frames``: ``paired``, ``only_a``, ``only_b``; ``protocols``: by protocol and metric the
        means ``a`` and ``b`` over the ``n_frames`` that both scored, ``difference`` (B minus A),
        its 95 % ``interval`` and a ``verdict`` in words, and ``only_a``, ``only_b``: frames that
        one alone scored; ``latency``: the same of the milliseconds a frame.

    Raises
    ------
    InputError
        If the two cannot be compared.

    """
    check_comparable(a.results, b.results)
    paired = _paired(a, b)
    if not paired:
        raise InputError('no frame is in both results: stamps or limits differ', 'shape')
    _check_points(paired)
    protocols, n = {protocol: _protocol(protocol, paired) for protocol in PROTOCOLS}, len(paired)
    return {
        'frames': {'paired': n, 'only_a': len(a.rows) - n, 'only_b': len(b.rows) - n},
        'protocols': {protocol: scores for protocol, scores in protocols.items() if scores},
        'latency': _difference(*_columns(LATENCY, paired), LATENCY),
    }


def paired_columns(
    name: str, a: EvaluationRun, b: EvaluationRun, most: int = 2000
) -> tuple[list[int], list[float | None], list[float | None]]:
    """Return places among the paired frames, at most so many, and a column of both there."""
    paired = _paired(a, b)
    stride = math.ceil(len(paired) / most) or 1
    values = [
        [float(x) if math.isfinite(x) else None for x in side[::stride]]
        for side in _columns(name, paired)
    ]
    return list(range(0, len(paired), stride)), values[0], values[1]


def _paired(a: EvaluationRun, b: EvaluationRun) -> Pairs:
    rows_b = _by_key(b)
    return [(row, rows_b[key]) for key, row in _by_key(a).items() if key in rows_b]


def check_comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise InputError if the settings of two results.json imply different scoring."""
    first, second = a['provenance'], b['provenance']
    hashes = [[bag['sha256'] for bag in side['bags']] for side in (first, second)]
    names = [', '.join(bag['name'] for bag in side['bags']) for side in (first, second)]
    if sorted(hashes[0]) != sorted(hashes[1]):
        raise InputError(f'other bags: A is of {names[0]}, B of {names[1]} (by SHA-256)', 'shape')
    settings = zip(_settings(first).items(), _settings(second).values(), strict=True)
    differences = '; '.join(
        f'{name} is {in_a!r} in A and {in_b!r} in B'
        for (name, in_a), in_b in settings
        if in_a != in_b
    )
    if differences:
        raise InputError(f'scored differently: {differences}; evaluate both alike', 'shape')


def _settings(provenance: Mapping[str, Any]) -> dict[str, Any]:
    scoring, options = provenance.get('scoring', {}), provenance.get('options', {})
    return {
        **{name: scoring.get(name) for name in _SCORING},
        **{name: options.get(name) for name in _OPTIONS},
        'extrinsics': provenance.get('extrinsics'),
        **{f'topic of {role}': provenance['topics'].get(role) for role in _ROLES},
    }


def _by_key(run: EvaluationRun) -> dict[tuple[str, int, int], Row]:
    """Map rows by bag, stamp, and number of earlier rows with both (a bag that was looped)."""
    hashes = [bag['sha256'] for bag in run.results['provenance']['bags']]
    seen: Counter[tuple[str, int]] = Counter()
    rows: dict[tuple[str, int, int], Row] = {}
    for row in run.rows:
        key = hashes[int(row.get('bag') or 0)], int(row['stamp_ns'])
        rows[(*key, seen[key])] = row
        seen[key] += 1
    return rows


def _check_points(paired: Pairs) -> None:
    """
    Refuse frames whose truth has different numbers of points in A and B.

    Points without depth are scored by a substitute (then ``n`` counts the truth) or left out (then
    ``n`` over ``coverage`` does).
    """
    for protocol in PROTOCOLS:
        n_a, n_b = _columns(f'{protocol}_n', paired)
        coverage_a, coverage_b = _columns(f'{protocol}_coverage', paired)
        with np.errstate(divide='ignore', invalid='ignore'):
            truth_a, truth_b = n_a / coverage_a, n_b / coverage_b
            # The file holds six digits.
            other = np.abs(truth_a - truth_b) > 1 + 1e-5 * truth_a
        other &= n_a != n_b
        if other.any():
            first = int(np.argmax(other))
            raise InputError(
                f'{protocol} is scored at other points in {int(other.sum())} of {len(paired)} '
                f'frames (first: {n_a[first]:.0f} in A, {n_b[first]:.0f} in B); check '
                'options and versions of the two',
                'shape',
            )


def _protocol(protocol: str, paired: Pairs) -> dict[str, Any]:
    """Compare one protocol; empty where no frame has it in both."""
    found = {m: _difference(*_columns(f'{protocol}_{m}', paired), m) for m in METRICS}
    metrics = {metric: values for metric, values in found.items() if values}
    if not metrics:
        return {}
    a, b = _columns(f'{protocol}_abs_rel', paired)
    only_a, only_b = np.isfinite(a) & ~np.isfinite(b), np.isfinite(b) & ~np.isfinite(a)
    return {'metrics': metrics, 'only_a': int(only_a.sum()), 'only_b': int(only_b.sum())}


def _columns(name: str, paired: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return one column of both, (n,) float; NaN where it is empty or missing."""
    cells = ([pair[side].get(name, '') for pair in paired] for side in (0, 1))
    a, b = (np.array([math.nan if x in ('', None) else float(x) for x in side]) for side in cells)
    return a, b


def _difference(a: np.ndarray, b: np.ndarray, metric: str) -> dict[str, Any]:
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return {}
    difference = b[known] - a[known]
    mean = float(difference.mean())
    low, high = mean_interval(difference)
    return {
        'a': float(a[known].mean()),
        'b': float(b[known].mean()),
        'difference': mean,
        'interval': [low, high],
        'n_frames': int(known.sum()),
        'verdict': verdict(mean, low, high, metric) if difference.any() else 'identical',
    }


def verdict(mean: float, low: float, high: float, metric: str) -> str:
    """Describe the conclusion from a mean difference (B minus A) and its interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 'too few frames to tell'
    if low <= 0 <= high:
        return 'no difference shown'
    words = ('faster', 'slower') if metric == LATENCY else _WORDS[METRICS[metric].better]
    ends = sorted((abs(low), abs(high)))
    size = f'{abs(mean):.3g} [{ends[0]:.3g}, {ends[1]:.3g}]'
    return f'B is {words[mean > 0]} by {size}'
