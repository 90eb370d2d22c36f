# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Executors of work on many bags: this process or several; `ray_executor` has a cluster.

Each process loads the model once. Parts of finished bags are stored by the process that finished
them, so that a killed run loses only the bags in progress. A part has ``read``, the number of
its images, and ``failed``, which is empty where nothing went wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from marigold_ros.learning.parallel import run_jobs
from marigold_ros.models.protocol import DepthModel
from marigold_ros.replay.part_store import PartStore
from marigold_ros.replay.replay_plan import BagJob

Progress = Callable[[int], None]
BagTask = Callable[[Any, Any, BagJob, 'Progress | None'], Any]
Executor = Callable[[Any, Sequence[BagJob]], AbstractContextManager[Iterator[Any]]]


@dataclass
class BagWorker:
    """
    Works on one bag after the other with one model; copies of it go to other processes.

    Parameters
    ----------
    task : function
        ``task(model, options, job, progress)`` returns the part of one bag.
    load : function
        Loads the model, once it is needed.
    options : object
        The same for all bags, such as `ReplayOptions`.
    store : PartStore or None
        Keeps finished parts.
    progress : callable or None
        Called with the number of images done, of all bags; in this process only.

    """

    task: BagTask
    load: Callable[[], Any]
    options: Any
    store: PartStore | None = None
    progress: Progress | None = None
    done: int = 0
    model: DepthModel | None = None

    def __call__(self, job: BagJob) -> Any:
        """Return the part of a bag, stored or new."""
        part = self.store.get(job) if self.store else None
        if part is None:
            if self.model is None:
                self.model = self.load()
            progress = self._report if self.progress else None
            part = self.task(self.model, self.options, job, progress)
            if self.store and not part.failed:
                self.store.put(job, part)
        else:
            self._report(part.read)
        self.done += part.read
        return part

    def __getstate__(self) -> dict[str, Any]:
        """Leave model and progress in this process."""
        return {**vars(self), 'model': None, 'progress': None}

    def _report(self, read: int) -> None:
        if self.progress:
            self.progress(self.done + read)


def processes(
    task: BagTask,
    load: Callable[[], Any],
    workers: int = 1,
    store: PartStore | None = None,
    progress: Progress | None = None,
) -> Executor:
    """Return an executor of processes; a single one is this process. See :class:`BagWorker`."""

    @contextmanager
    def executor(options: Any, jobs: Sequence[BagJob]) -> Iterator[Iterator[Any]]:
        worker = BagWorker(task, load, options, store, progress)
        with run_jobs(worker, jobs, workers) as parts:
            # A single process reports every image itself.
            several = min(workers, len(jobs)) > 1
            yield _reported(parts, progress) if progress and several else parts

    return executor


def _reported(parts: Iterator[Any], progress: Progress) -> Iterator[Any]:
    done = 0
    for part in parts:
        done += part.read
        progress(done)
        yield part
