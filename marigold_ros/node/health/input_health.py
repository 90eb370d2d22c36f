# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Signs by which a robot's owner sees what ails: rates, blind cameras, clocks, memory.

Nothing here imports ROS; each sign is a number or a sentence.
"""

from __future__ import annotations

from collections import deque
import os
from pathlib import Path
import sys
import threading
import time

import numpy as np

# Messages that a rate is taken over, and the silence after which it is zero, seconds.
_WINDOW, _SILENCE = 30, 3.0
# Equal images in a row of a camera that is stuck: noise changes a living one's each time.
_STUCK = 10
_SAMPLES = 64  # rows and columns looked at
_BLACK, _WHITE = 5, 250  # grey values of 255
_SHARE = 0.9  # of the pixels seen that must be so dark, or so bright


class Rate:
    """How often something happens, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=_WINDOW)
        self._begun = time.monotonic()

    def tick(self) -> None:
        """Note that it happened."""
        with self._lock:
            self._times.append(time.monotonic())

    @property
    def silence(self) -> float:
        """Seconds since it happened, or since this was made."""
        with self._lock:
            return time.monotonic() - (self._times[-1] if self._times else self._begun)

    @property
    def hertz(self) -> float:
        """Times a second over the last ones; 0 after three seconds of silence."""
        with self._lock:
            times = list(self._times)
        if len(times) < 2 or time.monotonic() - times[-1] > _SILENCE:
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], 1e-9)


class ImageWatch:
    """Looks whether a camera sees anything, at a few thousand pixels of each image."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._equal = 0

    def look(self, rgb: np.ndarray) -> str:
        """
        Say what is wrong with an image; empty if nothing.

        Parameters
        ----------
        rgb : (H, W, 3) uint8

        """
        rows, columns = (max(1, side // _SAMPLES) for side in rgb.shape[:2])
        seen = rgb[rows // 2 :: rows, columns // 2 :: columns].copy()
        same = self._last is not None and np.array_equal(seen, self._last)
        self._last, self._equal = seen, self._equal + 1 if same else 0
        grey = seen.max(axis=2)
        if np.mean(grey <= _BLACK) > _SHARE:
            return 'the image is black: lens cap, exposure, or light?'
        if np.mean(seen.min(axis=2) >= _WHITE) > _SHARE:
            return 'the image is white: exposure or glare?'
        if self._equal >= _STUCK:
            return f'the last {self._equal + 1} images are equal: has the camera stopped?'
        return ''


def clock_gap(image_ns: int, newest_scan_ns: int | None, max_dt_ns: int) -> str:
    """Say why no scan belongs to an image, from the newest scan's stamp (None without any)."""
    if newest_scan_ns is None:
        return 'no scan has arrived'
    gap = (newest_scan_ns - image_ns) / 1e9
    text = f'the newest scan is {abs(gap):.3g} s {"ahead of" if gap > 0 else "behind"} the image'
    if abs(gap) > 2.0:
        return f'{text}: two clocks?'
    return f'{text}, lidar.max_dt is {max_dt_ns / 1e9:g} s'


def resident_mb(process: int | str = 'self') -> float:
    """Resident memory of a process in MB, on Linux."""
    pages = int(Path(f'/proc/{process}/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def memory_mb() -> dict[str, float]:
    """Memory of this process in MB: ``resident``, and ``gpu`` where torch holds some."""
    found = {}
    if Path('/proc/self/statm').exists():
        found['resident_mb'] = round(resident_mb(), 1)
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available():
        found['gpu_mb'] = round(torch.cuda.memory_allocated() / 1e6, 1)
    return found
