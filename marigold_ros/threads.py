# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""How threads of numerical libraries wait, and work on the next item beside this one."""

from collections.abc import Generator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
import os
from typing import TypeVar

Item = TypeVar('Item')


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Keep idle threads from spinning, unless the user has decided otherwise.

    To be called before numpy, torch and OpenCV are imported.

    Beside another busy process, spinning OpenMP threads slowed a model down 15 times, and those of
    OpenBLAS, which always spin, the metric fit 20 times. One thread serves its small matrices.
    OpenCV's took a tenth of the CPU time of a frame.
    """
    environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    environment.setdefault('OPENBLAS_NUM_THREADS', '1')
    for who in ('WORKER', 'THREADS_LIMIT'):
        environment.setdefault(f'OPENCV_THREAD_POOL_ACTIVE_WAIT_{who}', '0')


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
