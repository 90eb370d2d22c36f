# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The ways in which messages are corrupted on real robots, and how the node must count them.

Each corrupts a sound message in place; its counter must then go up by one.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass
import struct
from typing import Any

import numpy as np

_MANY = 2**32 - 1  # the largest number in a header
Corrupt = Callable[[Any, np.random.Generator], None]


@dataclass(frozen=True)
class Fault:
    """
    One way to corrupt a message.

    ``role`` is the input (image, compressed, info, scan), ``counter`` the key that must go up by
    one, ``served`` whether the image is processed all the same, with relative depth only.
    """

    name: str
    role: str
    counter: str
    corrupt: Corrupt
    served: bool = True


def _set(**values: Any) -> Corrupt:
    """Set fields by name."""

    def corrupt(message: Any, _rng: np.random.Generator) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return corrupt


def _cut(message: Any, rng: np.random.Generator) -> None:
    """Cut off at least the last tenth of the data; the beginning still shows the format."""
    keep = int(rng.integers(8, len(message.data) * 9 // 10))
    message.data = message.data[:keep]


def _empty(message: Any, _rng: np.random.Generator) -> None:
    message.data = array.array('B')


def _noise(message: Any, rng: np.random.Generator) -> None:
    """Replace a compressed image by noise."""
    message.data = array.array('B', b'\x00' + rng.bytes(500))


def _jpeg_bomb(message: Any, _rng: np.random.Generator) -> None:
    """Write 65535x65535 px into the frame header (SOF0) of a JPEG."""
    data = bytearray(message.data)
    place = data.index(b'\xff\xc0') + 5
    data[place : place + 4] = struct.pack('>HH', 65535, 65535)
    message.data = array.array('B', bytes(data))


def _png_bomb(message: Any, _rng: np.random.Generator) -> None:
    """Replace the image by a PNG whose header says 60000x60000 px."""
    header = struct.pack('>II5B', 60000, 60000, 8, 2, 0, 0, 0)
    start = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + b'IHDR' + header
    end = struct.pack('>I', 0) + b'IEND\xae\x42\x60\x82'
    message.data = array.array('B', start + bytes(4) + bytes(100) + end)


def _floats(value: float) -> Corrupt:
    """Set all coordinates of a cloud."""

    def corrupt(message: Any, _rng: np.random.Generator) -> None:
        count = len(message.data) // 4
        message.data = array.array('B', np.full(count, value, '<f4').tobytes())

    return corrupt


def _behind(message: Any, _rng: np.random.Generator) -> None:
    """Rotate a cloud about the vertical, so that all points lie behind the camera."""
    points = np.frombuffer(bytes(message.data), '<f4').reshape(-1, 3)
    points = points * np.array([-1, -1, 1], '<f4')
    message.data = array.array('B', points.tobytes())


def _rename(message: Any, rng: np.random.Generator) -> None:
    message.fields[int(rng.integers(3))].name = 'intensity'


def _beyond(message: Any, rng: np.random.Generator) -> None:
    message.fields[int(rng.integers(3))].offset = int(message.point_step)


def _datatype(message: Any, rng: np.random.Generator) -> None:
    message.fields[int(rng.integers(3))].datatype = 99


def _rows(message: Any, _rng: np.random.Generator) -> None:
    """Claim four billion rows, with a consistent step."""
    message.height, message.row_step = _MANY, message.width * message.point_step


def _later(seconds: int) -> Corrupt:
    def corrupt(message: Any, _rng: np.random.Generator) -> None:
        message.header.stamp.sec += seconds

    return corrupt


def _at(seconds: int) -> Corrupt:
    def corrupt(message: Any, _rng: np.random.Generator) -> None:
        message.header.stamp.sec, message.header.stamp.nanosec = seconds, 0

    return corrupt


def _image(name: str, cause: str, corrupt: Corrupt, role: str = 'image') -> Fault:
    return Fault(name, role, f'frames.rejected.{cause}', corrupt, served=False)


def _info(name: str, **values: Any) -> Fault:
    return Fault(name, 'info', 'infos.rejected.calibration', _set(**values))


def _scan(name: str, cause: str, corrupt: Corrupt) -> Fault:
    return Fault(name, 'scan', f'scans.rejected.{cause}', corrupt)


_NAN = float('nan')
FAULTS = (
    _image('unknown encoding', 'encoding', _set(encoding='rgb17')),
    _image('depth as image', 'encoding', _set(encoding='32FC1')),
    _image('image cut short', 'truncated', _cut),
    _image('image without data', 'truncated', _empty),
    _image('step below a row', 'step', _set(step=10)),
    _image('step of 4 billion', 'truncated', _set(step=_MANY)),
    _image('no rows', 'size', _set(height=0)),
    _image('4 billion rows', 'size', _set(height=_MANY)),
    _image('4 billion columns', 'size', _set(width=_MANY)),
    _image('stamp zero', 'stamp', _at(0)),
    _image('stamp before 1970', 'stamp', _at(-5)),
    _image('stamp far ahead', 'stamp', _at(2_000_000_000)),
    _image('jpeg cut short', 'truncated', _cut, 'compressed'),
    _image('jpeg without data', 'empty', _empty, 'compressed'),
    _image('noise as jpeg', 'unreadable', _noise, 'compressed'),
    _image('jpeg bomb', 'size', _jpeg_bomb, 'compressed'),
    _image('png bomb', 'size', _png_bomb, 'compressed'),
    _image(
        'compressed depth as image',
        'encoding',
        _set(format='16UC1; compressedDepth png'),
        'compressed',
    ),
    _info('camera not calibrated', k=[0.0] * 9),
    _info('K is NaN', k=[_NAN] * 9, p=[_NAN] * 12),
    _info(
        'negative focal length',
        k=[-60.0, 0.0, 32.0, 0.0, -60.0, 24.0, 0.0, 0.0, 1.0],
        p=[0.0] * 12,
    ),
    _info('camera_info of another size', width=20, height=10),
    _info('camera_info without size', width=0, height=0),
    _info('unknown distortion', distortion_model='barrel', d=[0.1] * 5),
    _info('distortion is infinite', d=[float('inf')] * 5),
    _scan('cloud without coordinates', 'fields', _rename),
    _scan('field outside its point', 'fields', _beyond),
    _scan('unknown number type', 'fields', _datatype),
    _scan('cloud cut short', 'truncated', _cut),
    _scan('cloud of 4 billion rows', 'truncated', _rows),
    _scan('points of 4 billion bytes', 'step', _set(point_step=_MANY)),
    _scan('cloud of NaN', 'empty', _floats(_NAN)),
    _scan('cloud of infinity', 'empty', _floats(float('inf'))),
    _scan('cloud without points', 'empty', _set(width=0, data=array.array('B'))),
    Fault('all points behind the camera', 'scan', 'fits.none', _behind),
    Fault('points at 1e30 m', 'scan', 'fits.none', _floats(1e30)),
    Fault('scan 37 s ahead', 'scan', 'pairs.without_scan', _later(37)),
)
