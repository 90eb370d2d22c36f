# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Compare results of the same frames: a leaderboard, and which differences are more than chance.

Runs are ordered by AbsRel, and each differs from the best run by a mean over frames, with the
interval of the paired differences. Baselines stand between the runs where all saw the same points.
"""

from collections.abc import Mapping, Sequence
import math
from pathlib import Path
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.evaluation.baselines import BASELINE_TEXT
from marigold_ros.evaluation.metrics.intervals import ENOUGH, mean_interval, TOO_FEW
from marigold_ros.evaluation.metrics.metric_table import COMPARED, Metric, METRICS
from marigold_ros.evaluation.results.results import ran_by
from marigold_ros.evaluation.results.shared_frames import differing, EvaluationRun, SharedFrames
from marigold_ros.settings import flat
import numpy as np

SCHEMA = 2
LATENCY = 'total_ms'
FIGURES = {**METRICS, LATENCY: Metric(LATENCY, 'ms', 'lower', (0.0, math.inf), 'time', None)}
BEST, SAME = 'best', 'no difference shown'
IDENTICAL = 'identical'
# By direction in which a metric is better: what a smaller and a larger figure is called.
_WORDS = {'lower': ('better', 'worse'), 'higher': ('worse', 'better'), 'zero': ('lower', 'higher')}
# Entries of the provenance that are no settings, or are among them under another name.
_NO_SETTINGS = (
    *('bags', 'created', 'warnings', 'checkpoint', 'options', 'topics', 'scoring', 'load'),
    *('trained_on', 'node', 'recorded', 'rate'),
)
_OF_MODEL = (
    *('kind', 'space', 'parameters', 'default_denoising_steps', 'default_ensemble_size'),
    'processing_resolution',
)
_SCORED = ('fit_every', 'held_out', 'oracle', 'missing_depth')

Columns = Mapping[str, np.ndarray]
Entry = tuple[str, str]  # kind (run or baseline) and name of a row of a leaderboard


def name_runs(paths: Sequence[str | Path]) -> list[str]:
    """Name folders (or results.json in them) by their last parts, as many as tell them apart."""
    folders = [Path(path).resolve() for path in paths]
    parts = [(path.parent if path.name == 'results.json' else path).parts for path in folders]
    longest = max(map(len, parts), default=1)
    depth = next((n for n in range(1, longest) if len({p[-n:] for p in parts}) == len(parts)), 1)
    names = ['/'.join(part[-depth:]) for part in parts]
    return [
        name if names.count(name) == 1 else f'{name} ({names[: i + 1].count(name)})'
        for i, name in enumerate(names)
    ]


def compare_runs(shared: SharedFrames) -> dict[str, Any]:
    """
    Compare runs by the frames that all have.

    Returns
    -------
    dict
        ``runs``: by name its checkpoint. ``differences``: of model and settings, those in which
        the runs differ, by dotted name and run. ``frames``: the number all have, and ``bags``.
        ``left_out``: sentences. ``protocols``: by name ``n_frames``, ``rows`` in order of AbsRel,
        each with ``name``, ``kind`` (run or baseline), ``rank``, ``outcome`` in words and
        ``metrics``: by name ``mean``, ``interval`` of the mean, ``difference`` from the best run,
        ``difference_interval`` and ``outcome``; ``bags``: rows likewise by bag, where there are
        several; and ``unscored``: by run the frames that it lacks and another has.

    Raises
    ------
    InputError
        If no frame is scored in all runs.

    """
    runs, left_out = shared.runs, list(shared.left_out)
    checkpoints = {n: r.results['provenance'].get('checkpoint', {}) for n, r in runs.items()}
    models = {name: found.get('sha256') for name, found in checkpoints.items()}
    protocols = {}
    for protocol in shared.protocols:
        board, sentence = _protocol(protocol, shared)
        if board:
            protocols[protocol] = board
            left_out += _ties(protocol, board, models)
        left_out += [sentence] if sentence else []
    if not protocols:
        raise InputError(f'no frame is scored in all of them: {" ".join(left_out)}', 'shape')
    machines = [run.results['provenance'].get('machine') for run in runs.values()]
    if any(machine != machines[0] for machine in machines):
        left_out.append('Times are of different machines.')
    return {
        'schema': SCHEMA,
        'runs': {
            name: {'checkpoint': found.get('name'), 'sha256': found.get('sha256')}
            for name, found in checkpoints.items()
        },
        'differences': differing({name: _settings(run) for name, run in runs.items()}),
        'frames': len(shared.bags),
        'bags': list(dict.fromkeys(shared.bags)),
        'left_out': left_out,
        'protocols': protocols,
    }


def _settings(run: EvaluationRun) -> dict[str, Any]:
    """Return model, options and the rest of a provenance under dotted names, the model first."""
    provenance = run.results['provenance']
    checkpoint = provenance.get('checkpoint', {})
    model = {'model': checkpoint.get('name')}
    # A node describes its model in strings.
    model |= {f'model.{n}': str(checkpoint[n]) for n in _OF_MODEL if n in checkpoint}
    model |= {f'model.{name}': value for name, value in ran_by(checkpoint).items()}
    for name in ('sha256', 'fusion_sha256'):
        model[f'model.{name}'] = str(checkpoint.get(name) or '')[:12]
    options = provenance.get('options', {})
    scoring = {n: v for n, v in provenance.get('scoring', {}).items() if n in _SCORED}
    rest = {name: value for name, value in provenance.items() if name not in _NO_SETTINGS}
    bags = ', '.join(bag['name'] for bag in provenance['bags'])
    topics = {'bags': bags, 'topics': provenance['topics']}
    parts = (model, options, scoring, topics, rest)
    return dict(pair for part in parts for pair in flat(part))


def _protocol(protocol: str, shared: SharedFrames) -> tuple[dict[str, Any], str]:
    """Return the leaderboard of a protocol, and a sentence about baselines left out."""
    runs: dict[str, Columns] = {
        name: {
            **{metric: shared.column(name, f'{protocol}_{metric}') for metric in METRICS},
            LATENCY: shared.column(name, LATENCY),
        }
        for name in shared.rows
    }
    baselines, sentence = _baselines(protocol, shared)
    scored = {name: np.isfinite(columns['abs_rel']) for name, columns in runs.items()}
    if baselines:
        of_baselines = [np.isfinite(columns['abs_rel']) for columns in baselines.values()]
        scored['baselines'] = np.logical_and.reduce(of_baselines)
    known = np.logical_and.reduce(list(scored.values()))
    if not known.any():
        return {}, f'{protocol} is left out: no frame is scored in all runs.'
    entries = {('run', name): columns for name, columns in runs.items()}
    entries |= {('baseline', name): columns for name, columns in baselines.items()}
    in_any = np.logical_or.reduce(list(scored.values()))
    unscored = {name: int((in_any & ~there).sum()) for name, there in scored.items()}
    board = {
        'n_frames': int(known.sum()),
        'rows': _ranked(entries, known),
        'bags': [],
        'unscored': {name: n for name, n in unscored.items() if n},
    }
    bags = np.array(shared.bags)
    if len(set(shared.bags)) > 1:
        parts = ((bag, known & (bags == bag)) for bag in dict.fromkeys(shared.bags))
        board['bags'] = [
            {'bag': bag, 'n_frames': int(part.sum()), 'rows': _ranked(entries, part)}
            for bag, part in parts
            if part.any()
        ]
    return board, sentence


def _ties(protocol: str, board: Mapping[str, Any], models: Mapping[str, Any]) -> list[str]:
    """Say that other models with the figures of the best run are not compared by them."""
    rows = (row for row in board['rows'] if row['kind'] == 'run')
    same = [row['name'] for row in rows if row['outcome'] == IDENTICAL]
    if len({models[name] for name in same}) < 2 or protocol == 'oracle':
        return []
    return [
        f'{protocol}: {" and ".join(same)} are identical, as where the LiDAR leads at all scored '
        'points; the oracle compares models.'
    ]


def _baselines(protocol: str, shared: SharedFrames) -> tuple[dict[str, Columns], str]:
    """Return the columns of the baselines that are the same in all runs."""
    found: dict[str, Columns] = {}
    differing = []
    names = sorted(shared.rows)
    for baseline in BASELINE_TEXT:
        if baseline == 'global':
            continue  # of the model
        columns = {
            metric: [shared.column(run, f'{protocol}_{baseline}_{metric}') for run in names]
            for metric in COMPARED
        }
        if not np.isfinite(columns['abs_rel']).any(axis=1).all():
            continue
        if all(
            np.allclose(values[0], other, rtol=1e-4, equal_nan=True)
            for values in columns.values()
            for other in values[1:]
        ):
            found[baseline] = {metric: values[0] for metric, values in columns.items()}
        else:
            differing.append(baseline.replace('_', ' '))
    if differing:
        text = ', '.join(differing)
        return found, f'Baselines of {protocol} that are not the same in all runs: {text}.'
    return found, ''


def _ranked(entries: Mapping[Entry, Columns], known: np.ndarray) -> list[dict[str, Any]]:
    """Return rows in order of AbsRel over the frames (n,) bool, compared with the best run."""

    def error(entry: Entry) -> tuple[float, Entry]:
        return float(entries[entry]['abs_rel'][known].mean()), entry

    order = sorted(entries, key=error)
    errors = {entry: entries[entry]['abs_rel'][known] for entry in order if entry[0] == 'run'}
    first = next(iter(errors))
    ties = sum(np.array_equal(errors[first], other) for other in errors.values())
    rows = []
    for rank, (kind, name) in enumerate(order, start=1):
        own, best = entries[kind, name], entries[first]
        metrics = {m: figures(own[m][known], best[m][known], m) for m in own}
        if (kind, name) == first:
            words = {'abs_rel': BEST if ties == 1 else IDENTICAL}
            for metric, found in metrics.items():
                found |= {'outcome': words.get(metric, '')} if found else {}
        rows.append(
            {
                'name': name,
                'kind': kind,
                'rank': rank,
                'outcome': metrics['abs_rel']['outcome'],
                'metrics': {metric: found for metric, found in metrics.items() if found},
            }
        )
    return rows


def figures(own: np.ndarray, best: np.ndarray, metric: str) -> dict[str, Any]:
    """
    Return the mean over frames of a metric, or ``LATENCY``, and its difference from the best run.

    One value a frame of each, (n,), in order of time; frames where one is not finite are left out.
    """
    known = np.isfinite(own) & np.isfinite(best)
    if not known.any():
        return {}
    difference = own[known] - best[known]
    low, high = np.clip(mean_interval(difference), *FIGURES[metric].difference_bounds).tolist()
    mean = float(difference.mean())
    return {
        'mean': float(own[known].mean()),
        'interval': np.clip(mean_interval(own[known]), *FIGURES[metric].bounds).tolist(),
        'difference': mean,
        'difference_interval': [low, high],
        'outcome': outcome(mean, low, high, metric) if difference.any() else IDENTICAL,
        'n_frames': int(known.sum()),
    }


def outcome(mean: float, low: float, high: float, metric: str) -> str:
    """Describe a mean difference from the best run and its interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f'{TOO_FEW} (about {ENOUGH} are needed)'
    if low <= 0 <= high:
        return SAME
    words = ('faster', 'slower') if metric == LATENCY else _WORDS[METRICS[metric].better]
    ends = sorted((abs(low), abs(high)))
    return f'{words[mean > 0]} by {abs(mean):.3g} [{ends[0]:.3g}, {ends[1]:.3g}]'
