# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""View the bytes of a message as arrays, with checked bounds, and read the stamp of its header."""

import struct
from typing import Any

from marigold_ros.errors import InputError
import numpy as np

# OpenCV's remap addresses pixels with signed 16-bit integers; no camera comes near it.
MAX_SIDE_PX = 32767
_NANOSECONDS = 1_000_000_000
# Four bytes of encapsulation, of which the second is the byte order; then header.stamp.
_STAMP = {0: '>iI', 1: '<iI'}
_HEAD_BYTES = 12


def as_bytes(data: Any, what: str = 'message') -> np.ndarray:
    """
    View the ``data`` of a message of rclpy, of rosbags, or of neither as (n,) uint8.

    Raises InputError (cause 'unreadable') where the object has no contiguous buffer.
    """
    try:
        view = memoryview(data).cast('B')
    except (TypeError, ValueError) as error:
        raise InputError(
            f'{what}.data is {type(data).__name__}, which is no contiguous byte buffer; '
            'give bytes, array.array or a uint8 array',
            'unreadable',
        ) from error
    return np.frombuffer(view, np.uint8) if len(view) else np.empty(0, np.uint8)


def check_size(height: int, width: int, what: str = 'image') -> None:
    """Raise InputError (cause 'size') unless both sides are in [1, ``MAX_SIDE_PX``]."""
    if 0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX:
        return
    raise InputError(
        f'{what} is {width}x{height} px; sides must be in [1, {MAX_SIDE_PX}]; '
        'check what the driver writes into width and height',
        'size',
    )


def check_rows(rows: int, row_bytes: int, step: int, length: int, what: str) -> None:
    """
    Check that ``rows`` rows of ``row_bytes`` bytes, ``step`` apart, lie in ``length`` bytes.

    The last row needs no padding: some drivers leave it out. Raises InputError: cause 'step'
    where rows would overlap, 'truncated' where bytes are missing.
    """
    if step < row_bytes:
        raise InputError(
            f'{what} has step {step}, but a row needs {row_bytes} bytes; '
            'check step, width and encoding in the driver',
            'step',
        )
    needed = (rows - 1) * step + row_bytes
    if length < needed:
        raise InputError(
            f'{what} has {length} bytes of data, but {rows} rows with step {step} need {needed}; '
            'the message is cut short: check the driver or the recording',
            'truncated',
        )


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
