# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Assemble and write results.json and per_frame.csv, with the provenance of the figures.

``results.json`` holds ``schema``, ``frames``, ``rate``, ``protocols``, ``baselines``,
``baselines_paired`` (the mean over frames of the model's metrics minus each baseline's, with 95 %
intervals), ``latency_ms``, ``temporal``, ``surfaces``, ``alone`` (AbsRel of the oracle minus that
of a constant and a plane) and ``provenance``; ``evaluate`` adds ``models``, ``fps``, ``memory``,
``calibration``, ``robustness``, ``verdict`` and ``requirements``.
Missing figures are null, never NaN.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
import csv
from datetime import datetime, timezone
import hashlib
from importlib.metadata import PackageNotFoundError, version
import io
import json
import math
import os
from pathlib import Path
import platform
import re
from typing import Any

from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.errors import counted, escape_controls, number
from marigold_ros.evaluation.choices import PROTOCOLS, STRENGTHS
from marigold_ros.evaluation.protocols.truth import MISSING_DEPTH
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.settings import as_values, flat
from marigold_ros.whole_files import sha256, write_whole
import numpy as np

SCHEMA = 1
RESULT_FILES = ('report.html', 'results.json', 'per_frame.csv')  # of a run
_PACKAGES = ('numpy', 'scipy', 'torch', 'diffusers', 'safetensors', 'rosbags')
_OPENCV = ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python-headless')


def assemble(
    scorer: Scorer,
    *,
    read: int,
    dropped: int,
    rejected: Mapping[str, int],
    rate: float | None,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """
    Assemble results.json of a run, whose scorer has every processed frame.

    Images were ``read`` in all, ``dropped`` for newer ones (live runs only), or ``rejected``, by
    cause, as unusable; ``rate`` is the playing speed as a multiple of the recording's, and
    ``provenance`` is from :func:`describe`.
    """
    frames = {
        'read': read,
        'processed': len(scorer.rows),
        'metric': scorer.n_metric,
        'dropped': dropped,
        'rejected': dict(sorted(rejected.items())),
    }
    not_metric = (str(row['reason']) for row in scorer.rows if row['state'] == 'none')
    reason = '' if 'dataset' in provenance['topics'] else next(not_metric, '')
    scoring = {
        'baselines_protocol': scorer.baselines_protocol,
        'fit_every': scorer.fit_every,
        'held_out': scorer.held_out,
        'oracle': scorer.oracle,
        'missing_depth': MISSING_DEPTH,
        'scan_lines_from': dict(scorer.line_sources),
        'median_abs_rel': 'over all scored points, pooled; from a histogram, exact to 0.3 %',
        'scan_dt_ms': _scan_dt_ms(scorer.rows),
        'first_not_metric': reason,
    }
    return {
        'schema': SCHEMA,
        'frames': frames,
        'rate': rate,
        **scorer.results(),
        'alone': scorer.alone(),
        'provenance': {**provenance, 'scoring': scoring},
    }


def _scan_dt_ms(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the distance in time between scans and images, ms; empty without scans."""
    dt = np.abs([row['scan_dt_ms'] for row in rows if math.isfinite(row['scan_dt_ms'])])
    if not len(dt):
        return {}
    return {'mean': float(dt.mean()), 'p95': float(np.percentile(dt, 95)), 'max': float(dt.max())}


def robustness(
    clean: Mapping[str, Any], corrupted: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[str, Any]:
    """
    Collect AbsRel against the strength of each corruption.

    From ``protocols`` of the clean run, and by (kind, strength) of those runs that there are.

    Returns
    -------
    dict
        ``strengths`` (0 is clean), and ``corruptions``: by kind and protocol the lists ``abs_rel``
        (macro; NaN where nothing was scored) and ``n_frames``, one number a strength.

    """
    found: dict[str, Any] = {}
    for kind in dict.fromkeys(kind for kind, _ in corrupted):
        runs = [clean, *(corrupted.get((kind, strength), {}) for strength in STRENGTHS)]
        found[kind] = {}
        for protocol in clean:
            scores = [run.get(protocol, {}) for run in runs]
            found[kind][protocol] = {
                'abs_rel': [float(s['macro']['abs_rel']) if s else math.nan for s in scores],
                'n_frames': [s.get('n_frames', 0) for s in scores],
            }
    return {'strengths': [0, *STRENGTHS], 'corruptions': found}


def describe(
    bags: Sequence[Mapping[str, Any]],
    topics: Mapping[str, str | None],
    model_description: Mapping[str, Any],
    config: PipelineConfig,
    lidar: LidarConfig,
    sources: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """
    Describe the provenance: bags with hashes, topics, checkpoint, options, versions, machine.

    ``load`` is the mean number of busy processes in the last minute. ``bags`` are from
    :func:`describe_bag`, ``sources`` are the settings of those of the fit, and ``more`` adds
    entries. Only the last part of a path is kept, so that results can be passed on.
    """
    return {
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'bags': list(bags),
        'topics': dict(topics),
        'checkpoint': describe_checkpoint(model_description),
        'options': {**as_values(config), **dict(flat({'lidar': as_values(lidar), **sources}))},
        'versions': versions(),
        'machine': machine(),
        'load': round(os.getloadavg()[0], 1),
        'trained_on': trained_on(model_description.get('path', ''), bags),
        **more,
    }


def trained_on(folder: str | Path, bags: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Return the names of the bags that a model was trained on, by the records in its folder.

    Card (README.md) and record of an adaptation (results.json) name bags by SHA-256 or its first
    12 digits, which renaming does not change; cards of other training name them by folder alone.
    ``bags`` are from :func:`describe_bag`.
    """
    words: set[str] = set()
    for path in (Path(folder, name) for name in ('README.md', 'results.json') if folder):
        with suppress(OSError):
            text = path.read_text('utf-8', 'replace')
            words |= set(re.findall(r'\b[0-9a-f]{12,64}\b', text))
            words |= {
                n for line in re.findall(r'(?m)^- bag (.+): \d', text) for n in line.split(', ')
            }
    return [b['name'] for b in bags if {b['sha256'], b['sha256'][:12], b['name']} & words]


def ran_by(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return ``backend``, ``dtype`` and ``device`` of a described checkpoint, where known."""
    facts = dict(flat(checkpoint))  # in the reports of a node they are flat already
    names = {'backend': 'runtime.backend', 'dtype': 'dtype', 'device': 'device'}
    return {name: str(facts[key]) for name, key in names.items() if facts.get(key)}


def describe_checkpoint(model_description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model says of its checkpoint, but for the path."""
    return {name: _plain(value) for name, value in model_description.items() if name != 'path'}


def describe_bag(path: str | Path) -> dict[str, Any]:
    """
    Return name, size and SHA-256 of a bag.

    The hash of a folder is that of the lines ``<sha256>  <name>`` of its files, sorted by name, as
    ``sha256sum * | sha256sum`` computes it. What else lies there, as results, does not count.
    """
    from marigold_ros.bags.storage import bag_files

    path = Path(path)
    files = bag_files(path)
    size = sum(p.stat().st_size for p in files)
    hashes = [sha256(p) for p in files]
    if path.is_dir():
        listing = ''.join(f'{h}  {p.name}\n' for h, p in zip(hashes, files, strict=True))
        digest = hashlib.sha256(os.fsencode(listing)).hexdigest()
    else:
        digest = hashes[0]
    # A link may lead to a file that is named by its hash.
    name = path.resolve().name if path.is_dir() else path.name
    return {'name': name, 'sha256': digest, 'bytes': size}


def bag_labels(bags: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of bags from :func:`describe_bag`; equal ones with their first digits."""
    count = Counter(bag['name'] for bag in bags)
    digits = (f' ({bag["sha256"][:8]})' if count[bag['name']] > 1 else '' for bag in bags)
    return [f'{bag["name"]}{text}' for bag, text in zip(bags, digits, strict=True)]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect figures, if installed."""
    found = {'python': platform.python_version()}
    for name in ('marigold_ros', *_PACKAGES, *_OPENCV):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def machine() -> dict[str, Any]:
    """Return the kind of machine, not which one it is."""
    return {
        'system': f'{platform.system()} {platform.machine()}',
        'processor': _processor(),
        'cores': os.cpu_count(),
    }


def _processor() -> str:
    """Return the name of an ARM board, as 'NVIDIA Jetson …', or of an x86 processor (Linux)."""
    for file, line in (
        ('/proc/device-tree/model', r'([^\0]+)'),
        ('/proc/cpuinfo', r'^model name\s*:(.*)'),
    ):
        with suppress(OSError):
            if found := re.search(line, Path(file).read_text('utf-8', 'replace'), re.M):
                return found[1].strip()
    return platform.processor() or platform.machine()


def is_dataset(results: Mapping[str, Any]) -> bool:
    """Return whether results are of images with depth, which have neither LiDAR nor time."""
    return 'dataset' in results['provenance'].get('topics', {})


def warning_texts(results: Mapping[str, Any]) -> list[str]:
    """Return why the first frame has no metric depth, a wrong mounting or clock, and warnings."""
    provenance, found = results['provenance'], results.get('calibration') or {}
    reason = provenance.get('scoring', {}).get('first_not_metric')
    texts = [f'first frame without metric depth: {reason}'] if reason else []
    if found.get('text'):
        bag = f'{found.get("bag")}: ' if len(provenance.get('bags', ())) > 1 else ''
        meaning = 'held-out points share it, and their scores do not show it: correct it first'
        texts.append(f'calibration: {bag}{found["text"]}; {meaning}')
    warnings = (provenance.get('warnings') or {}).items()
    return texts + [f'warning ({counted(n, "frame")}): {text}' for text, n in warnings]


def is_known(figure: Any) -> bool:
    """Return whether a figure was measured: neither missing nor infinite nor NaN."""
    return figure is not None and math.isfinite(figure)


def difference_text(paired: Mapping[str, Any]) -> str:
    """Return the difference from a baseline, and its interval if there is one."""

    def signed(figure: float) -> str:
        return f'{"+" * (figure > 0)}{number(figure, 3)}'

    low, high = paired['interval']
    interval = f', {signed(low)} to {signed(high)}' if is_known(low) else ''
    return signed(paired['difference']) + interval


def model_scores(results: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """
    Return model, protocol and scores of each, the model under test (this model) first.

    Of several models ``oracle`` and ``global`` come first: where points lead, metric depth hides
    most of what models differ in.
    """
    compared = results.get('models') or {}
    entries = []
    for model, found in {'this model': results, **compared}.items():
        values = found.get('baselines', {}).get('global') if compared else None
        if values:
            counts = {'n_frames': found['baselines_paired']['global']['abs_rel']['n_frames']}
            entries.append((model, 'global', {'macro': values, **values, **counts}))
        entries += [(model, name, scores) for name, scores in found['protocols'].items()]
    order = ('oracle', 'global', *PROTOCOLS) if compared else ()
    return sorted(entries, key=lambda entry: (*order, entry[1]).index(entry[1]))


def further_baselines(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the baselines that :func:`model_scores` has not."""
    found = results['baselines'].items()
    return {
        name: values for name, values in found if name != 'global' or not results.get('models')
    }


def frames_text(results: Mapping[str, Any]) -> str:
    """Say how many images were read, of those in the bags if they are more, and their fates."""
    frames, of_images = results['frames'], is_dataset(results)
    there = sum(bag.get('images', 0) for bag in results['provenance'].get('bags', ()))
    of_more = f' of {there}' if there > frames['read'] else ''
    metric = '' if of_images else f'{frames["metric"]} metric, {frames["dropped"]} dropped, '
    rejected = ', '.join(f'{n} {cause}' for cause, n in frames['rejected'].items()) or '0'
    return (
        f'{"images" if of_images else "frames"}: {frames["read"]}{of_more} read, '
        f'{frames["processed"]} processed, {metric}rejected {rejected}'
    )


def write_results(folder: str | Path, results: Mapping[str, Any]) -> None:
    """Write results.json."""
    # A file name that is no UTF-8 becomes a JSON escape, which reads back as the same name.
    text = to_json(results) + '\n'
    write_whole(Path(folder, 'results.json'), text.encode(errors='backslashreplace'))


def to_json(value: Any) -> str:
    """Serialise with null for numbers that are not finite; control characters are escaped."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    return escape_controls(text, kept='\n')


def _plain(value: Any) -> Any:
    """Return the value in types of JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None else str(value)


def write_per_frame(folder: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write per_frame.csv, one row a frame in order of time; missing figures are empty."""
    columns = dict.fromkeys(name for row in rows for name in row)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    write_whole(Path(folder, 'per_frame.csv'), table.getvalue().encode(errors='backslashreplace'))


def _cell(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return f'{float(value):.6g}' if math.isfinite(value) else ''
    return '' if value is None else value
