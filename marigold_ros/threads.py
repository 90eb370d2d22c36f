# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How threads of numerical libraries wait, and memory is kept; work beside other work."""

from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
import ctypes
from functools import cache
import os
from pathlib import Path
import sys
from typing import Any, TypeVar

Item = TypeVar('Item')

# Of mallopt(3): M_ARENA_MAX; M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, bytes.
_MALLOPT = {-8: 1, -3: 32 << 20, -1: 128 << 20}


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Keep idle threads from spinning, unless the user has decided otherwise.

    To be called before numpy, torch and OpenCV are imported.

    Beside another busy process, spinning OpenMP threads slow a model down 15 times, and those of
    OpenBLAS, which always spin, the metric fit 20 times.
    """
    environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    environment.setdefault('OPENBLAS_NUM_THREADS', '1')
    for who in ('WORKER', 'THREADS_LIMIT'):
        environment.setdefault(f'OPENCV_THREAD_POOL_ACTIVE_WAIT_{who}', '0')


def usable_cores(quota: str = '/sys/fs/cgroup/cpu.max') -> int:
    """Return the CPU cores that this process is pinned to, within the quota of its container."""
    affinity = getattr(os, 'sched_getaffinity', None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # without cgroup v2, or of 'max' in place of a number
        allowed_us, period_us = map(int, Path(quota).read_text().split())
        cores = min(cores, max(1, allowed_us // period_us))
    return cores


def return_memory() -> None:
    """Return to the system what glibc keeps, as after a start, which needs more than frames do."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def settle_memory(environment: Mapping[str, str] = os.environ) -> None:
    """
    Have glibc keep what one frame frees for the next, in one place for all threads.

    To be called before there are threads; a user's ``MALLOC_*`` or ``GLIBC_TUNABLES`` wins. With a
    pool for each thread a frame is up to 15 % slower, and memory 50 MB more.
    """
    decided = any(name.startswith(('MALLOC_', 'GLIBC_TUNABLES')) for name in environment)
    if sys.platform != 'linux' or decided:
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        for parameter, value in _MALLOPT.items():
            mallopt(parameter, value)


def run_beside(steps: Mapping[Future, Callable[[], Any]]) -> None:
    """
    Begin steps, one after the other, in a thread; one whose future is cancelled first is left out.

    The thread is kept for the next call: to start one takes a millisecond.
    """
    _kept_threads().submit(_run, steps)


def side_by_side(steps: Sequence[Callable[[], Item]]) -> list[Item]:
    """
    Return what steps do, of which the first is done here and the others in a thread.

    What no thread has begun by then is done here too: all may be waiting for steps of their own.
    """
    beside: dict[Future[Item], Callable[[], Item]] = {Future(): step for step in steps[1:]}
    if beside:  # or a thread would be woken, or begun, for nothing
        run_beside(beside)
    done = [step() for step in steps[:1]]
    for future, step in beside.items():
        done.append(step() if future.cancel() else future.result())
    return done


def _run(steps: Mapping[Future, Callable[[], Any]]) -> None:
    for future, step in steps.items():
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(step())
        except BaseException as error:  # goes to who asks
            future.set_exception(error)


@cache
def _kept_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix='beside')


def end_threads() -> None:
    """Wait for the work of all threads; later work begins in new ones, all that a trace sees."""
    _kept_threads().shutdown()
    _kept_threads.cache_clear()


if hasattr(os, 'register_at_fork'):  # threads do not survive it
    os.register_at_fork(after_in_child=_kept_threads.cache_clear)


def prefetched(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """
    Compute the next item (never None) in another thread while this one is used.

    The iterator lives in one thread from its beginning to its end, as SQLite requires.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            coming = thread.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = thread.submit(next, items, None)
                yield item
        finally:
            thread.submit(items.close)
