# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The log of the server: what strangers cause is shown without control characters, and rarely."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from time import monotonic

from marigold_ros.errors import escape_controls, shown

MOST_RECORDS, PERIOD_S = 20, 60.0


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
