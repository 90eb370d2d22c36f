# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The log of the server: what strangers cause is shown without control characters, and rarely."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from time import monotonic

from marigold_ros.errors import shown

MOST_RECORDS, PERIOD_S = 20, 60.0


class Limit(logging.Filter):
    """Lets so many records of a period pass; the first of the next one says how many did not."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._seen = monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        now = monotonic()
        if now - self._began > PERIOD_S:
            left_out = self._seen - MOST_RECORDS
            if left_out > 0:
                record.msg, record.args = f'{record.getMessage()} ({left_out} left out before)', ()
            self._began, self._seen = now, 0
        self._seen += 1
        return self._seen <= MOST_RECORDS


class Plain(logging.Formatter):
    """Shows each line of message and traceback without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        return '\n'.join(shown(line) for line in super().format(record).split('\n'))


@contextmanager
def limited_logs() -> Iterator[None]:
    """Write warnings and errors of all libraries on stderr, limited."""
    handler = logging.StreamHandler()
    handler.addFilter(Limit())
    handler.setFormatter(Plain())
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
