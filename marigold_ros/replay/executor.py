# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Executors of work on many bags: this process, several, or one Ray task for each bag.

Each process loads the model once, and parts are stored as they are made: a killed run loses the
images since the last time. A part has ``read``, the number of its images, and ``failed``, which is
empty where nothing went wrong. Ray is imported only when it is used.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
import uuid

from marigold_ros.errors import MarigoldError
from marigold_ros.models.protocol import DepthModel
from marigold_ros.processes import never, POLL_S, run_jobs, Stop, Stopped
from marigold_ros.replay.bag_part import PartStore
from marigold_ros.replay.replay_plan import BagJob

Progress = Callable[[int], None]
BagTask = Callable[[Any, Any, BagJob, 'Progress | None'], Any]
Executor = Callable[[Any, Sequence[BagJob]], AbstractContextManager[Iterator[Any]]]
LOCAL = 'local'
_RETRIES = 3
_loaded: dict[str, Any] = {}


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
        Keeps parts.
    progress : callable or None
        Called with the number of images done, of all bags; in this process only.
    stop : function without arguments
        Once it returns true, the work ends with Stopped after an image; in this process only.

    """

    task: BagTask
    load: Callable[[], Any]
    options: Any
    store: PartStore | None = None
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
        """Leave model, progress and stop in this process."""
        return {**vars(self), 'model': None, 'progress': None, 'stop': never}

    def _report(self, read: int) -> None:
        if self.progress:
            self.progress(self.done + read)
        if self.stop():
            raise Stopped('stopped on request')


def processes(
    task: BagTask,
    load: Callable[[], Any],
    workers: int = 1,
    store: PartStore | None = None,
    progress: Progress | None = None,
    stop: Stop = never,
) -> Executor:
    """Return an executor of processes; a single one is this process. See :class:`BagWorker`."""

    @contextmanager
    def executor(options: Any, jobs: Sequence[BagJob]) -> Iterator[Iterator[Any]]:
        worker = BagWorker(task, load, options, store, progress, stop)
        with run_jobs(worker, jobs, workers, stop) as parts:
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


@dataclass(frozen=True)
class Cluster:
    """A running cluster by its address, or 'auto' for this machine's, or 'local' to start one."""

    address: str = LOCAL
    cpus: int = 1  # of a cluster that is started here
    gpus: float = 0.0  # of each task


def ray_tasks(
    task: BagTask,
    load: Callable[[], Any],
    lost: Callable[[Any, BagJob, str], Any],
    cluster: Cluster,
    store: PartStore | None = None,
    progress: Progress | None = None,
    stop: Stop = never,
) -> Executor:
    """Return an executor of Ray tasks; ``lost`` makes the part of a bag whose worker was lost."""

    @contextmanager
    def executor(options: Any, jobs: Sequence[BagJob]) -> Iterator[Iterator[Any]]:
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
            worker = ray.put(BagWorker(task, load, options))
            remote = ray.remote(num_cpus=1, num_gpus=cluster.gpus, max_retries=_RETRIES)(_work)
            submit = partial(remote.remote, worker, uuid.uuid4().hex)
            finished = _finished(ray, jobs, submit, partial(lost, options), store, stop)
            yield _in_order(finished, len(jobs), progress)
        finally:
            if mine:
                ray.shutdown()

    return executor


def _work(worker: BagWorker, run: str, job: BagJob) -> Any:
    """Work on a bag, with the model that this process loaded for this run."""
    if run not in _loaded:
        _loaded.clear()
        _loaded[run] = worker.load()
    worker.model = _loaded[run]
    return worker(job)


def _finished(
    ray: Any,
    jobs: Sequence[BagJob],
    submit: Callable[[BagJob], Any],
    lose: Callable[[BagJob, str], Any],
    store: PartStore | None,
    stop: Stop,
) -> Iterator[tuple[int, Any]]:
    """Yield numbers of jobs and their parts as they finish."""
    running = {}
    for number, job in enumerate(jobs):
        kept = store.get(job) if store else None
        if kept is not None:
            yield number, kept
        else:
            running[submit(replace(job, path=job.path.resolve()))] = number
    while running:
        if stop():
            raise Stopped('stopped on request')
        ready = next(iter(ray.wait(list(running), num_returns=1, timeout=POLL_S)[0]), None)
        if ready is None:
            continue
        number = running.pop(ready)
        try:
            part = ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MarigoldError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            why = ' '.join(str(error).split())
            part = lose(jobs[number], f'{jobs[number].path}: its worker was lost ({why[:200]})')
        if store and not part.failed:
            store.put(jobs[number], part)
        yield number, part


def _in_order(
    finished: Iterator[tuple[int, Any]], count: int, progress: Progress | None
) -> Iterator[Any]:
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
    assert following == count


def _connect(ray: Any, cluster: Cluster) -> None:
    options: dict[str, Any] = {'logging_level': 'ERROR', 'log_to_driver': False}
    if cluster.address == LOCAL:
        options.update(num_cpus=cluster.cpus, include_dashboard=False)
    try:
        ray.init(address=cluster.address, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise MarigoldError(
            f'no Ray cluster at {cluster.address} ({" ".join(str(error).split())[:200]}); give '
            'the address of a running one, or --ray without an address to start one here'
        ) from error
