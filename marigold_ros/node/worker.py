# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Threads behind a mailbox for one image: the newest wins, nothing queues.

Decision: inference runs beside the executor, not in a callback, so that parameters, services and
diagnostics answer meanwhile. A queue would only make depth older.
"""

from collections import deque
from collections.abc import Callable
from statistics import median
import threading
import time
from typing import Any

# Items whose median duration is taken for that of the next.
_LAST = 9
# Predictions shorter than this part of the second step do not overlap with it.
_SHORT = 0.25


class Mailbox:
    """A slot for one item between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Any = None
        self._closed = False

    def put(self, item: Any) -> Any:
        """Put an item; returns the item that it replaces, or the item itself once closed."""
        with self._changed:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._changed.notify()
            return replaced

    def take(self, not_before: Callable[[], float] = lambda: 0.0) -> Any:
        """
        Wait for an item and until ``not_before`` (monotonic seconds); None once closed.

        Each item that is put has that time read again.
        """
        with self._changed:
            while not self._closed:
                early = not_before() - time.monotonic()
                if self._item is not None and early <= 0:
                    item, self._item = self._item, None
                    return item
                self._changed.wait(early if self._item is not None else None)
            return None

    def close(self) -> Any:
        """End all waiting; returns the item that was not taken, else None."""
        with self._changed:
            self._closed = True
            item, self._item = self._item, None
            self._changed.notify_all()
            return item


class Worker:
    """
    Two threads that process the newest item in two steps: one predicts while the other finishes.

    What ``predict(item, alone)`` returns goes to ``finish``, in the same order, unless it is None;
    neither may raise. ``alone()`` waits until the item before is finished; where ``overlaps``
    returns False, every item does, and the first thread finishes it too. ``shortest_period``
    returns the least number of seconds between two items.

    Decision: an item is taken so that its prediction ends when the one before is finished, by the
    last durations: earlier it would wait between its steps, and a newer one could have come. Short
    predictions do not overlap: that makes depth 10 % older and gains nothing.
    """

    def __init__(
        self,
        predict: Callable[[Any, Callable[[], object]], Any],
        finish: Callable[[Any], None],
        shortest_period: Callable[[], float],
        overlaps: Callable[[], bool] = lambda: True,
    ) -> None:
        self._predict, self._finish, self._overlaps = predict, finish, overlaps
        self._shortest_period = shortest_period
        self.mailbox, self._predicted = Mailbox(), Mailbox()
        self._finished = threading.Event()  # no item is in its second step
        self._finished.set()
        self._begun = self._finish_begun = float('-inf')
        self._predict_s, self._finish_s = deque([0.0], _LAST), deque([0.0], _LAST)
        works = {'frames': self._predict_all, 'finish': self._finish_all}
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True) for name, work in works.items()
        ]
        for thread in self._threads:
            thread.start()

    def _predict_all(self) -> None:
        while self._predict_next():
            pass
        self._finished.wait()
        self._predicted.close()

    def _predict_next(self) -> bool:
        """Process an item up to its second step, or whole; returns False after the last."""
        beside = self._overlaps() and median(self._predict_s) >= _SHORT * median(self._finish_s)
        if not beside:
            self._finished.wait()
        item = self.mailbox.take(lambda: self._due(beside))
        if item is None:
            return False
        self._begun = time.monotonic()
        predicted = self._predict(item, self._finished.wait)
        if predicted is None:
            return True
        self._predict_s.append(time.monotonic() - self._begun)
        self._finished.wait()
        self._finished.clear()
        self._finish_begun = time.monotonic()
        if beside:
            self._predicted.put(predicted)
        else:
            self._finish_one(predicted)
        return True

    def _finish_all(self) -> None:
        while (predicted := self._predicted.take()) is not None:
            self._finish_one(predicted)

    def _finish_one(self, predicted: Any) -> None:
        self._finish(predicted)
        self._finish_s.append(time.monotonic() - self._finish_begun)
        self._finished.set()

    def _due(self, beside: bool) -> float:
        """When to take the next item, monotonic seconds."""
        due = self._begun + self._shortest_period()
        if beside and not self._finished.is_set():
            due = max(due, self._finish_begun + median(self._finish_s) - median(self._predict_s))
        return due

    def close(self, timeout: float | None) -> Any:
        """Stop after the items in work; returns the item that waited, else None."""
        waiting = self.mailbox.close()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return waiting

    @property
    def alive(self) -> bool:
        """Whether an item is in work, or may be taken."""
        return any(thread.is_alive() for thread in self._threads)
