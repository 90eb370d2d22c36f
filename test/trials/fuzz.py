# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Read files with random damage as the commands do, for a while.

  python test/trials/fuzz.py --minutes 10              kinds by turns, seeds from 0 on
  python test/trials/fuzz.py --minutes 1 --seed 4711   seeds from 4711 on

A seed stands for the same damage every time. Exit code 1 if a file ended in a traceback, took more
than 20 s of a processor or 2 GB, or lost images without a word; such seeds are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
import json
from pathlib import Path
import select
import subprocess
import sys
from tempfile import TemporaryDirectory
import time
from typing import Any

HOSTILE = Path(__file__).resolve().parent.parent / 'hostile'
sys.path.insert(0, str(HOSTILE))

from marigold_ros.commands.terminal.output import grid  # noqa: E402
from mutations import KINDS  # noqa: E402
from trial_script import run_script  # noqa: E402

_SECONDS, _MEMORY_KB = 20.0, 2_000_000
_HANGS = 120.0  # seconds by the clock, for a busy machine
_BAD = ('traceback', 'silent', 'slow', 'memory', 'died')


@dataclass
class FuzzResult:
    """``outcomes`` counts them by kind; ``bad`` lists kind, seed, outcome and details."""

    seed: int
    outcomes: dict[str, Counter] = field(default_factory=dict)
    bad: list[tuple[str, int, str, Any]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing ended badly."""
        return not self.bad

    def add(self, kind: str, seed: int, found: str, details: Any) -> None:
        """Count one file."""
        self.outcomes.setdefault(kind, Counter())[found] += 1
        if found in _BAD:
            self.bad.append((kind, seed, found, details))


class _Reader:
    """A process that reads files by kind and seed; a new one follows one that ends badly."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix='fuzz.')
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        self._folder.cleanup()

    def read(self, kind: str, seed: int) -> tuple[str, Any, float]:
        """Return the outcome of one file, its details, and its seconds of a processor."""
        process = self._process or self._start()
        process.stdin.write(f'{kind} {seed}\n')
        process.stdin.flush()
        # A new process makes the sound files first, with few of them to be read.
        if not select.select([process.stdout], [], [], _HANGS)[0]:
            self.end()
            return 'slow', f'more than {_HANGS:.0f} s by the clock', 0.0
        line = process.stdout.readline()
        if not line:
            self.end()
            return 'died', process.returncode, 0.0
        return tuple(json.loads(line))

    def peak_kb(self) -> int:
        """Return the largest resident memory of the process so far, kB."""
        status = Path(f'/proc/{self._process.pid}/status') if self._process else None
        if status is None or not status.is_file():
            return 0
        lines = status.read_text(encoding='ascii').splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))

    def _start(self) -> subprocess.Popen:
        inner = Path(self._folder.name) / str(time.monotonic_ns())
        inner.mkdir()
        command = [sys.executable, str(HOSTILE / 'mutations.py'), str(inner)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        return self._process

    def end(self) -> None:
        """End the process; the next one begins with little memory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


def fuzz(minutes: float, seed: int, progress: Callable[[float], Any]) -> FuzzResult:
    """Read files for a time."""
    result = FuzzResult(seed)
    start = time.monotonic()
    with _Reader() as reader:
        while (begun := time.monotonic() - start) < 60 * minutes:
            for kind in KINDS:
                found, details, took = reader.read(kind, seed)
                if found in ('read', 'said') and took > _SECONDS:
                    found, details = 'slow', f'{took:.0f} s'
                if reader.peak_kb() > _MEMORY_KB:
                    found, details = 'memory', f'{reader.peak_kb()} kB'
                    reader.end()
                result.add(kind, seed, found, details)
            seed += 1
            progress(min(time.monotonic() - start, 60 * minutes) - begun)
    return result


def table(result: FuzzResult) -> list[str]:
    """Return the counts by kind, and the seeds that ended badly."""
    names = ['read', 'said', *_BAD]
    rows = [('', 'files', *names)]
    for kind, counts in result.outcomes.items():
        rows.append((kind, str(counts.total()), *(str(counts[name]) for name in names)))
    bad = [f'{kind} {seed}: {found}: {details}' for kind, seed, found, details in result.bad]
    return [*grid(rows), f'seeds from {result.seed} on', *bad]


if __name__ == '__main__':
    option = ('--minutes', float, 10.0, 'how long to read')
    sys.exit(run_script(__doc__, option, fuzz, table, lambda minutes: round(60 * minutes)))
