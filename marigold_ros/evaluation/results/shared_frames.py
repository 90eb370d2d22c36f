# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What several results have in common: bags, frames, scored points and protocols.

Frames are paired by bag and stamp. A protocol that was scored differently (another split, another
oracle, other points) is left out with a sentence, because the difference of such scores would not
be one of the depth; where nothing remains, the runs are refused.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
import csv
from dataclasses import dataclass
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.evaluation.choices import PROTOCOLS
from marigold_ros.evaluation.results.results import bag_labels, SCHEMA
import numpy as np

_MOST_BYTES = 50_000_000  # of a file: 100 000 frames
# Settings that decide which points are scored, and as what: by all protocols,
_OPTIONS = (
    *('alignment.min_depth', 'alignment.max_depth'),
    *('alignment.occlusion_window', 'alignment.occlusion_threshold'),
    *('lidar.max_dt', 'lidar.time_offset', 'lidar.fixed_frame'),
)
_ROLES = ('image', 'camera_info', 'lidar')
# and by some.
_SCORING = {
    'heldout': ('fit_every', 'held_out', 'missing_depth'),
    'truth': ('missing_depth', 'topic of truth'),
    'oracle': ('oracle', 'topic of truth'),
    'raw': ('topic of truth',),
}

Row = Mapping[str, Any]


class FrameKey(NamedTuple):
    """What distinguishes a frame: SHA-256 of its bag, earlier frames of its stamp, the stamp."""

    bag: str
    repeat: int
    stamp_ns: int


@dataclass(frozen=True)
class EvaluationRun:
    """The contents of results.json and per_frame.csv, the latter as text or numbers."""

    results: Mapping[str, Any]
    rows: Sequence[Row]
    folder: Path = Path()


@dataclass(frozen=True)
class SharedFrames:
    """The frames that all runs have, in order of bags and time."""

    runs: Mapping[str, EvaluationRun]  # by name
    rows: Mapping[str, Sequence[Row]]  # by run its rows of these frames
    bags: Sequence[str]  # the name of the bag of each frame
    protocols: Sequence[str]  # those that all runs were scored by alike
    left_out: Sequence[str]  # a sentence for each thing that not all runs share

    def column(self, run: str, name: str) -> np.ndarray:
        """Return a column of a run, (n,) float; NaN where it is empty or missing."""
        return _column(self.rows[run], name)


def read_run(path: str | Path) -> EvaluationRun:
    """
    Read the two files of an evaluation, from their folder or beside a given results.json.

    Raises
    ------
    InputError
        Where one is missing or damaged.

    """
    path = Path(path)
    folder = path.parent if path.name == 'results.json' else path
    with reading_results(folder):
        for part in (folder / 'results.json', folder / 'per_frame.csv'):
            if part.exists() and not (part.is_file() and part.stat().st_size <= _MOST_BYTES):
                raise InputError(f'{part} is no file, or has more than 50 MB; run evaluate again')
        results = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
        with (folder / 'per_frame.csv').open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        if results['schema'] != SCHEMA:
            raise ValueError(f'schema {results["schema"]}, not {SCHEMA}')
        if not {'bags', 'topics'} <= results['provenance'].keys():
            raise ValueError('the provenance has no bags')
        for row in rows:
            int(row['stamp_ns']), int(row.get('index') or 0)
            results['provenance']['bags'][int(row.get('bag') or 0)]['sha256']
    return EvaluationRun(results, rows, folder)


@contextmanager
def reading_results(what: object) -> Iterator[None]:
    """Turn the errors of results that are missing, damaged or a stranger's into InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f'{error.filename}: {error.strerror}; give a folder that evaluate wrote'
        ) from error
    except Exception as error:  # what they hold can fail wherever it is used
        if isinstance(error, MarigoldError):
            raise
        raise InputError(
            f'{what}: results.json and per_frame.csv are damaged or of another program or release '
            f'({error!r}); run evaluate again'
        ) from error


def share_frames(runs: Mapping[str, EvaluationRun]) -> SharedFrames:
    """
    Pair the frames of runs, in any order, by bag and stamp.

    Raises
    ------
    InputError
        If the runs have no frame or no protocol in common, or see different sensors.

    """
    keyed = {name: _by_key(run) for name, run in runs.items()}
    shared = set.intersection(*(set(rows) for rows in keyed.values()))
    bags = _bag_names(runs)
    if not shared:
        raise InputError(f'no frame is in all of them: {_frames_of(runs)}', 'shape')
    _check_inputs(runs)
    keys = sorted(shared, key=lambda key: (bags[key.bag], key))
    rows = {name: [found[key] for key in keys] for name, found in keyed.items()}
    protocols, left_out = _shared_protocols(runs, rows)
    if not (protocols or left_out):
        raise InputError('none of them has a score; the report of each says why', 'shape')
    if not protocols:
        raise InputError(f'scored differently: {" ".join(left_out)}', 'shape')
    more = {name: len(run.rows) - len(keys) for name, run in runs.items()}
    if any(more.values()):
        counts = ', '.join(f'{name} {n}' for name, n in more.items() if n)
        left_out.insert(0, f'Frames that not all runs have are left out: {counts}.')
    return SharedFrames(runs, rows, [bags[key.bag] for key in keys], protocols, left_out)


def _check_inputs(runs: Mapping[str, EvaluationRun]) -> None:
    """Refuse runs whose settings imply other inputs, or other points in every protocol."""
    inputs = {}
    for name, run in runs.items():
        provenance = run.results['provenance']
        options = provenance.get('options', {})
        inputs[name] = {
            **{option: options.get(option) for option in _OPTIONS},
            'extrinsics': provenance.get('extrinsics'),
            **{f'topic of {role}': provenance['topics'].get(role) for role in _ROLES},
        }
    found = _differences_text(inputs)
    if found:
        raise InputError(f'scored differently: {found}; evaluate all alike', 'shape')


def differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings of runs in which they differ, by setting and run; None where missing."""
    found = {}
    for what in dict.fromkeys(what for own in settings.values() for what in own):
        values = {name: own.get(what) for name, own in settings.items()}
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            found[what] = values
    return found


def _differences_text(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the settings in which runs differ, with their values; empty without any."""
    return '; '.join(
        f'{what} is {", ".join(f"{value!r} in {name}" for name, value in values.items())}'
        for what, values in differing(settings).items()
    )


def _shared_protocols(
    runs: Mapping[str, EvaluationRun], rows: Mapping[str, Sequence[Row]]
) -> tuple[list[str], list[str]]:
    """Return the protocols that all runs were scored by alike, and why others were not."""
    found, left_out = [], []
    for protocol in PROTOCOLS:
        scored = {
            name: np.isfinite(_column(part, f'{protocol}_abs_rel')).any()
            for name, part in rows.items()
        }
        if not any(scored.values()):
            continue
        missing = [name for name, is_scored in scored.items() if not is_scored]
        why = f'{", ".join(missing)} {"has" if len(missing) == 1 else "have"} no such scores'
        if not missing:
            scoring = {name: _scoring(run, protocol) for name, run in runs.items()}
            why = _differences_text(scoring) or _other_points(protocol, rows)
        if why:
            left_out.append(f'{protocol} is left out: {why}.')
        else:
            found.append(protocol)
    in_spaces = {
        name: next((str(row['space']) for row in run.rows if 'space' in row), '')
        for name, run in runs.items()
    }
    if 'oracle' in found and len(set(in_spaces.values())) > 1:
        each = ', '.join(f'{name} in {space}' for name, space in in_spaces.items())
        text = f'fitted to the truth in the space of each model ({each})'
        if len(found) > 1:
            found.remove('oracle')
            left_out.append(f'oracle is left out: it is {text}.')
        else:
            left_out.append(f'oracle is {text}.')
    return found, left_out


def _scoring(run: EvaluationRun, protocol: str) -> dict[str, Any]:
    provenance = run.results['provenance']
    scoring = dict(provenance.get('scoring', {}))
    scoring['topic of truth'] = provenance['topics'].get('truth')
    scoring['oracle'] = (scoring.get('oracle') or {}).get('rule')
    return {what: scoring.get(what) for what in _SCORING[protocol]}


def _other_points(protocol: str, rows: Mapping[str, Sequence[Row]]) -> str:
    """
    Name the frames whose truth has different numbers of points.

    Points without depth are scored by a substitute (then ``n`` counts the truth) or left out (then
    ``n`` over ``coverage`` does).
    """
    names = list(rows)
    n = {name: _column(part, f'{protocol}_n') for name, part in rows.items()}
    with np.errstate(divide='ignore', invalid='ignore'):
        truth = {
            name: n[name] / _column(part, f'{protocol}_coverage') for name, part in rows.items()
        }
        for name in names[1:]:
            # The file holds six digits.
            other = np.abs(truth[names[0]] - truth[name]) > 1 + 1e-5 * truth[names[0]]
            other &= n[names[0]] != n[name]
            if other.any():
                at = int(np.argmax(other))
                counts = ', '.join(f'{n[side][at]:.0f} in {side}' for side in (names[0], name))
                return (
                    f'other points in {int(other.sum())} of {len(other)} frames (first: {counts});'
                    ' check options and versions of the runs'
                )
    return ''


def _by_key(run: EvaluationRun) -> dict[FrameKey, Row]:
    """Map rows by bag, number of earlier rows with bag and stamp (a looped bag), and stamp."""
    hashes = [bag['sha256'] for bag in run.results['provenance']['bags']]
    seen: Counter[tuple[str, int]] = Counter()
    rows: dict[FrameKey, Row] = {}
    for row in run.rows:
        bag, stamp = hashes[int(row.get('bag') or 0)], int(row['stamp_ns'])
        rows[FrameKey(bag, seen[bag, stamp], stamp)] = row
        seen[bag, stamp] += 1
    return rows


def _bag_names(runs: Mapping[str, EvaluationRun]) -> dict[str, str]:
    """Return labels of bags by hash; of a bag with several names the first by letter."""
    names: dict[str, str] = {}
    for run in runs.values():
        for bag in run.results['provenance']['bags']:
            names[bag['sha256']] = min(bag['name'], names.get(bag['sha256'], bag['name']))
    bags = [{'name': name, 'sha256': digest} for digest, name in names.items()]
    return dict(zip(names, bag_labels(bags), strict=True))


def _frames_of(runs: Mapping[str, EvaluationRun]) -> str:
    """Say of which bags, by hash, and of how many frames runs are."""
    texts = []
    for name, run in runs.items():
        bags = run.results['provenance']['bags']
        names = ', '.join(f'{bag["name"]} ({bag["sha256"][:8]})' for bag in bags)
        texts.append(f'{name} is of {len(run.rows)} frames of {names}')
    return f'{"; ".join(texts)}. Evaluate the same bags, with the same --limit, --from and --to'


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    cells = (row.get(name, '') for row in rows)
    return np.array([math.nan if cell in ('', None) else float(cell) for cell in cells])
