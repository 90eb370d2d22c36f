# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""CPU time of one thread, in which the cost of geometry is stated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time

import cv2
import numpy as np


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit OpenCV to one thread meanwhile."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def cpu_ms(runs: int, work: Callable[..., object], *arguments: object) -> float:
    """Measure the CPU time of a call in ms, median of some runs."""
    taken = []
    for _ in range(runs):
        start = process_time()
        work(*arguments)
        taken.append(1e3 * (process_time() - start))
    return float(np.median(taken))
