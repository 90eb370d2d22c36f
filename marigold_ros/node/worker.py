# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
A worker thread behind a mailbox for one image: the newest wins, nothing queues.

Decision: inference runs beside the executor, not in a callback, so that parameters, services and
diagnostics answer meanwhile. A queue would only make depth older.
"""

from collections.abc import Callable
import threading
import time
from typing import Any


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
    A thread that processes the newest item with ``serve``, which must not raise.

    ``shortest_period`` returns the least number of seconds between two items.
    """

    def __init__(self, serve: Callable[[Any], None], shortest_period: Callable[[], float]) -> None:
        self._serve = serve
        self._shortest_period = shortest_period
        self.mailbox = Mailbox()
        self._thread = threading.Thread(target=self._run, name='frames', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = float('-inf')
        while True:
            item = self.mailbox.take(lambda: started + self._shortest_period())  # noqa: B023
            if item is None:
                return
            started = time.monotonic()
            self._serve(item)

    def close(self, timeout: float | None) -> Any:
        """Stop after the item in work; returns the item that waited, else None."""
        waiting = self.mailbox.close()
        self._thread.join(timeout)
        return waiting

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()
