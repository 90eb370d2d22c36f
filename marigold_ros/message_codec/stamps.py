# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Header stamps, of decoded and of serialised messages."""

import struct
from typing import Any

_NANOSECONDS = 1_000_000_000
# Four bytes of encapsulation, of which the second is the byte order; then header.stamp.
_STAMP = {0: '>iI', 1: '<iI'}
_HEAD_BYTES = 12


def header_ns(message: Any) -> int:
    """Return the stamp of a message's header, nanoseconds."""
    stamp = message.header.stamp
    return int(stamp.sec * _NANOSECONDS + stamp.nanosec)


def serialised_header_ns(data: bytes | memoryview) -> int | None:
    """Read the header stamp, nanoseconds, of a CDR message that begins with one; else None."""
    if len(data) < _HEAD_BYTES or data[0] != 0 or data[1] not in _STAMP:
        return None
    seconds, nanoseconds = struct.unpack_from(_STAMP[data[1]], data, 4)
    return int(seconds) * _NANOSECONDS + int(nanoseconds)
