# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Which messages of a bag are decoded: those whose size bounds the work of their decoder.

Decision: a bag defines its types itself, and decoders made for such definitions can take any time
and memory (an array of 200 million texts, of messages without content). So types of ROS must be
defined as ROS does, and others must not be able to unfold.
"""

from functools import cache
import math
import struct
from typing import Any

from marigold_ros.bags.guarded import MOST_UNPACKED
from rosbags.interfaces import Nodetype
from rosbags.typesys import get_typestore, Stores

_SEVERAL = (Nodetype.ARRAY, Nodetype.SEQUENCE)
_CLOUD = 'sensor_msgs/msg/PointCloud2'
_LARGE = {_CLOUD, *(f'sensor_msgs/msg/{name}' for name in ('Image', 'CompressedImage'))}
_MOST_SMALL = 1 << 23  # bytes of other messages; each can become an object of Python
_MOST_PARTS = 100_000  # of a type that is not of ROS; numbers in fixed arrays count too
_MOST_FIELDS = 1000  # of a cloud


@cache
def _types_of_ros(is2: bool) -> dict[str, Any]:
    types = dict(get_typestore(Stores.ROS2_HUMBLE).fielddefs)
    return types if is2 else types | get_typestore(Stores.ROS1_NOETIC).fielddefs


def why_not_defined(msgtype: str, types: Any, is2: bool) -> str:
    """Return why messages of a type of a bag are not decoded; empty where they are."""
    known, pending, seen = _types_of_ros(is2), [msgtype], set()
    if msgtype not in known:
        try:
            unfolded = _unfolded(msgtype, types.fielddefs)[1]
        except (KeyError, RecursionError):
            return 'its definition is incomplete, or contains itself'
        return '' if unfolded <= _MOST_PARTS else 'its definition unfolds to too many parts'
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        true = known[name][1]
        if name not in types.fielddefs or _plain(types.fielddefs[name][1]) != _plain(true):
            return f'the bag defines {name} otherwise than ROS does'
        pending += [inner for _, field in true if (inner := _inner(field))]
    return ''


def _unfolded(msgtype: str, types: Any) -> tuple[int, float]:
    """Return the least bytes of a message, and the parts that it has before any sequence."""
    least, parts = 0, 1.0
    for _, (kind, detail) in types[msgtype][1]:
        (inner, name), count = detail if kind in _SEVERAL else ((kind, detail), 1)
        size, unfolded = _unfolded(name, types) if inner == Nodetype.NAME else (1, 1.0)
        if kind == Nodetype.SEQUENCE:
            least += 4
            parts += unfolded if size else math.inf  # from no bytes, any number of them
        else:
            least += size * count
            parts += unfolded * count
        if parts > _MOST_PARTS:
            return least, math.inf
    return least, parts


def _plain(fields: Any) -> list[Any]:
    """Return fields with names as both ROS 1 and 2 can write them: matrices of CameraInfo."""
    return [(name.lower() if name in 'DKRP' else name, kind) for name, kind in fields]


def _inner(field: Any) -> str:
    """Return the message type that a field holds, if any."""
    kind, detail = field
    if kind in _SEVERAL:
        kind, detail = detail[0]
    return str(detail) if kind == Nodetype.NAME else ''


def why_too_large(msgtype: str, data: bytes, is2: bool) -> str:
    """Return why a message of a type of ROS is not decoded; empty where it is."""
    most = MOST_UNPACKED if msgtype in _LARGE else _MOST_SMALL
    if len(data) > most:
        return f'at most {most / 1e6:.0f} MB are read'
    if msgtype != _CLOUD:
        return ''
    try:
        count = _cloud_fields(data, is2)
    except (struct.error, IndexError):  # cut short, as the decoder will say
        return ''
    return f'it has {count} fields, above {_MOST_FIELDS}' if count > _MOST_FIELDS else ''


def _cloud_fields(data: bytes, is2: bool) -> int:
    """Read the number of fields of a serialised cloud."""
    order = '<' if not is2 or data[1] else '>'
    frame_id = 12  # after encapsulation and stamp, or after seq and stamp
    at = frame_id + 4 + int(struct.unpack_from(f'{order}I', data, frame_id)[0])
    at += -at % 4 if is2 else 0
    return int(struct.unpack_from(f'{order}I', data, at + 8)[0])
