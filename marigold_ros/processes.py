# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Jobs in several processes, with results in order and an end that never hangs.

Service managers and schedulers signal all processes of a run. Workers start with SIGTERM and
SIGINT blocked, which a new process inherits, and the main process ends them. The pools of the
standard library either wait forever for the job of a killed worker or finish all jobs first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
import os
import signal
from threading import Thread
import time
from typing import Any, TypeVar

from marigold_ros.errors import MarigoldError

Job = TypeVar('Job')
Result = TypeVar('Result')
Stop = Callable[[], bool]
BLOCKED = (signal.SIGTERM, signal.SIGINT)
POLL_S = 0.2  # between checks of ``stop``
REPEAT_S = 1.0  # launchers forward the signal that a terminal has sent to all already
PATIENCE_S = 5.0  # with workers that have nothing left to do


class Stopped(MarigoldError):
    """Raised on request to stop; finished work is kept."""


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    connection: Connection


def never() -> bool:
    """Return False: do not stop."""
    return False


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """
    Yield a function that returns whether SIGINT or SIGTERM has come; main thread only.

    One that comes a second after the first acts as it did before.
    """
    first_s: list[float] = []
    before: dict[int, Any] = {number: signal.getsignal(number) for number in BLOCKED}

    def note(number: int, _frame: Any) -> None:
        first_s.append(time.monotonic())
        if first_s[-1] - first_s[0] > REPEAT_S:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in BLOCKED:
        signal.signal(number, note)
    try:
        yield lambda: bool(first_s)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def run_jobs(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, stop: Stop = never
) -> Iterator[Iterator[Result]]:
    """
    Yield the results in order; a single job or worker needs no other process.

    ``function`` is at module level, or of an object that is copied to each worker once. Workers
    are spawned, as the caller may hold threads of torch or of a device; each job goes to the next
    idle one. The results end with a MarigoldError that ``function`` raised, Stopped once ``stop``
    returns true, or MarigoldError where a worker died. Leaving the context ends the workers, by an
    error at once.
    """
    count = min(workers, len(jobs))
    if count <= 1:
        yield _run_here(function, jobs, stop)
        return
    pool: list[_Worker] = []
    try:
        with _signals_blocked():
            for _ in range(count):
                pool.append(_start(function))
        yield _run_in(pool, jobs, stop)
        for worker in pool:
            worker.connection.close()  # which ends it, and what it holds is given back
        for worker in pool:
            worker.process.join(PATIENCE_S)
    finally:
        for worker in pool:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


def _run_here(
    function: Callable[[Job], Result], jobs: Sequence[Job], stop: Stop
) -> Iterator[Result]:
    for job in jobs:
        if stop():
            raise Stopped('stopped on request')
        yield function(job)


def _run_in(pool: Sequence[_Worker], jobs: Sequence[Any], stop: Stop) -> Iterator[Any]:
    pending = iter(enumerate(jobs))
    running: dict[Any, int] = {}  # number of the job by the connection of its worker
    done: dict[int, Any] = {}

    def send_next(connection: Connection) -> None:
        for number, job in pending:
            connection.send(job)
            running[connection] = number
            return

    for worker in pool:
        send_next(worker.connection)
    for number in range(len(jobs)):
        while number not in done:
            if stop():
                raise Stopped('stopped on request')
            ready: list[Any] = wait(list(running), POLL_S)
            for connection in ready:
                try:
                    done[running.pop(connection)] = connection.recv()
                    send_next(connection)
                except (EOFError, OSError) as error:
                    raise _worker_died(pool, connection) from error
        result = done.pop(number)
        if isinstance(result, MarigoldError):
            raise result
        yield result


def _worker_died(pool: Sequence[_Worker], connection: Any) -> MarigoldError:
    (process,) = (worker.process for worker in pool if worker.connection is connection)
    process.join()
    return MarigoldError(
        f'a worker process died (exit code {process.exitcode}; -9 is often a lack of memory, '
        'otherwise its error is above); use fewer workers and run the same command again'
    )


def _start(function: Callable[[Any], Any]) -> _Worker:
    context = get_context('spawn')
    own, other = context.Pipe()
    process = context.Process(target=_work, args=(function, other))
    process.start()
    other.close()
    return _Worker(process, own)


def _work(function: Callable[[Any], Any], connection: Connection) -> None:
    """Do jobs until the main process ends this one, or dies itself."""
    Thread(target=_exit_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                result = function(job)
            except MarigoldError as error:
                result = error
            connection.send(result)


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in processes started meanwhile; this one receives them afterwards."""
    resource_tracker.ensure_running()  # unblocks them when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
