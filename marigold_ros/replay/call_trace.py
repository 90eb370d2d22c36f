# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A trace of this package's calls by thread, in the format of Chrome's trace viewer.

Perfetto and ``chrome://tracing`` show it. Tracing makes short calls look longer than they are.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import sys
import threading
from time import perf_counter
import tracemalloc
from typing import Any

from marigold_ros.threads import end_threads

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_LEAST_S = 50e-6  # of a call that is kept


@contextmanager
def traced_calls() -> Iterator[list[dict[str, Any]]]:
    """
    Collect the calls made inside, also by threads that start inside; not while another trace runs.

    Each event has ``args.peak_mb``: memory that NumPy and Python allocated at once meanwhile.
    """
    events: list[dict[str, Any]] = []
    # Of each thread the calls under way: begin, memory at the begin, and the most since.
    under_way = defaultdict[int, list[list[float]]](list)

    def observe(frame: Any, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event not in ('call', 'return') or not code.co_filename.startswith(_PACKAGE):
            return
        now, thread = perf_counter(), threading.get_ident()
        calls, (memory, most) = under_way[thread], tracemalloc.get_traced_memory()
        if calls:
            calls[-1][2] = max(calls[-1][2], most)
        tracemalloc.reset_peak()
        if event == 'call':
            calls.append([now, memory, memory])
        elif calls:
            begun, before, peak = calls.pop()
            if calls:
                calls[-1][2] = max(calls[-1][2], peak)
            if now - begun >= _LEAST_S:
                name = f'{Path(code.co_filename).stem}.{code.co_name}'
                times = {'ts': 1e6 * begun, 'dur': 1e6 * (now - begun)}
                args = {'peak_mb': round((peak - before) / 1e6, 3)}
                place = {'ph': 'X', 'pid': 0, 'tid': thread}
                events.append({'name': name, **place, **times, 'args': args})

    end_threads()
    tracemalloc.start()
    threading.setprofile(observe)
    sys.setprofile(observe)
    try:
        yield events
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        # What allocates without the interpreter's lock meanwhile, as Numba does, would crash.
        end_threads()
        tracemalloc.stop()
