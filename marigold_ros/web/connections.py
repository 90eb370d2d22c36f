# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Connections that ask for nothing are closed: uvicorn waits for the head of a request for ever.

Before its token was seen, a connection gets one answer at most and is closed; so these two rules
keep strangers from holding the server's connections.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 5.0  # until the head of the first request is complete
# Files that a process may have open are often 1024; asyncio accepts a batch before it sees one.
MOST_OPEN, ACCEPTED_AT_ONCE = 256, 100


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
