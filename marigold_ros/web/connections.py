# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
What strangers may do to the server: hold few connections, for a short time, and log little.

Connections that ask for nothing are closed: uvicorn waits for the head of a request for ever.
Before its token was seen, a connection gets one answer at most and is closed; so these two rules
keep strangers from holding the server's connections.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
import logging
from time import monotonic

from marigold_ros.errors import escape_controls, shown
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 5.0  # until the head of the first request is complete
# Files that a process may have open are often 1024; asyncio accepts a batch before it sees one.
MOST_OPEN, ACCEPTED_AT_ONCE = 256, 100
MOST_RECORDS, PERIOD_S = 20, 60.0  # of the log


class Connection(H11Protocol):
    """A connection whose first request comes soon; the oldest without one makes room."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time, and close the oldest silent connection if there are too many."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_S, self._close_if_silent)
        if len(self.connections) > MOST_OPEN:
            own = [other for other in self.connections if isinstance(other, Connection)]
            silent = [other for other in own if other.scope is None]
            min(silent, key=lambda other: other._deadline.when())._close_if_silent()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the time."""
        self._deadline.cancel()
        super().connection_lost(error)

    def _close_if_silent(self) -> None:
        if self.scope is None:  # set with the head of the first request
            self.connections.discard(self)
            self.transport.abort()


class Limit(logging.Filter):
    """Makes each message one line and limits their number; the next period reports the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._seen = monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        text, left_out = shown(record.getMessage()), self._seen - MOST_RECORDS
        if monotonic() - self._began > PERIOD_S:
            text += f' ({left_out} left out before)' * (left_out > 0)
            self._began, self._seen = monotonic(), 0
        self._seen += 1
        record.msg, record.args = text, ()
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            record.exc_text = escape_controls(trace, kept='\n')
        return self._seen <= MOST_RECORDS


@contextmanager
def limited_logs() -> Iterator[None]:
    """Write warnings and errors of all libraries on stderr, limited."""
    handler = logging.StreamHandler()
    handler.addFilter(Limit())
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
