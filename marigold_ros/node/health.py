# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The node's health without ROS: counters, timings, rates, input health, memory; what is logged.

A frame enters once and leaves once: received = served + dropped_newer + skipped_idle + rejected
+ in_flight holds in every snapshot, because both sides change under one lock.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
import math
import os
from pathlib import Path
import sys
import threading
import time
from typing import Any

from marigold_ros.errors import without_numbers
from marigold_ros.frame import Alignment, SourceReport
from marigold_ros.node import diagnostic_keys as keys
import numpy as np

# Seconds, beside those of a frame, after which a problem that did not occur again is over.
PROBLEM_MEMORY = 5.0
# Seconds between the stamps of an image and the newest scan from which on two clocks made them.
OTHER_CLOCK_S = 2.0
# Messages that a rate is averaged over, and the least silence after which it is zero, seconds.
_WINDOW, _SILENCE = 30, 3.0
# Seconds between two lines about a warning that lasts or comes back.
_LOG_PERIOD = 30.0
# One in twenty training images has a larger domain gap (models/marigold/domain_gap.py).
_LARGE_GAP = 0.5


class Counters:
    """Counters by key, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[str] = Counter(dict.fromkeys(keys.ALWAYS_SHOWN, 0))

    def add(self, key: str) -> None:
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
    """The durations of each stage in the last frames, and their percentiles."""

    def __init__(self, window: int = 100) -> None:
        self._lock = threading.Lock()
        self._frames: deque[Mapping[str, float]] = deque(maxlen=window)

    def add(self, timings_ms: Mapping[str, float]) -> None:
        """Add the durations of one frame, milliseconds per stage."""
        with self._lock:
            self._frames.append(timings_ms)

    def last_s(self, stage: str) -> float:
        """Return the duration of a stage of the last frame in seconds; 0 without it."""
        with self._lock:
            return self._frames[-1].get(stage, 0.0) / 1e3 if self._frames else 0.0

    def percentiles(self) -> dict[str, float]:
        """Return ``STAGE.p50_ms`` and ``STAGE.p95_ms`` over the window."""
        with self._lock:
            frames = list(self._frames)
        stages: dict[str, list[float]] = {}
        for timings_ms in frames:
            for stage, duration in timings_ms.items():
                stages.setdefault(stage, []).append(duration)
        return {
            f'{stage}.p{percent}_ms': float(value)
            for stage, values in stages.items()
            for percent, value in zip((50, 95), np.percentile(values, (50, 95)), strict=True)
        }


class Rate:
    """How often an event occurs, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=_WINDOW)
        self._begun = time.monotonic()

    def tick(self) -> None:
        with self._lock:
            self._times.append(time.monotonic())

    def begin(self) -> None:
        """Count silence from now on, as when a publisher appears."""
        with self._lock:
            self._begun = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last event, or since it began if that is later."""
        with self._lock:
            return time.monotonic() - max([self._begun, *list(self._times)[-1:]])

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing came for so many seconds, nor for two periods."""
        return self.silence > max(seconds, 2.0 * self._period())

    def _period(self) -> float:
        """Return the shorter of the last two periods in seconds; 0 before the second event."""
        with self._lock:
            times = list(self._times)[-3:]
        return min((after - before for before, after in pairwise(times)), default=0.0)

    @property
    def hertz(self) -> float:
        """Mean rate since the last silence: three seconds or two periods, after which it is 0."""
        longest = max(_SILENCE, 2.0 * self._period())
        with self._lock:
            times = list(self._times)
        gaps = [after - before for before, after in pairwise(times)]
        times = times[max((i for i, gap in enumerate(gaps, 1) if gap > longest), default=0) :]
        if len(times) < 2 or time.monotonic() - times[-1] > longest:
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], 1e-9)


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
    answered_by: str = 'unknown'
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    problems: dict[str, tuple[float, str]] = field(default_factory=dict)
    sources: dict[str, SourceReport] = field(default_factory=dict)

    @property
    def domain_gap(self) -> float:
        """How unlike its training images the last images are for the model, NaN if unknown."""
        gaps = list(self.gaps)
        return float(np.mean(gaps)) if gaps else math.nan

    def count_sources(self, reports: Sequence[SourceReport]) -> None:
        """Count which of several sources gave points for a frame, and keep what they gave."""
        self.sources = {report.source: report for report in reports}
        for source, report in self.sources.items():
            outcome = 'used' if report.points else 'missing'
            self.counters.add(f'{keys.source_part(source)}.{outcome}')

    def report(self, part: str, text: str) -> None:
        """Record a problem of a part: clock, image, camera, info, scan, transform or frame."""
        self.problems[part] = (time.monotonic(), text)

    def problem(self, part: str) -> str:
        """Return the problem that a part had in the last seconds or frame; empty if none."""
        when, text = self.problems.get(part, (float('-inf'), ''))
        memory = PROBLEM_MEMORY + self.timings.last_s('total')
        return text if time.monotonic() - when < memory else ''


def explain_gap(gap: float) -> str:
    """Return a domain gap in words."""
    if math.isnan(gap):
        return 'unknown whether the images are like those it was trained on'
    if gap < _LARGE_GAP:
        return 'the images are like those it was trained on'
    return 'the images are unlike those it was trained on: consider adapting it'


def explain_missing_scan(
    image_ns: int, newest_ns: int | None, max_dt_ns: int, period_ns: int | None, silence_s: float
) -> str:
    """Return why no scan matches an image, from the newest's stamp, and how long ago it came."""
    if newest_ns is None:
        return 'no scan has arrived'
    if image_ns == 0:
        return 'the stamp of the images is 0, and scans are paired by it: have the driver set it'
    gap = (newest_ns - image_ns) / 1e9
    text = f'the newest scan is {abs(gap):.3g} s {"ahead of" if gap > 0 else "behind"} the image'
    if 2.0 * silence_s > -gap > 1.0:  # seconds; it fitted when it came
        return f'{text}: none has come for {silence_s:.3g} s'
    if abs(gap) > OTHER_CLOCK_S:
        return f'{text}: two clocks? synchronise them, or set lidar.time_offset'
    text = f'{text}, lidar.max_dt is {max_dt_ns / 1e9:g} s'
    if period_ns is not None and period_ns > max(-gap * 1e9, 2 * max_dt_ns):
        return f'{text}; scans come every {period_ns / 1e9:.3g} s: raise it to half of that'
    return text if gap > 0 else f'{text}; where scans come late, raise lidar.wait'


def resident_mb(process: int | str = 'self') -> float:
    """Return the resident memory of a process in MB, on Linux."""
    pages = int(Path(f'/proc/{process}/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def cuda_in_use() -> Any:
    """Return torch.cuda if there is a GPU; None while torch is not imported, or only in part."""
    cuda = getattr(sys.modules.get('torch'), 'cuda', None)
    return cuda if cuda is not None and cuda.is_available() else None


def memory_mb() -> dict[str, float]:
    """Return the memory of this process in MB: ``resident_mb``, and ``gpu_mb`` with CUDA."""
    found = {}
    if Path('/proc/self/statm').exists():
        found['resident_mb'] = round(resident_mb(), 1)
    if cuda := cuda_in_use():
        held = map(cuda.memory_allocated, range(cuda.device_count()))
        found['gpu_mb'] = round(sum(held) / 1e6, 1)
    return found


class WarningLog:
    """Picks warnings as they appear and end, and every 30 s while they last."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, str], float] = {}  # when, by part and kind
        self._open: dict[str, str] = {}  # the text that was logged, by part

    def update(self, warnings: Mapping[str, str], now: float) -> tuple[list[str], list[str]]:
        """
        Return the lines to log, of warnings and of their ends.

        ``warnings`` are the present ones by part of the diagnostics, ``now`` is in seconds of a
        monotonic clock. Texts that differ in numbers only are one warning.
        """
        lines = []
        self._logged = {k: when for k, when in self._logged.items() if now - when < _LOG_PERIOD}
        for part, text in warnings.items():
            kind = (part, without_numbers(text))
            if kind not in self._logged:
                self._logged[kind] = now
                self._open[part] = text
                lines.append(f'{part}: {text}')
        over = [part for part in self._open if part not in warnings]
        return lines, [f'{part}: over: {self._open.pop(part)}' for part in over]
