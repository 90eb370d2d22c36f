# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The processes of a live run: ROS kept to this machine, and the depth node as a child process."""

from collections.abc import Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import threading

import marigold_ros
from marigold_ros.errors import MarigoldError
from marigold_ros.node.distro import begin, LOCALHOST, node_creation, spin
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

_STOP_PATIENCE = 15.0  # seconds
_ENDS = (signal.SIGTERM, signal.SIGHUP)  # the latter of a terminal that is closed
_ERROR_MARKS = ('[ERROR]', '[FATAL]', 'Traceback (most recent call last)')


def keep_to_this_machine() -> None:
    """Choose a random domain on localhost, unless the user has chosen one."""
    os.environ.setdefault(*LOCALHOST)
    # Domains 1 to 101 stay clear of the ephemeral ports on every platform.
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))


@contextmanager
def own_context():
    """Open an rclpy context that leaves Ctrl-C to Python."""
    context = rclpy.Context()
    begin(args=[], context=context)
    try:
        yield context
    finally:
        context.try_shutdown()


@contextmanager
def own_node(name: str, context):
    """Create a node that ignores the arguments of the process, and destroy it at the end."""
    with node_creation(context):
        node = rclpy.create_node(name, context=context, use_global_arguments=False)
    try:
        yield node
    finally:
        node.destroy_node()


@contextmanager
def spinning(node, executor=None):
    """Spin a node in a thread; an exception from a callback is raised at the end."""
    executor = executor or SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            spin(executor)
        except ExternalShutdownException:
            pass
        except Exception as error:  # handed to the main thread below
            failure.append(error)

    thread = threading.Thread(target=work, name=f'spin {node.get_name()}', daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
    if failure:
        raise failure[0]


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
    # Those that are ignored, as by nohup, stay so.
    ends = [end for end in _ENDS if signal.getsignal(end) is signal.SIG_DFL]
    try:
        for end in ends:
            signal.signal(end, lambda number, _: sys.exit(128 + number))
        yield running
    finally:
        running.kill()
        for end in ends:
            signal.signal(end, signal.SIG_DFL)
