# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Which warnings of the diagnostics the console shows; without ROS."""

from collections.abc import Mapping
import re

# Seconds between two lines about a warning that lasts or comes back.
_PERIOD = 30.0
_NUMBERS = re.compile(r'\d[\d.]*')


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
        lines, ends = [], []
        for part, text in warnings.items():
            kind = (part, _NUMBERS.sub('', text))
            if now - self._logged.get(kind, float('-inf')) >= _PERIOD:
                self._logged[kind] = now
                self._open[part] = text
                lines.append(f'{part}: {text}')
        for part in [part for part in self._open if part not in warnings]:
            ends.append(f'{part}: over: {self._open.pop(part)}')
        return lines, ends
