# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Who does the work on many bags: this process, several, or a cluster.

Each process loads the model once. Finished bags are kept by whoever finished them, so that a
killed run loses only what was at work. A bag gives a part, which has ``read``, the number of its
images, and ``failed``, which is empty where nothing went wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from marigold_ros.replay.bag_part import BagJob
from marigold_ros.replay.part_store import PartStore

Progress = Callable[[int], None]
Play = Callable[[Any, Any, BagJob, 'Progress | None'], Any]
Executor = Callable[[Any, Sequence[BagJob]], AbstractContextManager[Iterator[Any]]]


@dataclass
class Work:
    """
    One bag after the other, with one model; copies of it go to other processes.

    Parameters
    ----------
    play : function
        ``play(model, options, job, tell)`` gives the part of one bag.
    load : function
        Loads the model, once it is needed.
    options : object
        The same for all bags, such as `ReplayOptions`.
    store : PartStore or None
        Where finished parts are, and go.
    tell : callable or None
        Told the images done so far, of all bags; in this process only.

    """

    play: Play
    load: Callable[[], Any]
    options: Any
    store: PartStore | None = None
    tell: Progress | None = None
    done: int = 0
    model: Any = None

    def __call__(self, job: BagJob) -> Any:
        """Give the part of a bag, kept or new."""
        part = self.store.get(job) if self.store else None
        if part is None:
            if self.model is None:
                self.model = self.load()
            part = self.play(self.model, self.options, job, self._count if self.tell else None)
            if self.store and not part.failed:
                self.store.put(job, part)
        elif self.tell:
            self._count(part.read)
        self.done += part.read
        return part

    def __getstate__(self) -> dict[str, Any]:
        """Leave model and progress here."""
        return {**vars(self), 'model': None, 'tell': None}

    def _count(self, read: int) -> None:
        if self.tell:
            self.tell(self.done + read)


def processes(
    play: Play,
    load: Callable[[], Any],
    workers: int = 1,
    store: PartStore | None = None,
    tell: Progress | None = None,
) -> Executor:
    """Make a executor of processes; a single one is this one. See :class:`Work`."""

    @contextmanager
    def executor(options: Any, jobs: Sequence[BagJob]) -> Iterator[Iterator[Any]]:
        from marigold_ros.learning.parallel import run_jobs

        work = Work(play, load, options, store, tell)
        with run_jobs(work, jobs, workers) as parts:
            # One process alone tells of every image by itself.
            yield _counted(parts, tell) if tell and min(workers, len(jobs)) > 1 else parts

    return executor


def _counted(parts: Iterator[Any], tell: Progress) -> Iterator[Any]:
    done = 0
    for part in parts:
        done += part.read
        tell(done)
        yield part
