# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Jobs in several processes, their answers in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Job = TypeVar('Job')
Answer = TypeVar('Answer')


def run_jobs(
    function: Callable[[Job], Answer], jobs: Sequence[Job], workers: int
) -> Iterator[Answer]:
    """Yield the answers in order; a single job or worker needs no other process."""
    if min(workers, len(jobs)) <= 1:
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
        yield from pool.map(function, jobs)
