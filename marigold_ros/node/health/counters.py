# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Counters that add up at any moment, a window of timings, and the latest state for diagnostics.

A frame enters once and leaves once: received = served + dropped_newer + skipped_idle + rejected
+ in_flight holds in every snapshot, because both sides change under one lock.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
import threading
import time
from typing import Any

from marigold_ros.frame import Alignment
from marigold_ros.node.health import diagnostic_keys as keys
from marigold_ros.node.health.input_health import Rate
import numpy as np

# Seconds after which a problem that did not occur again is over.
PROBLEM_MEMORY = 5.0


class Counters:
    """Counters by key, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[str] = Counter(dict.fromkeys(keys.ALWAYS_SHOWN, 0))

    def add(self, key: str) -> None:
        """Count one."""
        with self._lock:
            self._values[key] += 1

    def enter_frame(self) -> None:
        """Count an image that was received."""
        with self._lock:
            self._values[keys.FRAMES_RECEIVED] += 1
            self._values[keys.FRAMES_IN_FLIGHT] += 1

    def leave_frame(self, key: str) -> None:
        """Count the end of an image: served, dropped, idle, or rejected with its cause."""
        with self._lock:
            self._values[key] += 1
            self._values[keys.FRAMES_IN_FLIGHT] -= 1

    def snapshot(self, prefix: str = '') -> dict[str, int]:
        """Return the counters whose key starts with ``prefix``, all of one moment."""
        with self._lock:
            return {key: n for key, n in self._values.items() if key.startswith(prefix)}


class Timings:
    """The last durations of each stage of a frame, and their percentiles."""

    def __init__(self, window: int = 100) -> None:
        self._lock = threading.Lock()
        self._window = window
        self._stages: dict[str, deque[float]] = {}

    def add(self, timings_ms: Mapping[str, float]) -> None:
        """Add the durations of one frame, milliseconds per stage."""
        with self._lock:
            for stage, duration in timings_ms.items():
                self._stages.setdefault(stage, deque(maxlen=self._window)).append(float(duration))

    def percentiles(self) -> dict[str, float]:
        """Return ``STAGE.p50_ms`` and ``STAGE.p95_ms`` over the window."""
        with self._lock:
            stages = {stage: list(values) for stage, values in self._stages.items()}
        result = {}
        for stage, values in stages.items():
            p50, p95 = np.percentile(values, (50, 95))
            result[f'{stage}.p50_ms'], result[f'{stage}.p95_ms'] = float(p50), float(p95)
        return result


@dataclass
class Health:
    """State of the running node: counters, timings, the last fit, and current problems by part."""

    counters: Counters = field(default_factory=Counters)
    timings: Timings = field(default_factory=Timings)
    alignment: Alignment = field(default_factory=Alignment)
    details: dict[str, Any] = field(default_factory=dict)
    stamp_ns: int = 0
    scan_ns: int | None = None
    published: Rate = field(default_factory=Rate)
    problems: dict[str, tuple[float, str]] = field(default_factory=dict)

    def report(self, part: str, text: str) -> None:
        """Record a problem of a part: image, camera, info, scan, transform or frame."""
        self.problems[part] = (time.monotonic(), text)

    def problem(self, part: str) -> str:
        """Return the problem that a part had in the last seconds; empty if none."""
        when, text = self.problems.get(part, (float('-inf'), ''))
        return text if time.monotonic() - when < PROBLEM_MEMORY else ''
