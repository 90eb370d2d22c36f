# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
An executor on a Ray cluster: one task for each bag, retried when a worker is lost.

Ray is imported here only, when it is used. Nodes need this package, and bags and output folder
under the same paths. Finished parts come back to the driver, which stores them. A bag whose
worker is lost every time is reported as failed; the others are finished.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
import uuid

from marigold_ros.errors import MarigoldError
from marigold_ros.replay.executor import BagTask, BagWorker, Executor, Progress
from marigold_ros.replay.part_store import PartStore
from marigold_ros.replay.replay_plan import BagJob

LOCAL = 'local'
_RETRIES = 3
_loaded: dict[str, Any] = {}


@dataclass(frozen=True)
class Cluster:
    """
    The cluster that does the work.

    Parameters
    ----------
    address : str
        Of a running cluster; 'auto' for this machine's, 'local' to start one here.
    cpus : int
        CPUs of a cluster that is started here.
    gpus : float
        GPUs that each task takes.

    """

    address: str = LOCAL
    cpus: int = 1
    gpus: float = 0.0


def ray_tasks(
    task: BagTask,
    load: Callable[[], Any],
    lost: Callable[[Any, BagJob, str], Any],
    cluster: Cluster,
    store: PartStore | None = None,
    progress: Progress | None = None,
) -> Executor:
    """Return an executor of Ray tasks; ``lost`` makes the part of a bag whose worker was lost."""

    @contextmanager
    def executor(options: Any, jobs: Sequence[BagJob]) -> Iterator[Iterator[Any]]:
        ray = _import_ray()
        mine = not ray.is_initialized()
        if mine:
            _connect(ray, cluster)
        try:
            worker = ray.put(BagWorker(task, load, options))
            remote = ray.remote(num_cpus=1, num_gpus=cluster.gpus, max_retries=_RETRIES)(_work)
            run = uuid.uuid4().hex

            def submit(job: BagJob) -> Any:
                return remote.remote(worker, run, replace(job, path=job.path.resolve()))

            def lose(job: BagJob, text: str) -> Any:
                return lost(options, job, text)

            yield _in_order(_finished(ray, jobs, submit, lose, store), len(jobs), progress)
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
) -> Iterator[tuple[int, Any]]:
    """Yield numbers of jobs and their parts as they finish."""
    running = {}
    for number, job in enumerate(jobs):
        kept = store.get(job) if store else None
        if kept is not None:
            yield number, kept
        else:
            running[submit(job)] = number
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
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


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MarigoldError(
            f'--ray needs Ray ({error}): pip install ray, or use --jobs for processes of this '
            'machine'
        ) from error
    return ray


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
