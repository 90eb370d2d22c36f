# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The results of one bag of an evaluation (its part), and the store of finished parts.

Parts are added up in the order of the bags, in a single process too, so that its figures equal
those of many processes to the bit. Stored parts are pickles, which could run any code when they
are read: only classes of this package and numpy's arrays are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import hashlib
import json
import os
from pathlib import Path
import pickle
import shutil
from typing import Any

from marigold_ros.errors import BagError, ConfigurationError
from marigold_ros.evaluation.scoring.merging import merged
from marigold_ros.replay.replay_plan import BagJob

_MOST_WARNINGS = 20
# Names by which numpy pickles arrays and numbers, before and since version 2.
_ARRAYS = ('_reconstruct', 'scalar', '_frombuffer', 'ndarray', 'dtype')
_FAILURES = (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError)


@dataclass
class BagPart:
    """The results of one bag, or of several added up."""

    scorer: Any  # the scored frames
    bags: list[dict[str, Any]] = field(default_factory=list)  # name, size and hash of each
    topics: dict[str, str | None] = field(default_factory=dict)  # by role
    checkpoint: dict[str, Any] = field(default_factory=dict)  # the model's description
    read: int = 0  # images
    rejected: dict[str, int] = field(default_factory=dict)  # unusable images by cause
    warnings: dict[str, int] = field(default_factory=dict)  # images by warning
    first_error: str = ''  # why the first unusable image was rejected
    failed: dict[str, str] = field(default_factory=dict)  # why, by path of a bag
    recorded_s: float = 0.0  # length of the recording, seconds
    wall_s: float = 0.0  # of the work, seconds
    calibration: Any = None  # estimated errors of the LiDAR's angles and clock
    compared: dict[str, Any] = field(default_factory=dict)  # scorers by name
    compared_checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: int = 0  # peak memory, of the GPU or of the process

    @property
    def rate(self) -> float | None:
        """Speed of the replay as a multiple of the recording's; None for an empty recording."""
        return self.recorded_s / self.wall_s if self.recorded_s > 0 else None

    def warn(self, text: str, count: int = 1) -> None:
        """Count a warning; of many different ones the first are kept."""
        if text in self.warnings or len(self.warnings) < _MOST_WARNINGS:
            self.warnings[text] = self.warnings.get(text, 0) + count

    def reject(self, cause: str, text: str) -> None:
        """Count an unusable image."""
        self.rejected[cause] = self.rejected.get(cause, 0) + 1
        self.first_error = self.first_error or text

    def add(self, other: BagPart) -> None:
        """Add the part of the next bag; raises ConfigurationError for another checkpoint."""
        for row in other.scorer.rows:
            row['bag'] = len(self.bags)  # which of provenance.bags
        self.scorer = merged(self.scorer, other.scorer)
        self.compared = merged(self.compared, other.compared)
        self.compared_checkpoints.update(other.compared_checkpoints)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.bags += other.bags
        self.topics = self.topics or other.topics
        if self.checkpoint and other.checkpoint and self.checkpoint != other.checkpoint:
            raise ConfigurationError(
                'the checkpoint has changed since the first bags were finished; remove the folder '
                'parts in --out and begin again'
            )
        self.checkpoint = self.checkpoint or other.checkpoint
        self.read += other.read
        self.rejected = merged(self.rejected, other.rejected)
        for text, count in other.warnings.items():
            self.warn(text, count)
        self.first_error = self.first_error or other.first_error
        self.failed.update(other.failed)
        self.recorded_s += other.recorded_s
        self.wall_s += other.wall_s
        if self.calibration is None or (other.calibration and not self.calibration.text):
            self.calibration = other.calibration

    def failure(self, paths: Sequence[Path], out: str | Path | None) -> BagError | None:
        """Return the error that bags ended with, and where the rest is scored; None for none."""
        first = next(iter(self.failed.values()), '')
        if not self.scorer.rows:
            return BagError(first or self._no_images(paths))
        if not first:
            return None
        if len(paths) == 1:
            return BagError(f'{first}; the readable part of the bag is scored in {out}')
        return BagError(
            f'{len(self.failed)} of {len(paths)} bags are damaged: {first}; the readable parts '
            f'are scored in {out}'
        )

    def _no_images(self, paths: Sequence[Path]) -> str:
        causes = ', '.join(f'{n} {cause}' for cause, n in self.rejected.items()) or 'none was read'
        first = f' (first: {self.first_error})' if self.first_error else ''
        names = ', '.join(path.resolve().name for path in paths)
        return (
            f'no image of {names} could be used: {causes}{first}; '
            'check the image topic with --image'
        )


@dataclass(frozen=True)
class PartStore:
    """Finished parts in ``folder``, in files named by a hash of the job and the bag's files."""

    folder: Path

    def open(self, options: Mapping[str, Any]) -> int:
        """Begin or resume an evaluation, see `keep_options`; return the number of its parts."""
        count = len(list(self.folder.glob('*.part')))
        what = 'the finished bags of an evaluation'
        remedy = f'go on with the same options, give another --out, or remove {self.folder}'
        keep_options(self.folder / 'options.json', options, what, remedy, mixes=count > 0)
        return count

    def get(self, job: BagJob) -> BagPart | None:
        """Return the stored part of a job; None where there is none that can be read."""
        try:
            with self._path(job).open('rb') as file:
                part = _PartReader(file).load()
        except _FAILURES:
            return None
        return part if isinstance(part, BagPart) else None

    def put(self, job: BagJob, part: BagPart) -> None:
        """Store a finished part; the file appears complete or not at all."""
        _write(self._path(job), pickle.dumps(part))

    def clear(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, job: BagJob) -> Path:
        files = sorted(p for p in job.path.iterdir()) if job.path.is_dir() else [job.path]
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        facts = [str(job.path.resolve()), states, job.key]
        name = hashlib.sha256(json.dumps(facts).encode('utf-8', 'surrogatepass')).hexdigest()
        return self.folder / f'{name[:24]}.part'


class _PartReader(pickle.Unpickler):
    """Reads classes of this package and numpy's arrays only."""

    def find_class(self, module: str, name: str) -> Any:
        package = module.partition('.')[0]
        known = package == 'marigold_ros' or (package == 'numpy' and name in _ARRAYS)
        if known and '.' not in name:
            found = super().find_class(module, name)
            if package == 'numpy' or (isinstance(found, type) and found.__module__ == module):
                return found
        raise pickle.UnpicklingError(f'{module}.{name} is no part of a part')


def keep_options(
    path: Path, options: Mapping[str, Any], what: str, remedy: str, mixes: bool = True
) -> None:
    """
    Write the options of a run beside its results (``what``), so that a later run can resume.

    Raises ConfigurationError where nothing can be written, and, if results would be mixed
    (``mixes``), for other options than those of the run before.
    """
    wanted = json.loads(json.dumps(options, default=str))
    try:
        before = dict(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError):
        before = wanted
    if mixes and before != wanted:
        name = next(n for n in sorted({*before, *wanted}) if before.get(n) != wanted.get(n))
        raise ConfigurationError(
            f'{path.parent} holds {what} with {name} = {before.get(name)}, not '
            f'{wanted.get(name)}; {remedy}'
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(wanted, indent=1).encode())
    except OSError as error:
        raise ConfigurationError(
            f'{path.parent} cannot be written ({error.strerror}); give another --out'
        ) from error


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f'.{path.name}.{os.getpid()}')
    draft.write_bytes(data)
    os.replace(draft, path)
