# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Counters that add up at any moment, and a window of timings.

A frame enters once and leaves once: received = served + dropped_newer + skipped_idle + rejected
+ in_flight holds in every snapshot, because both sides change under one lock. ``in_flight`` is 0
when nothing is being worked on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
import threading

import numpy as np


class Counters:
    """Named counters for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[str] = Counter(
            dict.fromkeys(
                (
                    'frames.received',
                    'frames.served',
                    'frames.dropped_newer',
                    'frames.skipped_idle',
                    'frames.in_flight',
                    'scans.received',
                    'infos.received',
                ),
                0,
            )
        )

    def add(self, name: str) -> None:
        """Count one."""
        with self._lock:
            self._values[name] += 1

    def enter_frame(self) -> None:
        """Count an image that came in."""
        with self._lock:
            self._values['frames.received'] += 1
            self._values['frames.in_flight'] += 1

    def leave_frame(self, outcome: str) -> None:
        """Count what became of an image: served, dropped_newer, skipped_idle, rejected.CAUSE."""
        with self._lock:
            self._values[f'frames.{outcome}'] += 1
            self._values['frames.in_flight'] -= 1

    def snapshot(self, prefix: str = '') -> dict[str, int]:
        """Counters whose name starts with ``prefix``, all of one moment."""
        with self._lock:
            return {name: n for name, n in self._values.items() if name.startswith(prefix)}


class Timings:
    """The last durations of each stage, and their percentiles."""

    def __init__(self, window: int = 100) -> None:
        self._lock = threading.Lock()
        self._window = window
        self._stages: dict[str, deque[float]] = {}

    def add(self, timings_ms: Mapping[str, float]) -> None:
        """Take the durations of one frame, milliseconds per stage."""
        with self._lock:
            for stage, duration in timings_ms.items():
                self._stages.setdefault(stage, deque(maxlen=self._window)).append(float(duration))

    def percentiles(self) -> dict[str, float]:
        """``STAGE.p50_ms`` and ``STAGE.p95_ms`` over the window."""
        with self._lock:
            stages = {stage: list(values) for stage, values in self._stages.items()}
        result = {}
        for stage, values in stages.items():
            result[f'{stage}.p50_ms'], result[f'{stage}.p95_ms'] = (
                float(x) for x in np.percentile(values, (50, 95))
            )
        return result
