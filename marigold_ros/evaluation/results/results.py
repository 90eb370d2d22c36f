# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
results.json and per_frame.csv: their shape, what stands behind the figures, and how they are
written.

``results.json`` holds ``schema``, ``frames``, ``rate``, ``protocols``, ``baselines``,
``latency_ms``, ``temporal``, ``surfaces`` and ``provenance``; ``evaluate`` adds ``models``,
``fps``, ``memory`` and ``calibration``. A figure that does not exist is null, never NaN, which is
no JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
from datetime import datetime, timezone
import hashlib
from importlib.metadata import PackageNotFoundError, version
import json
import math
import os
from pathlib import Path
import platform
from typing import Any

from marigold_ros.config import LidarConfig, PipelineConfig
from marigold_ros.evaluation.results.per_frame import scan_distance, why_not_metric
from marigold_ros.evaluation.scoring.scorer import Scorer
from marigold_ros.settings import as_values
import numpy as np

SCHEMA = 1
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
    Put a run together in the shape of results.json.

    Parameters
    ----------
    scorer : Scorer
        Holds every processed frame.
    read : int
        Images that came: processed, dropped and rejected ones.
    dropped : int
        Those that a newer one replaced (live runs only).
    rejected : mapping of cause to int
        Unusable ones.
    rate : float or None
        Playing speed as a multiple of the recording's.
    provenance : mapping
        What produced the figures; see :func:`describe`.

    """
    frames = {
        'read': read,
        'processed': len(scorer.rows),
        'metric': scorer.n_metric,
        'dropped': dropped,
        'rejected': dict(sorted(rejected.items())),
    }
    scoring = {
        'baselines_protocol': scorer.baselines_protocol,
        'fit_every': scorer.fit_every,
        'held_out': scorer.held_out,
        'oracle': scorer.oracle,
        'scan_lines_from': dict(scorer.line_sources),
        'median_abs_rel': 'over all scored points, pooled; from a histogram, exact to 0.3 %',
        'scan_dt_ms': scan_distance(scorer.rows),
        'first_not_metric': why_not_metric(scorer.rows),
    }
    return {
        'schema': SCHEMA,
        'frames': frames,
        'rate': rate,
        **scorer.results(),
        'provenance': {**provenance, 'scoring': scoring},
    }


def describe(
    bags: Sequence[str | Path],
    topics: Mapping[str, str | None],
    model_description: Mapping[str, Any],
    config: PipelineConfig,
    lidar: LidarConfig,
    **more: Any,
) -> dict[str, Any]:
    """
    Tell what produced the figures: bags with hashes, topics, checkpoint, options, versions,
    machine.

    ``more`` adds entries. Only the last part of a path is told, so that results can be passed on.
    """
    checkpoint = {key: _plain(value) for key, value in model_description.items() if key != 'path'}
    return {
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'bags': [describe_bag(bag) for bag in bags],
        'topics': dict(topics),
        'checkpoint': checkpoint,
        'options': {
            **as_values(config),
            **{f'lidar.{k}': v for k, v in as_values(lidar).items()},
        },
        'versions': versions(),
        'machine': machine(),
        **more,
    }


def describe_bag(path: str | Path) -> dict[str, Any]:
    """
    Name, size and SHA-256 of a bag.

    The hash of a folder is that of the lines ``<sha256>  <name>`` of its files, sorted by name, as
    ``sha256sum * | sha256sum`` gives it.
    """
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    size = sum(p.stat().st_size for p in files)
    hashes = [_sha256(p) for p in files]
    if path.is_dir():
        listing = ''.join(f'{h}  {p.name}\n' for h, p in zip(hashes, files, strict=True))
        digest = hashlib.sha256(os.fsencode(listing)).hexdigest()
    else:
        digest = hashes[0]
    return {'name': path.resolve().name, 'sha256': digest, 'bytes': size}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that decide a figure, if installed."""
    found = {'python': platform.python_version()}
    for name in ('marigold_ros', *_PACKAGES, *_OPENCV):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Tell the kind of machine, not which one."""
    model = platform.processor()
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                model = line.partition(':')[2].strip()
                break
    except OSError:
        pass  # other systems have no such file; platform's answer stays
    return {
        'system': f'{platform.system()} {platform.machine()}',
        'processor': model,
        'cores': os.cpu_count(),
    }


def write_results(folder: str | Path, results: Mapping[str, Any]) -> Path:
    """Write results.json and give its path."""
    path = Path(folder) / 'results.json'
    # A file name that is no UTF-8 becomes a JSON escape, which reads back as the same name.
    path.write_text(to_json(results) + '\n', encoding='utf-8', errors='backslashreplace')
    return path


def to_json(value: Any) -> str:
    """Serialise with null for what is not finite."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Nothing but what JSON has."""
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


def write_per_frame(folder: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write per_frame.csv, one line a frame in order of time; missing figures are empty."""
    path = Path(folder) / 'per_frame.csv'
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row))
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(name)) for name in columns])
    return path


def _cell(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return f'{float(value):.6g}' if math.isfinite(value) else ''
    return '' if value is None else value
