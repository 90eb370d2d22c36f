# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Jobs of the server: one at a time in one thread, the others wait; all can be cancelled."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import errno
import logging
from pathlib import Path
import secrets
import shutil
import threading
from typing import Any

from marigold_ros.errors import MarigoldError
from marigold_ros.models.hub import as_size

MOST_WAITING = 8
_MOST_KEPT = 12  # finished jobs whose files stay
_PATIENCE_S = 1.5  # with a job that is between two steps at the end
ROOM = 200_000_000  # bytes that stay free for the results of a job
UPLOAD = 'upload'  # folder of what was sent, within that of its job
WAITING, WORKING, DONE, FAILED, CANCELLED = 'waiting', 'working', 'done', 'failed', 'cancelled'
UNEXPECTED = 'this failed unexpectedly; the terminal of the server shows why'
_ENDED = (DONE, FAILED, CANCELLED)


class Cancelled(Exception):
    """Raised inside a job that somebody cancelled."""


class FullDisk(MarigoldError):
    """The disk of uploads and results is full."""


@dataclass
class Job:
    """
    A piece of work and its state.

    ``work`` fills ``result`` (JSON types) and ``files`` (by the name under which they are served),
    and calls ``step`` often: it reports progress, and raises Cancelled once the job is cancelled.
    """

    kind: str
    name: str
    folder: Path
    work: Callable[['Job'], None] = field(repr=False)
    identity: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    state: str = WAITING
    text: str = ''
    done: int = 0
    total: int = 0
    result: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """Report what is being done, and how much of it is."""
        if self.stop.is_set():
            raise Cancelled
        self.text, self.done, self.total = text, done, total

    def words(self, text: object) -> str:
        """Return a text or an error in words, in which what was sent has its own name."""
        return str(text).replace(f'{self.folder / UPLOAD}/', '')


class JobQueue:
    """
    The jobs of a server; use it in a ``with`` block, which ends its thread.

    The thread first calls ``prepare``. If that fails, ``failure`` is its error and no job begins.
    """

    def __init__(self, prepare: Callable[[], None]) -> None:
        self.failure: Exception | None = None
        self._prepare, self._is_prepared = prepare, False
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name='jobs', daemon=True)

    def __enter__(self) -> 'JobQueue':
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.stop.set()
            self._changed.notify_all()
        self._thread.join(_PATIENCE_S)

    @property
    def has_ended(self) -> bool:
        """Whether its thread has ended; not while a job is inside a library."""
        return not self._thread.is_alive()

    @property
    def is_full(self) -> bool:
        """Whether no other job may wait."""
        return len(self._waiting) >= MOST_WAITING

    def add(self, job: Job) -> None:
        """Let a job wait for its turn."""
        with self._changed:
            self._jobs[job.identity] = job
            self._waiting.append(job)
            ended = [job for job in self._jobs.values() if job.state in _ENDED]
            self._forget(ended[: max(0, len(ended) - _MOST_KEPT)])
            self._changed.notify_all()

    def find(self, identity: str) -> Job | None:
        """Return a job by its identity."""
        return self._jobs.get(identity)

    def all(self) -> list[Job]:
        """Return the jobs that are kept, in the order in which they came."""
        with self._changed:
            return list(self._jobs.values())

    def cancel(self, job: Job) -> None:
        """Cancel a job: at once if it waits, else at its next step."""
        with self._changed:
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, CANCELLED, 'cancelled before it began')

    def describe(self, job: Job) -> dict[str, Any]:
        """Return a job as JSON types; ``text`` says in words what happens."""
        with self._changed:
            text = job.text
            if job in self._waiting:
                working = sum(other.state == WORKING for other in self._jobs.values())
                ahead = self._waiting.index(job) + working
                others = f'{ahead} other job{"s" if ahead > 1 else ""}'
                text = f'waiting for {others}' if ahead else 'next'
                text = text if self._is_prepared else 'loading the model'
            return {
                'id': job.identity,
                'kind': job.kind,
                'name': job.name,
                'state': job.state,
                'text': text,
                'done': job.done,
                'total': job.total,
                'ended': job.state in _ENDED,
                'result': dict(job.result),
                'files': sorted(job.files),
            }

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            self.failure = error
            return
        self._is_prepared = True
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.state = WORKING
            try:
                self.make_room(job.folder)
                with naming_full_disk(job.folder):
                    job.work(job)
                state, text = DONE, 'finished'
            except Cancelled:
                state, text = CANCELLED, 'cancelled'
            except FullDisk as error:
                with self._changed:
                    self._forget(self._done())
                state, text = FAILED, f'older results were deleted; send it again: {error}'
            except MarigoldError as error:
                state, text = FAILED, job.words(error)
            except Exception:
                logging.getLogger(__name__).exception('%s failed', job.name)
                state, text = FAILED, UNEXPECTED
            with self._changed:
                self._end(job, state, text)

    def _end(self, job: Job, state: str, text: str) -> None:
        job.state, job.text = state, text
        shutil.rmtree(job.folder / UPLOAD, ignore_errors=True)
        if state != DONE:
            job.files.clear()
            job.result.clear()
            shutil.rmtree(job.folder, ignore_errors=True)

    def make_room(self, folder: Path, size: float = 0) -> bool:
        """Forget the oldest results if an upload of ``size`` bytes and its own have room then."""
        with self._changed:
            done = self._done()
            files = (path for job in done for path in job.folder.rglob('*') if path.is_file())
            free, kept = shutil.disk_usage(folder).free, sum(p.stat().st_size for p in files)
            if free + kept < size + ROOM:
                return False
            while done and shutil.disk_usage(folder).free < size + ROOM:
                self._forget([done.pop(0)])
            return shutil.disk_usage(folder).free >= size + ROOM

    def _done(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == DONE]

    def _forget(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            del self._jobs[job.identity]
            shutil.rmtree(job.folder, ignore_errors=True)


def full_disk(folder: Path) -> str:
    """Return in words that a disk is full, with the remedy."""
    free = as_size(shutil.disk_usage(folder).free)
    return f'the disk has {free} free; make room there, or set TMPDIR to a folder of another one'


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk into FullDisk with the remedy."""
    try:
        yield
    except (OSError, MarigoldError) as error:
        # Of files that are written whole, and of videos, it is the cause.
        cause = error.__cause__ if isinstance(error, MarigoldError) else error
        if not (isinstance(cause, OSError) and cause.errno == errno.ENOSPC):
            raise
        raise FullDisk(full_disk(folder)) from error
