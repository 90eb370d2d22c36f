# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Pairing of scans with images by header stamp: one rule for the node and for bags.

A clock has jumped only once two messages agree (`StampOrder`): one alone is an outlier.

Each image takes the nearest scan within ``max_dt``. Pure Python, without messages and clocks.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
import threading
from typing import Generic, Literal, TypeVar

from marigold_ros.errors import InputError

Item = TypeVar('Item')

# A stamp this far behind the newest is no late message: a bag was started again, or a simulator.
CLOCK_JUMP_NS = 1_000_000_000
# A stamp may be so much farther ahead than time has passed: bags have gaps, or are played fast.
LEAP_NS = 60_000_000_000


def is_clock_jump(newest_ns: int | None, stamp_ns: int) -> bool:
    """Return whether a stamp is so far behind the newest that the clock has jumped back."""
    return newest_ns is not None and newest_ns - stamp_ns > CLOCK_JUMP_NS


def nearest(stamps: Sequence[int], stamp_ns: int, max_dt_ns: int) -> int | None:
    """
    Find the stamp nearest to another one, at most ``max_dt_ns`` away.

    Returns the index into ``stamps``, which may be in any order; of two at the same distance the
    earlier stamp. None if all are too far.
    """
    best = min(
        range(len(stamps)), key=lambda i: (abs(stamps[i] - stamp_ns), stamps[i]), default=None
    )
    if best is None or abs(stamps[best] - stamp_ns) > max_dt_ns:
        return None
    return best


@dataclass(frozen=True)
class Choice(Generic[Item]):
    """
    The scan for one image, with its stamp; None if no scan is near enough.

    It is ``final`` if a scan at or after the image is known, so waiting cannot improve the choice
    if scans arrive in order.
    """

    item: Item | None
    stamp_ns: int | None
    final: bool


def stamp_error(stamp_ns: int) -> InputError:
    """Return the error of a message that is refused for its stamp: out of order, or 0."""
    text = (
        f'the stamp {stamp_ns / 1e9:.3f} s is out of order: more than a second behind the newest '
        'one, far ahead, or also that of the image before; have the driver stamp each '
        'message, unless the clock was set back'
    )
    if stamp_ns == 0:  # a scan of any age would fit an image without a stamp
        text = (
            'the stamp is 0, and scans are paired with images by it: have the driver set '
            'header.stamp, also that of the images'
        )
    return InputError(text, cause='stamp')


class StampOrder:
    """
    Judges the stamps of several topics as they arrive: in order, a lone outlier, or a clock jump.

    The first stamp that is out of order is an outlier, to be refused; the next one that agrees
    with it, of any topic, proves that the clock has jumped, and all topics begin anew.
    """

    def __init__(self) -> None:
        # Newest stamp of each topic and when it was heard; after a gap also those before it.
        self._newest: dict[str, list[tuple[int, int]]] = {}
        self._suspects: dict[str, int] = {}

    def judge(self, topic: str, stamp_ns: int, heard_ns: int) -> Literal['good', 'lone', 'jump']:
        """
        Judge a stamp that was heard at a time of a steady clock, nanoseconds.

        A stamp is out of order if it is more than a second behind the topic's newest, or more than
        a minute farther ahead than time has passed. After a gap it may also follow what was before
        the gap: then the one after it was the outlier.
        """
        for newest, heard in self._newest.get(topic, [(stamp_ns, heard_ns)]):
            ahead = stamp_ns - newest
            if -CLOCK_JUMP_NS <= ahead <= LEAP_NS + heard_ns - heard:
                now = max(newest, stamp_ns), heard_ns
                self._newest[topic] = [now, (newest, heard)] if ahead > CLOCK_JUMP_NS else [now]
                self._suspects.pop(topic, None)
                return 'good'
        suspects = list(self._suspects.values())  # which another thread may clear
        if not any(-CLOCK_JUMP_NS <= stamp_ns - other <= LEAP_NS for other in suspects):
            self._suspects[topic] = stamp_ns
            return 'lone'
        self.clear()
        self._newest[topic] = [(stamp_ns, heard_ns)]
        return 'jump'

    def is_repeated(self, topic: str, stamp_ns: int) -> bool:
        """Return whether a stamp, if there is one, is that of the topic's newest message."""
        return 0 != stamp_ns == self._newest.get(topic, [(0, 0)])[0][0]

    def clear(self) -> None:
        """Forget all stamps."""
        self._newest.clear()
        self._suspects.clear()


class ScanBuffer(Generic[Item]):
    """
    The newest scans by stamp; safe to fill in one thread and query in another.

    ``max_dt_ns`` is the largest difference between an image and its scan. Scans older than the
    newest by ``horizon_ns`` are forgotten, unless they fit an image in work, or one that waits.
    """

    def __init__(self, max_dt_ns: int, horizon_ns: int) -> None:
        self._max_dt_ns = int(max_dt_ns)
        self._horizon_ns = int(horizon_ns)
        self._lock = threading.RLock()
        self._scans: dict[int, Item] = {}  # by stamp
        self._newest: int | None = None
        # Stamps of the last two images: one may be predicted while the other is finished.
        self._images: deque[int] = deque(maxlen=2)
        # Of the last two that came: one may be taken while the other takes its place to wait.
        self._expected: deque[int] = deque(maxlen=2)

    def __len__(self) -> int:
        return len(self._scans)

    def change(self, max_dt_ns: int, horizon_ns: int, later_ns: int) -> None:
        """Set other limits, and move the stamps of the scans that are there by ``later_ns``."""
        with self._lock:
            self._max_dt_ns, self._horizon_ns = int(max_dt_ns), int(horizon_ns)
            self._scans = {stamp + later_ns: item for stamp, item in self._scans.items()}
            self._newest = None if self._newest is None else self._newest + later_ns

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest scan, nanoseconds; None before the first."""
        return self._newest

    @property
    def period_ns(self) -> int | None:
        """The least time between the scans that are kept, nanoseconds; None of fewer than two."""
        with self._lock:
            stamps = sorted(self._scans)
        return min((after - before for before, after in pairwise(stamps)), default=None)

    def add(self, stamp_ns: int, item: Item) -> None:
        """
        Keep a scan; stamps may come in any order, and of equal ones the last scan stays.

        One far behind the newest shows that the clock jumped or that those before it are ahead of
        time, by less than `StampOrder` refuses: they are forgotten.
        """
        with self._lock:
            if stamp_ns not in self._scans and is_clock_jump(self._newest, stamp_ns):
                self.clear()
            self._scans[stamp_ns] = item
            self._newest = stamp_ns if self._newest is None else max(self._newest, stamp_ns)
            for stamp in [stamp for stamp in self._scans if not self._is_kept(stamp)]:
                del self._scans[stamp]

    def expect(self, image_ns: int) -> None:
        """Keep scans that are near enough to an image that waits to be taken."""
        with self._lock:
            self._expected.append(image_ns)

    def clear(self) -> None:
        """Forget all scans, as after a clock jump."""
        with self._lock:
            for kept in (self._scans, self._images, self._expected):
                kept.clear()
            self._newest = None

    def choose(self, stamp_ns: int) -> Choice[Item]:
        """
        Choose the scan for an image with that stamp, by the rule of ``nearest``.

        Scans that are near enough are kept until two other images have chosen, however long the
        model takes for this one.
        """
        with self._lock:
            if stamp_ns not in self._images:
                self._images.append(stamp_ns)
            final = self._newest is not None and self._newest >= stamp_ns
            stamps = list(self._scans)
            index = nearest(stamps, stamp_ns, self._max_dt_ns)
            if index is None:
                return Choice(None, None, final)
            stamp = stamps[index]
            return Choice(self._scans[stamp], stamp, final)

    def _is_kept(self, stamp_ns: int) -> bool:
        newest = stamp_ns if self._newest is None else self._newest
        return newest - stamp_ns <= self._horizon_ns or any(
            abs(stamp_ns - image_ns) <= self._max_dt_ns
            for image_ns in (*self._images, *self._expected)
        )
