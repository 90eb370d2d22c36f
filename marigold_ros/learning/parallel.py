# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Jobs in several processes, their answers in order, and an end that never hangs.

Service managers and schedulers signal all processes of a run. The workers leave that to the run:
they are started with SIGTERM and SIGINT held back, which a new process inherits before its first
line, and the run ends them. The pools of the standard library were rejected: one waits for ever
for the job of a worker that was killed, the other finishes all jobs before it lets a run end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
import os
import signal
from threading import Thread
from typing import Any, TypeVar

from marigold_ros.errors import MarigoldError

Job = TypeVar('Job')
Answer = TypeVar('Answer')
Stop = Callable[[], bool]
HELD = (signal.SIGTERM, signal.SIGINT)
LOOK_EVERY = 0.2  # seconds, for the wish to stop


class Stopped(MarigoldError):
    """What was told to stop; what is done is kept."""


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    line: Connection


def never() -> bool:
    """Do not stop."""
    return False


@contextmanager
def run_jobs(
    function: Callable[[Job], Answer], jobs: Sequence[Job], workers: int, stop: Stop = never
) -> Iterator[Iterator[Answer]]:
    """
    Give the answers in order; a single job or worker needs no other process.

    Parameters
    ----------
    function : function of a job
        Of a module, or of an object that is copied to each worker once.
    jobs : sequence
        Handed out one by one to whoever is free.
    workers : int
        Processes, spawned: the caller may hold threads of torch or of a device.
    stop : function without arguments
        Once it is true, the answers end with Stopped.

    Yields
    ------
    iterator of answers
        It raises what ``function`` raised, if that is a MarigoldError; Stopped; and MarigoldError
        where a worker ended by itself. Leaving the context ends the workers and what they do.

    """
    count = min(workers, len(jobs))
    if count <= 1:
        yield _one_by_one(function, jobs, stop)
        return
    executor: list[_Worker] = []
    try:
        with _signals_held():
            for _ in range(count):
                executor.append(_hire(function))
        yield _in_turns(executor, jobs, stop)
    finally:
        for worker in executor:
            worker.process.kill()
            worker.process.join()
            worker.line.close()


def _one_by_one(
    function: Callable[[Job], Answer], jobs: Sequence[Job], stop: Stop
) -> Iterator[Answer]:
    for job in jobs:
        if stop():
            raise Stopped('told to stop')
        yield function(job)


def _in_turns(executor: Sequence[_Worker], jobs: Sequence[Any], stop: Stop) -> Iterator[Any]:
    waiting = iter(enumerate(jobs))
    at_work: dict[Any, int] = {}  # the job's number by the line to whoever does it
    done: dict[int, Any] = {}

    def hand_out(line: Connection) -> None:
        for number, job in waiting:
            line.send(job)
            at_work[line] = number
            return

    for worker in executor:
        hand_out(worker.line)
    for number in range(len(jobs)):
        while number not in done:
            if stop():
                raise Stopped('told to stop')
            ready: list[Any] = wait(list(at_work), LOOK_EVERY)
            for line in ready:
                try:
                    done[at_work.pop(line)] = line.recv()
                    hand_out(line)
                except (EOFError, OSError) as error:
                    raise _lost(executor, line) from error
        answer = done.pop(number)
        if isinstance(answer, MarigoldError):
            raise answer
        yield answer


def _lost(executor: Sequence[_Worker], line: Any) -> MarigoldError:
    (process,) = (worker.process for worker in executor if worker.line is line)
    process.join()
    return MarigoldError(
        f'a working process ended by itself (exit code {process.exitcode}; -9 is often a lack of '
        'memory, else its error is above); give fewer workers and run the same command again'
    )


def _hire(function: Callable[[Any], Any]) -> _Worker:
    context = get_context('spawn')
    own, theirs = context.Pipe()
    process = context.Process(target=_work, args=(function, theirs))
    process.start()
    theirs.close()
    return _Worker(process, own)


def _work(function: Callable[[Any], Any], line: Connection) -> None:
    """Do jobs until the run ends this process, or is gone itself."""
    Thread(target=_end_with_the_run, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            job = line.recv()
            try:
                answer = function(job)
            except MarigoldError as error:
                answer = error
            line.send(answer)


def _end_with_the_run() -> None:
    run = parent_process()
    assert run is not None
    run.join()
    os._exit(1)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back in processes that are started meanwhile; here they come afterwards."""
    resource_tracker.ensure_running()  # lets them through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
