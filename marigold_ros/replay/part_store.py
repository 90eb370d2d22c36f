# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Parts of the finished bags of an evaluation, so that a killed run can be resumed.

Each part is a file, named by a hash of the bag's path, the sizes and times of its files and the
job. The options are kept beside the parts; other options are refused. The store is removed when
the evaluation succeeds. The files are pickles, which could run any code when they are read: only
classes of this package and numpy's arrays are accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
import pickle
import shutil
from typing import Any

from marigold_ros.errors import ConfigurationError
from marigold_ros.replay.bag_part import BagPart
from marigold_ros.replay.replay_plan import BagJob

_OPTIONS = 'options.json'
_OWN = 'marigold_ros'
# Names by which numpy pickles arrays and numbers, before and since version 2.
_ARRAYS = ('_reconstruct', 'scalar', '_frombuffer', 'ndarray', 'dtype')
_FAILURES = (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError)


@dataclass(frozen=True)
class PartStore:
    """The parts in ``folder``."""

    folder: Path

    def open(self, options: Mapping[str, Any]) -> int:
        """
        Begin or resume an evaluation with these options; returns the number of stored parts.

        Raises
        ------
        ConfigurationError
            If the stored parts were made with other options, or nothing can be written.

        """
        path = self.folder / _OPTIONS
        wanted = json.loads(json.dumps(options, default=str))
        before, count = _read_json(path), len(list(self.folder.glob('*.part')))
        if count and before is not None and before != wanted:
            names = {*before, *wanted}
            other = next(name for name in sorted(names) if before.get(name) != wanted.get(name))
            raise ConfigurationError(
                f'{self.folder} holds the finished bags of an evaluation with {other} = '
                f'{before.get(other)}, not {wanted.get(other)}; go on with the same options, give '
                f'another --out, or remove {self.folder}'
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(wanted, indent=1).encode())
        except OSError as error:
            raise ConfigurationError(
                f'{self.folder} cannot be written ({error.strerror}); give another --out'
            ) from error
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
        if '.' not in name and (package == 'numpy' and name in _ARRAYS or package == _OWN):
            found = super().find_class(module, name)
            if package == 'numpy' or (isinstance(found, type) and found.__module__ == module):
                return found
        raise pickle.UnpicklingError(f'{module}.{name} is no part of a part')


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f'.{path.name}.{os.getpid()}')
    draft.write_bytes(data)
    os.replace(draft, path)
