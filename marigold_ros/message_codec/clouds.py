# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Decode ``PointCloud2`` and ``LaserScan`` to arrays, and encode records as a ``PointCloud2``.

Decision: a cloud is read through a structured NumPy view that follows the message's own
``fields``, ``point_step`` and ``row_step``, because layouts differ between drivers (16, 22, 26,
32 bytes a point, rgb at 12 or 16). Colours are packed into the field rgb before encoding, by
`marigold_ros.geometry.cloud.organised`; here they are float32 like any other field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marigold_ros.errors import InputError
from marigold_ros.message_codec.buffers import as_bytes, check_rows
import numpy as np

# sensor_msgs/PointField: INT8 = 1 ... FLOAT64 = 8.
_NUMPY_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}
_DATATYPES = {name: number for number, name in _NUMPY_TYPES.items()}

# Points of one range, to rounding, and how many, or what share, may be at the largest one: of real
# scans one or two are.
_ONE_RANGE, _FARTHEST = 1e-5, (20, 0.01)
_NEAREST = 0.5  # of the largest range: some point is nearer, unless the origin is no LiDAR
_MAX_POINT_STEP = 1 << 16  # bytes; drivers use 12 to 128, and NumPy's records end at 2**31


@dataclass(frozen=True)
class CloudFields:
    """The fields of a ``PointCloud2`` without header; ``fields`` in the order of PointField."""

    height: int
    width: int
    fields: list[tuple[str, int, int, int]]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: np.ndarray
    is_dense: bool


def has_field(message: Any, name: str) -> bool:
    """Return whether a PointCloud2 has a field of that name, such as 'ring'."""
    return any(field.name == name for field in message.fields)


def row_step(message: Any) -> int:
    """
    Return the bytes from row to row of a PointCloud2.

    Without padding there is one layout, whatever ``row_step`` says: many drivers write 0 or the
    size of all rows, as PointCloud2Modifier does (common_interfaces #320).
    """
    height, row_bytes = int(message.height), int(message.width) * int(message.point_step)
    if height == 1 or len(as_bytes(message.data, 'cloud')) == height * row_bytes:
        return row_bytes
    return int(message.row_step)


def to_organised(message: Any, fields: Sequence[str] = ('x', 'y', 'z')) -> np.ndarray:
    """
    Decode fields of a cloud as an image of points, invalid ones included.

    Parameters
    ----------
    message : PointCloud2
        Any field order, any numeric type, any padding, either byte order.
    fields : sequence of str
        Names to decode; of a field with several values the first counts.

    Returns
    -------
    (H, W, len(fields)) float32
        H is 1 for an unorganised cloud; NaN stays NaN.

    Raises
    ------
    InputError
        Cause 'fields' for a missing field or one outside its point, 'step' or 'truncated' for a
        layout that does not fit the data.

    """
    points = _structured(message, fields)
    columns = np.empty((*points.shape, len(fields)), np.float32)
    with np.errstate(over='ignore', invalid='ignore'):  # FLOAT64 beyond float32 becomes Inf
        for index, name in enumerate(fields):
            columns[..., index] = points[name]
    return columns


def to_points(message: Any, fields: Sequence[str] = ('x', 'y', 'z')) -> np.ndarray:
    """
    Decode the valid points of a cloud.

    Parameters
    ----------
    message : PointCloud2
        As for ``to_organised``.
    fields : sequence of str
        Names to decode; a point is dropped where any of them is NaN or infinite.

    Returns
    -------
    (N, len(fields)) float32
        In the cloud's order.

    Raises
    ------
    InputError
        As ``to_organised``; cause 'empty' where no point is valid.

    """
    points = to_organised(message, fields).reshape(-1, len(fields))
    valid = np.isfinite(points).all(axis=1)
    if not valid.any():
        raise InputError(
            f'cloud has {len(points)} points, none with finite {", ".join(fields)}; '
            'check the sensor and its filters',
            'empty',
        )
    return points if valid.all() else points[valid]


def returned(points: np.ndarray) -> np.ndarray:
    """
    Return a mask (N,) of the points (N, 3) of a LiDAR that are returns of a ray.

    Some drivers and simulators write rays without a return at the sensor's largest range. In a
    frame far from the sensor, as 'odom' may be, there is no such range, and all are returns.
    """
    with np.errstate(over='ignore'):
        distance = np.linalg.norm(points, axis=1)
    farthest = distance > (1.0 - _ONE_RANGE) * distance.max(initial=0.0)
    few = np.count_nonzero(farthest) <= max(_FARTHEST[0], _FARTHEST[1] * len(points))
    nearer = distance[~farthest & (distance > 0)]
    is_far = nearer.size > 0 and nearer.min() > _NEAREST * distance.max()
    return np.ones_like(farthest) if few or is_far else ~farthest


def scan_to_points(laser_scan: Any) -> np.ndarray:
    """
    Decode a planar scan as points.

    Parameters
    ----------
    laser_scan : LaserScan
        NaN, infinite ranges (REP 117) and those outside [range_min, range_max) are dropped.

    Returns
    -------
    (N, 3) float32, metres
        In the scan's frame, z = 0.

    Raises
    ------
    InputError
        Cause 'shape' for angles that are not finite, 'empty' where no range is valid.

    """
    ranges = np.asarray(laser_scan.ranges, np.float64).reshape(-1)
    start, increment = float(laser_scan.angle_min), float(laser_scan.angle_increment)
    if not (np.isfinite(start) and np.isfinite(increment)):
        raise InputError(
            f'scan has angle_min {start} and angle_increment {increment}; both must be finite; '
            'check the driver',
            'shape',
        )
    low, high = float(laser_scan.range_min), float(laser_scan.range_max)
    # Some drivers write range_max for no return; laser_geometry drops it, too.
    valid = np.isfinite(ranges) & (ranges >= low) & (ranges < high)
    if not valid.any():
        raise InputError(
            f'scan has {len(ranges)} ranges, none within [{low:g}, {high:g}] m; '
            'check the sensor and its limits',
            'empty',
        )
    angles = start + increment * np.flatnonzero(valid)
    ranges = ranges[valid]
    points = [ranges * np.cos(angles), ranges * np.sin(angles), np.zeros_like(ranges)]
    return np.stack(points, axis=1).astype(np.float32)


def encode_cloud(structured: np.ndarray) -> CloudFields:
    """
    Encode a structured array as an organised cloud.

    Parameters
    ----------
    structured : (H, W) structured
        Records of single numbers, as x y z rgb [sigma] in float32 from
        `marigold_ros.geometry.organise_cloud`, where rgb is a packed 0x00rrggbb viewed as
        float32. Padding is kept. Invalid points are NaN.

    Returns
    -------
    CloudFields
        Little endian; ``data`` is a view of ``structured`` where that is contiguous. ``is_dense``
        is False: points may be NaN.

    Raises
    ------
    InputError
        Cause 'shape' for another array, 'fields' for a field that PointField cannot describe.

    """
    names = structured.dtype.names
    if structured.ndim != 2 or not names:
        raise InputError(
            f'cloud got an array {structured.shape} of {structured.dtype}; '
            'give a structured array (H, W)',
            'shape',
        )
    fields = []
    described: Mapping[str, Any] = structured.dtype.fields or {}
    for name in names:
        dtype, offset = described[name][:2]
        kind = dtype.str[1:]
        if kind not in _DATATYPES or dtype.newbyteorder('<') != dtype:
            raise InputError(
                f'cloud field {name!r} is {dtype}; give one little-endian number of '
                f'{", ".join(_DATATYPES)}',
                'fields',
            )
        fields.append((name, offset, _DATATYPES[kind], 1))
    height, width = structured.shape
    point_step = structured.dtype.itemsize
    data = np.ascontiguousarray(structured).reshape(-1).view(np.uint8)
    return CloudFields(
        height, width, fields, False, point_step, width * point_step, data, is_dense=False
    )


def _structured(message: Any, names: Sequence[str]) -> np.ndarray:
    """View the cloud as (H, W) records with the named fields."""
    point_step = int(message.point_step)
    if point_step > _MAX_POINT_STEP:
        raise InputError(
            f'cloud has points of {point_step} bytes, above {_MAX_POINT_STEP}; '
            'check point_step in the driver',
            'step',
        )
    height, width = int(message.height), int(message.width)
    if height == 0 or width == 0:
        return np.empty((0, 0), [(name, 'f4') for name in names])
    dtype = _dtype(message, names, point_step)
    data, step = as_bytes(message.data, 'cloud'), row_step(message)
    check_rows(height, width * point_step, step, len(data), f'{width}x{height} cloud')
    return np.ndarray((height, width), dtype, data, strides=(step, point_step))


def _dtype(message: Any, names: Sequence[str], point_step: int) -> np.dtype:
    """Return the record type of one point, reduced to the named fields."""
    present = {field.name: field for field in reversed(message.fields)}  # the first of a name
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(
            f'cloud has no field {", ".join(missing)}; it has '
            f'{", ".join(list(present)[:40]) or "none"}: choose another cloud topic',
            'fields',
        )
    formats, offsets = [], []
    for name in names:
        field = present[name]
        datatype, offset, count = int(field.datatype), int(field.offset), int(field.count)
        if datatype not in _NUMPY_TYPES:
            raise InputError(
                f'cloud field {name!r} has datatype {datatype}; sensor_msgs/PointField knows 1 to '
                '8: check the driver',
                'fields',
            )
        number = np.dtype(('>' if message.is_bigendian else '<') + _NUMPY_TYPES[datatype])
        count = max(count, 1)  # some drivers leave 0 for a single number
        if offset < 0 or offset + number.itemsize * count > point_step:
            raise InputError(
                f'cloud field {name!r} spans bytes {offset} to '
                f'{offset + number.itemsize * count} of a point of {point_step} bytes; '
                'check point_step and offsets in the driver',
                'fields',
            )
        formats.append(number)
        offsets.append(offset)
    return np.dtype(
        {'names': list(names), 'formats': formats, 'offsets': offsets, 'itemsize': point_step}
    )
