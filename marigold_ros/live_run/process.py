# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The depth node as a process of its own, as users run it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys

from marigold_ros.errors import MarigoldError

_STOP_PATIENCE = 15.0  # seconds


class NodeProcess:
    """The depth node as a child process."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def check(self) -> None:
        """Raise where the process has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise MarigoldError(
                f'the node ended with exit code {code}: {self._last_words()} (see {self._log})'
            )

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        return lines[-1].strip() if lines else 'it said nothing'

    def stop(self) -> list[str]:
        """End it as Ctrl-C does; tell what was wrong with that, and its error lines."""
        faults = []
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            faults.append(f'the node did not end within {_STOP_PATIENCE:g} s of SIGINT')
        else:
            if code != 0:
                faults.append(f'the node ended with exit code {code} after SIGINT')
        text = self._log.read_text(encoding='utf-8', errors='replace')
        marks = ('[ERROR]', '[FATAL]', 'Traceback (most recent call last)')
        return faults + [
            line.strip() for line in text.splitlines() if any(mark in line for mark in marks)
        ]

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextmanager
def running_node(arguments: Sequence[str], log: Path):
    """Start ``python -m marigold_ros node`` with a log; it never outlives the block."""
    import marigold_ros

    command = [sys.executable, '-m', 'marigold_ros', 'node', *arguments]
    # The package is found where this one was, whatever the working directory.
    home = str(Path(marigold_ros.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (home, os.environ.get('PYTHONPATH'))))
    environment = {**os.environ, 'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'}
    with log.open('wb') as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for this process, which then stops the node
        )
    running = NodeProcess(process, log)
    try:
        yield running
    finally:
        running.kill()
