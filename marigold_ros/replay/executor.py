# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Executors of work on many bags: this process, several, or one Ray task for each bag.

Each process loads the model once, and parts are stored as they are made: a killed run loses the
images since the last time. A part has ``read``, the number of its images, and ``failed``, which is
empty where nothing went wrong. Ray is imported only when it is used.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
import uuid

from marigold_ros.errors import brief, MarigoldError
from marigold_ros.models.protocol import DepthModel
from marigold_ros.processes import never, POLL_S, run_jobs, Stop, Stopped
from marigold_ros.replay.bag_part import PartStore
from marigold_ros.replay.replay_plan import BagJob

Progress = Callable[[int], None]
BagTask = Callable[[Any, Any, BagJob, 'Progress | None'], Any]
LOCAL = 'local'
_RETRIES = 3
_loaded: dict[str, Any] = {}


@dataclass
class BagWorker:
    """Works on one bag after the other with one model; copies of it go to other processes."""

    task: BagTask  # ``task(model, options, job, progress)`` returns the part of one bag
    # ``lost(options, job, text)`` returns the part of a bag whose process was lost.
    lost: Callable[[Any, BagJob, str], Any]
    load: Callable[[], Any]  # loads the model, once it is needed
    options: Any  # the same for all bags, such as `ReplayOptions`
    store: PartStore | None = None  # keeps parts
    # In this process only: called with the number of images done, of all bags; and once it returns
    # true, the work ends with Stopped after an image.
    progress: Progress | None = None
    stop: Stop = never
    done: int = 0
    model: DepthModel | None = None

    def __call__(self, job: BagJob) -> Any:
        """Return the part of a bag, stored or new."""
        part = self.store.get(job) if self.store else None
        if part is None:
            if self.model is None:
                self.model = self.load()
            kept = self.store.with_file(job) if self.store else job
            part = self.task(self.model, self.options, kept, self._report)
            if self.store and not part.failed:
                self.store.put(job, part)
        else:
            self._report(part.read)
        self.done += part.read
        return part

    def __getstate__(self) -> dict[str, Any]:
        """Leave in this process what only it can use."""
        return {**vars(self), 'model': None, 'lost': None, 'progress': None, 'stop': never}

    def _report(self, read: int) -> None:
        if self.progress:
            self.progress(self.done + read)
        if self.stop():
            raise Stopped('stopped on request')


Executor = Callable[[BagWorker, Sequence[BagJob]], AbstractContextManager[Iterator[Any]]]


@contextmanager
def in_processes(
    worker: BagWorker, jobs: Sequence[BagJob], processes: int = 1
) -> Iterator[Iterator[Any]]:
    """Yield the parts of the jobs in order, worked on in processes; a single one is this one."""
    with run_jobs(worker, jobs, processes, worker.stop) as parts:
        # A single process reports every image itself.
        several = min(processes, len(jobs)) > 1
        yield _in_order(enumerate(parts), worker.progress) if several else parts


@dataclass(frozen=True)
class Cluster:
    """A running cluster by its address, or 'auto' for this machine's, or 'local' to start one."""

    address: str = LOCAL
    cpus: int = 1  # of a cluster that is started here
    gpus: float = 0.0  # of each task


@contextmanager
def on_ray(worker: BagWorker, jobs: Sequence[BagJob], cluster: Cluster) -> Iterator[Iterator[Any]]:
    """Yield the parts of the jobs in order, worked on as tasks of a Ray cluster."""
    try:
        import ray
    except ImportError as error:
        raise MarigoldError(
            f'--ray needs Ray ({error}): pip install ray, or use --jobs for processes of this '
            'machine'
        ) from error
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, cluster)
    try:
        remote = ray.remote(num_cpus=1, num_gpus=cluster.gpus, max_retries=_RETRIES)(_work)
        copy = ray.put(replace(worker, store=None))  # parts are kept here
        finished = _finished(ray, worker, jobs, partial(remote.remote, copy, uuid.uuid4().hex))
        yield _in_order(finished, worker.progress)
    finally:
        if mine:
            ray.shutdown()


def _work(worker: BagWorker, run: str, job: BagJob) -> Any:
    """Work on a bag, with the model that this process loaded for this run."""
    if run not in _loaded:
        _loaded.clear()
        _loaded[run] = worker.load()
    worker.model = _loaded[run]
    return worker(job)


def _finished(
    ray: Any, worker: BagWorker, jobs: Sequence[BagJob], submit: Callable[[BagJob], Any]
) -> Iterator[tuple[int, Any]]:
    """Yield numbers of jobs and their parts as they finish."""
    running, store = {}, worker.store
    for number, job in enumerate(jobs):
        kept = store.get(job) if store else None
        if kept is not None:
            yield number, kept
        else:
            running[submit(replace(job, path=job.path.absolute()))] = number
    while running:
        if worker.stop():
            raise Stopped('stopped on request')
        ready = next(iter(ray.wait(list(running), num_returns=1, timeout=POLL_S)[0]), None)
        if ready is None:
            continue
        number = running.pop(ready)
        job = jobs[number]
        try:
            part = ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MarigoldError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            lost = f'{job.path}: its worker was lost ({brief(error)})'
            part = worker.lost(worker.options, job, lost)
        if store and not part.failed:
            store.put(job, part)
        yield number, part


def _in_order(finished: Iterable[tuple[int, Any]], progress: Progress | None) -> Iterator[Any]:
    waiting: dict[int, Any] = {}
    following, read = 0, 0
    for number, part in finished:
        waiting[number] = part
        read += part.read
        if progress:
            progress(read)
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _connect(ray: Any, cluster: Cluster) -> None:
    options: dict[str, Any] = {'logging_level': 'ERROR', 'log_to_driver': False}
    if cluster.address == LOCAL:
        options.update(num_cpus=cluster.cpus, include_dashboard=False)
    try:
        ray.init(address=cluster.address, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise MarigoldError(
            f'no Ray cluster at {cluster.address} ({brief(error)}); give the '
            'address of a running one, or --ray without an address to start one here'
        ) from error
