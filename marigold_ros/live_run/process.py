# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The depth node as a child process, as users run it."""

from collections.abc import Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys

import marigold_ros
from marigold_ros.errors import MarigoldError

_STOP_PATIENCE = 15.0  # seconds
_ERROR_MARKS = ('[ERROR]', '[FATAL]', 'Traceback (most recent call last)')


class NodeProcess:
    """The depth node as a child process that writes a log."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def _log_lines(self) -> list[str]:
        text = self._log.read_text(encoding='utf-8', errors='replace')
        return [line.strip() for line in text.strip().splitlines()]

    def check(self) -> None:
        """Raise MarigoldError if the process has ended."""
        code = self._process.poll()
        if code is not None:
            last = (self._log_lines() or ['its log is empty'])[-1]
            raise MarigoldError(f'the node ended with exit code {code}: {last} (see {self._log})')

    def stop(self) -> list[str]:
        """End it as Ctrl-C does; returns what went wrong, with the error lines of its log."""
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
        lines = self._log_lines()
        return faults + [line for line in lines if any(mark in line for mark in _ERROR_MARKS)]

    def kill(self) -> None:
        """Kill the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextmanager
def running_node(arguments: Sequence[str], log: Path):
    """Start ``python -m marigold_ros node`` with a log; it never outlives the block."""
    command = [sys.executable, '-m', 'marigold_ros', 'node', *arguments]
    # The child imports the same package, whatever the working directory.
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
